"""Releases, and what else the tenant's keys have signed for devices."""

from __future__ import annotations

from dataclasses import replace

from genome_server.store.connection import Connections, Row
from genome_server.store.rows import DEFAULT_CHANNEL, ReleaseRow

_RELEASE = "version, channel, created_ms, expires_ms, manifest, schema_epoch, share, withdrawn"
# Of each channel the newest release for all of its devices, and the newer ones for a share. This is
# looked at several times a second: by the index on channel and version, from the newest downwards,
# so that it does not matter how many releases there were before.
_NEWEST = """
    channel = {channel} AND withdrawn = 0 AND version >= coalesce(
        (SELECT max(whole.version) FROM releases AS whole
         WHERE whole.channel = {channel} AND whole.withdrawn = 0 AND whole.share >= 1), 0)
"""
_IN_FORCE = f"""
    WITH RECURSIVE channels (name) AS (
        SELECT min(channel) FROM releases UNION ALL
        SELECT (SELECT min(channel) FROM releases WHERE channel > name) FROM channels
        WHERE name IS NOT NULL)
    SELECT {_RELEASE} FROM channels CROSS JOIN releases
    WHERE {_NEWEST.format(channel="name")} ORDER BY version DESC
"""


class Releases(Connections):
    """The room of a store that knows releases."""

    def put_release(self, release: ReleaseRow) -> None:
        """Keep a published release."""
        self.run(
            f"INSERT INTO releases ({_RELEASE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                release.version,
                release.channel,
                release.created_ms,
                release.expires_ms,
                release.manifest,
                release.schema_epoch,
                release.share,
                int(release.withdrawn),
            ],
        )

    def set_release_share(self, version: int, share: float) -> None:
        """Give a release to this share (0 … 1] of its channel's devices from now on."""
        self.run("UPDATE releases SET share = ? WHERE version = ?", [share, version])

    def withdraw_release(self, version: int) -> None:
        """Give a release to nobody any more."""
        self.run("UPDATE releases SET withdrawn = 1 WHERE version = ?", [version])

    def release(
        self, version: int | None = None, channel: str = DEFAULT_CHANNEL
    ) -> ReleaseRow | None:
        """A release by version, or the newest of a channel that is not withdrawn, or None."""
        if version is not None:
            row = self.one(f"SELECT {_RELEASE} FROM releases WHERE version = ?", [version])
        else:
            row = self.one(
                f"SELECT {_RELEASE} FROM releases WHERE channel = ? AND withdrawn = 0 "
                "ORDER BY version DESC LIMIT 1",
                [channel],
            )
        return None if row is None else _release(row)

    def release_for(self, device_id: str, channel: str = DEFAULT_CHANNEL) -> ReleaseRow | None:
        """The release that a device is to have: the newest of its channel whose share covers it.

        Where the channel has none for it, the same of the channel "stable".
        """
        for name in dict.fromkeys((channel, DEFAULT_CHANNEL)):
            query = f"SELECT {_RELEASE} FROM releases WHERE {_NEWEST.format(channel='?1')}"
            for row in self.all(f"{query} ORDER BY version DESC", [name]):
                release = _release(row)
                if release.covers(device_id):
                    return release
        return None

    def releases_in_force(self) -> list[ReleaseRow]:
        """Every release that some device may be given now, newest first."""
        return [_release(row) for row in self.all(_IN_FORCE)]

    def releases(self) -> list[ReleaseRow]:
        """All releases, newest first."""
        rows = self.all(f"SELECT {_RELEASE} FROM releases ORDER BY version DESC")
        return [_release(row) for row in rows]

    def put_trusted(self, kind: str, version: int, signed: bytes, *, alone: bool = False) -> None:
        """Keep a signed message of a kind; `alone`: in place of the older ones of its kind."""
        with self.transaction():
            if alone:
                self.run("DELETE FROM trust WHERE kind = ? AND version < ?", [kind, version])
            self.run(
                "INSERT INTO trust (kind, version, signed) VALUES (?, ?, ?)",
                [kind, version, signed],
            )

    def trusted(self, kind: str, after: int = 0) -> list[bytes]:
        """The signed messages of a kind above a version, in order of their versions."""
        query = "SELECT signed FROM trust WHERE kind = ? AND version > ? ORDER BY version"
        return [bytes(row[0]) for row in self.all(query, [kind, after])]

    def trusted_versions(self) -> dict[str, int]:
        """The newest version of each kind of signed message that there is."""
        return dict(self.all("SELECT kind, max(version) FROM trust GROUP BY kind"))


def _release(row: Row) -> ReleaseRow:
    release = ReleaseRow(*row)
    return replace(release, withdrawn=bool(release.withdrawn))
