"""The part of the store's protocol that knows devices, thin clients and what is released to them.

`genome_server.store.protocol.Store` has it; whoever implements that implements this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from genome_server.store.rows import DEFAULT_CHANNEL, DeviceRow, Grant, ReleaseRow, ThinRow


class FleetStore(Protocol):
    """Devices, thin clients, releases, and what else was signed for them."""

    # -- devices
    def put_code(
        self, code_hash: bytes, audience: str, expires_ms: int, channel: str = DEFAULT_CHANNEL
    ) -> None:
        """Keep a one-time enrolment code, by its hash."""
        ...

    def use_code(self, code_hash: bytes, now_ms: int) -> Grant:
        """Use a code up: what it gives. CodeInvalid, CodeUsed or CodeExpired otherwise."""
        ...

    def put_device(self, device: DeviceRow) -> None:
        """Insert or replace a device."""
        ...

    def device(self, device_id: str) -> DeviceRow | None:
        """One device, or None."""
        ...

    def devices(self) -> list[DeviceRow]:
        """All devices, by the time of their enrolment."""
        ...

    def touch_devices(self, heard: Mapping[str, tuple[int, Mapping[str, Any]]]) -> None:
        """Remember when devices were last heard of, and what they said: (Unix ms, facts) by id.

        Facts take the place of those of the same name; the others stay.
        """
        ...

    def unusual_devices(self) -> dict[str, tuple[str, bool]]:
        """(channel, revoked) of the devices that are revoked or not in the channel "stable"."""
        ...

    def revoke_device(self, device_id: str) -> None:
        """Refuse a device from now on."""
        ...

    def set_device_channel(self, device_id: str, channel: str) -> None:
        """Say which channel's releases a device gets from now on."""
        ...

    def put_thin(self, thin: ThinRow) -> None:
        """Insert or replace a thin client by name."""
        ...

    def thin_by_hash(self, token_hash: bytes) -> ThinRow | None:
        """The thin client that a token belongs to, or None."""
        ...

    def thins(self) -> list[ThinRow]:
        """All thin clients, by name."""
        ...

    # -- releases
    def put_release(self, release: ReleaseRow) -> None:
        """Keep a published release."""
        ...

    def set_release_share(self, version: int, share: float) -> None:
        """Give a release to this share (0 … 1] of its channel's devices from now on."""
        ...

    def withdraw_release(self, version: int) -> None:
        """Give a release to nobody any more."""
        ...

    def release(
        self, version: int | None = None, channel: str = DEFAULT_CHANNEL
    ) -> ReleaseRow | None:
        """A release by version, or the newest of a channel that is not withdrawn, or None."""
        ...

    def release_for(self, device_id: str, channel: str = DEFAULT_CHANNEL) -> ReleaseRow | None:
        """The release that a device is to have: the newest of its channel whose share covers it.

        Where the channel has none for it, the same of the channel "stable".
        """
        ...

    def releases_in_force(self) -> list[ReleaseRow]:
        """Every release that some device may be given now, newest first."""
        ...

    def releases(self) -> list[ReleaseRow]:
        """All releases, newest first."""
        ...

    # -- what else was signed: kinds "root", "timestamp", "stop-list"
    def put_trusted(self, kind: str, version: int, signed: bytes, *, alone: bool = False) -> None:
        """Keep a signed message of a kind; `alone`: in place of the older ones of its kind."""
        ...

    def trusted(self, kind: str, after: int = 0) -> list[bytes]:
        """The signed messages of a kind above a version, in order of their versions."""
        ...

    def trusted_versions(self) -> dict[str, int]:
        """The newest version of each kind of signed message that there is."""
        ...
