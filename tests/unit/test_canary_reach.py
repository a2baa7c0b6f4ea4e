"""What is said of whom a canary reaches when it goes out."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from genome_server.canary.reach import reach
from genome_server.canary.rules import Bounds
from genome_server.releases.publish import publish
from genome_server.store.protocol import DeviceRow, ReleaseRow
from tests.unit.releasing import NOW, built_tenant

ROW = ReleaseRow(7, "stable", NOW, NOW, b"", 1, share=0.5)


def device(name: str) -> DeviceRow:
    return DeviceRow(name, name, "all", bytes(32))


INSIDE = next(one for one in map(device, map(str, range(99))) if ROW.covers(one.id))
BESIDE = next(one for one in map(device, map(str, range(99))) if not ROW.covers(one.id))


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ([], "no device of channel 'stable' is enrolled"),
        ([replace(INSIDE, channel="beta")], "no device of channel 'stable' is enrolled"),
        ([BESIDE], "1 device is enrolled in channel 'stable', none in the share of 50%"),
        ([BESIDE, replace(INSIDE, revoked=True)], "1 device is enrolled in channel 'stable', none"),
        ([INSIDE, INSIDE], "2 devices are enrolled in channel 'stable', all in the share of 50%"),
        ([INSIDE, BESIDE], ""),
    ],
)
def test_a_share_that_compares_nothing_is_said(devices: list[DeviceRow], said: str) -> None:
    found = reach(ROW, devices)
    assert len(found) == bool(said)
    assert not found or found[0].startswith(said)


def test_publishing_says_whom_a_canary_reaches(tmp_path: Path) -> None:
    tenant = built_tenant(tmp_path)
    with closing(tenant.open_store()) as store:
        store.put_device(device("till"))
    published = publish(tenant, untrained=True, share=1e-9, watch=Bounds(), now_ms=NOW)
    assert any("1 device is enrolled in channel 'stable', none" in one for one in published.notes)
