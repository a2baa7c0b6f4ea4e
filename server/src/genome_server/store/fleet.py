"""Devices, thin clients and enrolment codes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from genome_server.errors import CodeExpired, CodeInvalid, CodeUsed
from genome_server.store.connection import Connections, Row
from genome_server.store.rows import DEFAULT_CHANNEL, DeviceRow, Grant, ThinRow

_DEVICE = (
    "id, name, audience, public_key, sdk_version, created_ms, seen_ms, revoked, status, channel"
)


class Fleet(Connections):
    """The room of a store that knows devices."""

    # The unusual ones, as of a count of their changes.
    _unusual: tuple[int, dict[str, tuple[str, bool]]] | None = None

    def put_code(
        self, code_hash: bytes, audience: str, expires_ms: int, channel: str = DEFAULT_CHANNEL
    ) -> None:
        """Keep a one-time enrolment code, by its hash."""
        self.run(
            "INSERT INTO codes (code_hash, audience, expires_ms, channel) VALUES (?, ?, ?, ?)",
            [code_hash, audience, expires_ms, channel],
        )

    def use_code(self, code_hash: bytes, now_ms: int) -> Grant:
        """Use a code up: what it gives. CodeInvalid, CodeUsed or CodeExpired otherwise."""
        with self.transaction():
            query = "SELECT audience, channel, expires_ms, used_ms FROM codes WHERE code_hash = ?"
            row = self.one(query, [code_hash])
            if row is None:
                raise CodeInvalid("this server made no such enrolment code; ask for a new one")
            audience, channel, expires_ms, used_ms = row
            if used_ms is not None:
                raise CodeUsed("this enrolment code was used before; ask for a new one")
            if now_ms >= expires_ms:
                raise CodeExpired("this enrolment code has expired; ask for a new one")
            self.run("UPDATE codes SET used_ms = ? WHERE code_hash = ?", [now_ms, code_hash])
        return Grant(audience, channel)

    def put_device(self, device: DeviceRow) -> None:
        """Insert or replace a device."""
        self.run(
            f"INSERT OR REPLACE INTO devices ({_DEVICE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                device.id,
                device.name,
                device.audience,
                device.public_key,
                device.sdk_version,
                device.created_ms,
                device.seen_ms,
                int(device.revoked),
                json.dumps(dict(device.status), ensure_ascii=False),
                device.channel,
            ],
        )

    def device(self, device_id: str) -> DeviceRow | None:
        """One device, or None."""
        row = self.one(f"SELECT {_DEVICE} FROM devices WHERE id = ?", [device_id])
        return None if row is None else _device(row)

    def devices(self) -> list[DeviceRow]:
        """All devices, by the time of their enrolment."""
        rows = self.all(f"SELECT {_DEVICE} FROM devices ORDER BY created_ms, id")
        return [_device(row) for row in rows]

    def touch_devices(self, heard: Mapping[str, tuple[int, Mapping[str, Any]]]) -> None:
        """Remember when devices were last heard of, and what they said: (Unix ms, facts) by id."""
        query = "SELECT id, status FROM devices WHERE id IN ({keys})"
        with self.transaction():
            known = {name: json.loads(status) for name, status in self.among(query, heard)}
            self.run_many(
                "UPDATE devices SET seen_ms = max(seen_ms, ?), status = ? WHERE id = ?",
                (
                    (
                        heard[name][0],
                        json.dumps({**said, **heard[name][1]}, ensure_ascii=False),
                        name,
                    )
                    for name, said in known.items()
                ),
            )

    def unusual_devices(self) -> dict[str, tuple[str, bool]]:
        """(channel, revoked) of the devices that are revoked or not in the channel "stable".

        The same object for as long as nothing of it changed: it is asked for several times a
        second, and a fleet may have them by the ten thousand.
        """
        # Before the rows: those that are newer are read once more, and none is missed.
        at = self.number("SELECT value FROM counters WHERE name = 'unusual_devices'")
        known = self._unusual
        if known is None or known[0] != at or self.db.conn.in_transaction:
            rows = self.all(
                "SELECT id, channel, revoked FROM devices WHERE revoked = 1 OR channel <> 'stable'"
            )
            known = (at, {name: (channel, bool(revoked)) for name, channel, revoked in rows})
            if not self.db.conn.in_transaction:  # that may be rolled back
                self._unusual = known
        return known[1]

    def revoke_device(self, device_id: str) -> None:
        """Refuse a device from now on."""
        self.run("UPDATE devices SET revoked = 1 WHERE id = ?", [device_id])

    def set_device_channel(self, device_id: str, channel: str) -> None:
        """Say which channel's releases a device gets from now on."""
        self.run("UPDATE devices SET channel = ? WHERE id = ?", [channel, device_id])

    def put_thin(self, thin: ThinRow) -> None:
        """Insert or replace a thin client by name."""
        self.run(
            "INSERT OR REPLACE INTO thin (name, token_hash, audience, revoked) VALUES (?, ?, ?, ?)",
            [thin.name, thin.token_hash, thin.audience, int(thin.revoked)],
        )

    def thin_by_hash(self, token_hash: bytes) -> ThinRow | None:
        """The thin client that a token belongs to, or None."""
        query = "SELECT name, token_hash, audience, revoked FROM thin WHERE token_hash = ?"
        row = self.one(query, [token_hash])
        return None if row is None else _thin(row)

    def thins(self) -> list[ThinRow]:
        """All thin clients, by name."""
        query = "SELECT name, token_hash, audience, revoked FROM thin ORDER BY name"
        return [_thin(row) for row in self.all(query)]


def _device(row: Row) -> DeviceRow:
    *fields, revoked, status, channel = row
    device = DeviceRow(*fields)
    return replace(device, revoked=bool(revoked), status=json.loads(status), channel=channel)


def _thin(row: Row) -> ThinRow:
    return ThinRow(row[0], row[1], row[2], bool(row[3]))
