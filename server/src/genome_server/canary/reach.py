"""Whom a canary reaches when it goes out: what can be told of it before any look. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from genome_server.store.protocol import DeviceRow, ReleaseRow


def reach(row: ReleaseRow, devices: Iterable[DeviceRow]) -> tuple[str, ...]:
    """Sentences on why nothing will be learned from a release that is watched: none of the enrolled
    devices of its channel is in its share, or all are. Empty where there are some of both."""
    known = [one for one in devices if one.channel == row.channel and not one.revoked]
    inside = sum(row.covers(one.id) for one in known)
    version, channel, share = row.version, repr(row.channel), f"{row.share * 100:.4g}%"
    if not known:
        return (
            f"no device of channel {channel} is enrolled: nothing will be learned from release "
            f"{version} until some are, in its share of {share} and beside it",
        )
    devices_are = "1 device is" if len(known) == 1 else f"{len(known):,} devices are"
    if not inside:
        return (
            f"{devices_are} enrolled in channel {channel}, none in the share of {share}: nothing "
            f"will be learned from release {version} until one that is in it enrols, or the share "
            f"grows (genome-server releases promote {version} --share MORE)",
        )
    if inside == len(known):
        return (
            f"{devices_are} enrolled in channel {channel}, all in the share of {share}: nothing "
            f"will be learned from release {version} until some are beside it, to compare with",
        )
    return ()
