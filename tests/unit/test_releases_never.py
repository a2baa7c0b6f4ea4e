"""Offers that can never be shown are not published; rings around places are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import pytest
from click.testing import CliRunner

from edge_sdk import Context
from edge_sdk.engine.decide import decide
from edge_sdk.engine.release import Release
from genome_edge.v1 import release_pb2
from genome_server.cli import cli
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.releases.publish import publish
from genome_server.store.protocol import Store
from tests.serving import offer
from tests.unit.releasing import NOW, built_tenant, contents


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return built_tenant(tmp_path / "home")


@pytest.fixture
def store(tenant: Tenant) -> Iterator[Store]:
    with closing(tenant.open_store()) as opened:
        yield opened


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"placements": ["lift"]}, "placements: 'lift' does not exist"),
        ({"sizes": ["a4"], "placements": ["feed"]}, "sizes: a4 fits no placement of it (feed ta"),
        ({"value": 2, "cost": 1, "placements": ["feed"]}, "value: less its cost it is 1 at most;"),
        ({"all_of": ["daypart:evening"], "hours": [8]}, "all_of[0]: it is never 'daypart:evening'"),
    ],
)
def test_offers_that_can_never_be_shown_are_not_published(
    tenant: Tenant, store: Store, fields: dict[str, Any], problem: str
) -> None:
    store.put_documents("offer", [offer("spa", "service:spa", **fields)])
    feed = {"id": "feed", "sizes": ["300x250"], "least_worth": 1.5}
    store.put_documents("placement", [("feed", feed)])
    for dry_run in (True, False):
        with pytest.raises(Refused, match="--leave-out") as caught:
            publish(tenant, untrained=True, dry_run=dry_run, now_ms=NOW)
        assert f"offer 'spa': it can never be shown: {problem}" in str(caught.value)
    assert store.release() is None
    done = publish(tenant, untrained=True, leave_out=True, now_ms=NOW)
    assert f"offer 'spa' is left out: it can never be shown: {problem}" in done.notes[0]
    parts = contents(tenant, done.manifest)
    left = release_pb2.OfferCatalogue.FromString(parts["offers"]).offers
    assert [one.id for one in left] == ["taxi"]
    # As what is shown where nothing else may be it asks nothing of a placement.
    if not fields.get("all_of"):
        store.put_documents("placement", [("feed", {**feed, "house_offer": "spa"})])
        assert publish(tenant, untrained=True, now_ms=NOW).release.version == 2


def test_many_that_can_never_be_shown_are_counted(tenant: Tenant, store: Store) -> None:
    store.put_documents(
        "offer", [offer(f"o{n}", "service:spa", placements=["lift"]) for n in range(30)]
    )
    with pytest.raises(Refused, match=r"and 10 more$"):
        publish(tenant, untrained=True, now_ms=NOW)


@pytest.mark.parametrize(
    "since",
    [
        {},
        {"placements": ["lift"]},
        {"sizes": ["a4"], "placements": ["feed"]},
        {"value": 1, "placements": ["feed"]},
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_an_offer_that_is_over_stays_in_the_release(
    tenant: Tenant, store: Store, since: dict[str, Any], several: bool
) -> None:
    ends = ["2019-06-01T00:00:00Z", "2020-01-01T00:00:00Z"]
    windows = [
        {"from": end[:8] + "01T00:00:00Z", "until": end[:8] + "02T00:00:00Z"} for end in ends
    ]
    over = {"windows": windows} if several else {"valid": {"until": ends[1]}}
    feed = {"id": "feed", "sizes": ["300x250"], "least_worth": 1.5}
    store.put_documents("offer", [offer("spa", "service:spa", **over, **since)])
    store.put_documents("placement", [("feed", feed)])
    done = publish(tenant, untrained=True, now_ms=NOW)
    assert not [note for note in done.notes if "left out" in note]
    parts = contents(tenant, done.manifest)
    stays = release_pb2.OfferCatalogue.FromString(parts["offers"]).offers
    assert "spa" in [one.id for one in stays]


def test_rings_around_places_need_devices_that_know_them(tenant: Tenant, store: Store) -> None:
    place = {"kind": "place:hotel", "cells": ["8a2a1072b59ffff"], "saliences_q8": [256]}
    store.put_documents("place", [("h", place)])
    store.put_documents("offer", [offer("spa", "service:spa", near=["hotel"], near_rings=2)])
    done = publish(tenant, untrained=True, now_ms=NOW)
    assert "rings-1" in done.manifest.required_features
    release = Release.from_parts(done.manifest, contents(tenant, done.manifest))
    next_door = h3.int_to_str(min(h3.grid_ring(h3.str_to_int("8a2a1072b59ffff"), 2)))
    further = h3.int_to_str(min(h3.grid_ring(h3.str_to_int("8a2a1072b59ffff"), 3)))
    for context, shown in (
        (Context(cell=next_door), {"spa", "taxi"}),
        (Context(cell=further), {"taxi"}),
        (Context(place="hotel"), {"spa", "taxi"}),
        (Context(cell=next_door, place="bar"), {"taxi"}),  # a declared place wins
    ):
        decision, _ = decide(release, context, "screen", 2, now_ms=NOW)
        assert {slot.offer.id for slot in decision.slots if slot.offer} == shown


def test_the_command_names_the_offer_and_can_leave_it_out(tenant: Tenant, store: Store) -> None:
    store.put_documents("offer", [offer("spa", "service:spa", placements=["lift"])])
    command = ["publish", "--untrained", "--home", str(tenant.dir.parent.parent)]
    for more in ([], ["--dry-run"]):
        refused = CliRunner().invoke(cli, [*command, *more])
        assert refused.exit_code == 1
        assert "offer 'spa': it can never be shown: placements: 'lift' does not" in refused.output
    done = CliRunner().invoke(cli, [*command, "--leave-out"])
    assert done.exit_code == 0
    assert "offer 'spa' is left out" in done.output


def test_a_zone_that_is_no_longer_known_stops_nothing_but_its_offer(
    tenant: Tenant, store: Store
) -> None:
    """Databases of zones lose names: with the next image of the server, for example."""
    there = {"zone": "Mars/Phobos", "windows": [{"from": "2026-01-01T00:00", "until": ""}]}
    store.put_documents("offer", [offer("spa", "service:spa", **there)])
    with pytest.raises(Refused, match="never be shown: zone: 'Mars/Phobos' is no time zone"):
        publish(tenant, untrained=True, now_ms=NOW)
    home = ["--home", str(tenant.dir.parent.parent)]
    for command in (["status"], ["offers", "show", "spa"]):
        said = CliRunner().invoke(cli, [*command, *home])
        assert said.exit_code == 0, said.output
        assert "'Mars/Phobos' is no time zone" in said.output
    seen = CliRunner().invoke(cli, ["offers", "preview", "--placement", "screen", *home])
    assert seen.exit_code == 0, seen.output
    assert "offer 'spa' is left out" in seen.output
    done = publish(tenant, untrained=True, leave_out=True, now_ms=NOW)
    assert "offer 'spa' is left out" in done.notes[0]
