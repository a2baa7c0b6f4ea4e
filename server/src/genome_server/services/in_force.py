"""The release that the server decides from, and the terms under which it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_sdk.config import Config
from edge_sdk.engine.fitting import Failures, fitted
from edge_sdk.errors import TrustError
from edge_sdk.status import tier_of
from edge_sdk.sync.trust import manifest_digest
from genome_edge.v1 import release_pb2
from genome_server.plugins import deciding

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release
    from edge_sdk.engine.withheld import Terms, Withholding
    from genome_server.releases.trust import TrustDesk
    from genome_server.services.shelf import Shelf


def load_release(shelf: Shelf, version: int, failures: Failures) -> Release:
    """A release, ready to decide. Raises TrustError where it is not here or makes no sense, Refused
    where a part of it is gone."""
    from edge_sdk.engine.release import Release

    shelved = shelf.get(version)
    if shelved is None:
        raise TrustError(f"release {version} is not here")
    whole = Release.from_parts(shelved.manifest, shelf.parts(shelved))
    release = fitted(whole, deciding(), failures)
    release.warm()
    return release


class Standing:
    """How far a release may be trusted, and what of it is stopped. Thread-safe, takes no lock."""

    def __init__(self, trust: TrustDesk, shelf: Shelf) -> None:
        self._trust = trust
        self._shelf = shelf
        self._config = Config()
        self._known: tuple[tuple[int, tuple[int, int, int]], int, Withholding] | None = None

    def terms(self, release: Release, now_ms: int) -> Terms:
        """What a decision at this moment is subject to."""
        from edge_sdk.engine.withheld import InForce, Terms, Withholding

        key = (release.version, self._trust.versions)
        if self._known is None or self._known[0] != key:
            said = InForce(frozenset(self._trust.stopped()), key[1][2])
            withholding = Withholding(release.catalogue, said)
            self._known = (key, self._fresh_until(release), withholding)
        _, fresh_until_ms, withholding = self._known
        return Terms(tier_of(fresh_until_ms, now_ms, self._config), withholding)

    def _fresh_until(self, release: Release) -> int:
        expires_ms = int(release.manifest.expires_ms)
        signed, shelved = self._trust.timestamp(), self._shelf.get(release.version)
        if signed is None or shelved is None:
            return expires_ms
        said = release_pb2.Timestamp.FromString(signed.timestamp)
        digest = manifest_digest(shelved.signed)
        named = any(one.manifest_sha256 == digest for one in said.releases)
        return max(expires_ms, said.expires_ms) if named else expires_ms
