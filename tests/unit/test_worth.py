"""What is worth more than a score holds goes neither in nor out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk import Context
from edge_sdk.engine.decide import decide
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from edge_sdk.engine.policy import ONE, SCORE_MAX, SCORE_MIN, fixed_scores
from edge_sdk.engine.slates import Slate
from genome_edge.v1 import release_pb2
from genome_server.cli import cli
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.ingest.worth import MAX_WORTH, beyond_offer, beyond_placement
from genome_server.releases.publish import publish
from genome_server.store.protocol import Store
from tests.serving import offer
from tests.unit.ingesting import new_tenant, run, write
from tests.unit.releasing import NOW, built_tenant

MICROS = 1_000_000
ROOM = MAX_WORTH * MICROS
amounts = st.one_of(
    st.integers(0, MICROS * MICROS),
    st.sampled_from([ROOM - 1, ROOM, ROOM + 1, ROOM + 767_999, ROOM + MICROS]),
)


@given(value=amounts, cost=amounts, success=st.floats(0, 1, width=32))
def test_whatever_is_taken_has_a_score_of_its_own(value: int, cost: int, success: float) -> None:
    spec = release_pb2.OfferSpec(value_micros=value, cost_micros=cost)
    worth = value - cost
    exact = Fraction(success) * worth * ONE / MICROS
    (score,) = fixed_scores(
        np.array([success], np.float32), np.array([worth / MICROS * ONE])
    ).tolist()
    if beyond_offer(spec):
        assert abs(worth) > ROOM
    else:
        assert abs(worth) <= ROOM
        assert abs(score - exact) < 1, "it is not held at an end of the range"


def test_the_bounds_are_those_of_a_score() -> None:
    assert SCORE_MIN < -MAX_WORTH * ONE
    assert MAX_WORTH * ONE <= SCORE_MAX < (MAX_WORTH + 1) * ONE


@given(least=st.one_of(st.integers(-MICROS * MICROS, MICROS * MICROS), st.integers(-ROOM, ROOM)))
def test_a_least_worth_that_is_taken_can_be_reached_and_missed(least: int) -> None:
    spec = release_pb2.PlacementSpec(id="p", least_worth_micros=least)
    slate = Slate.of(spec)
    assert slate is not None
    assert slate.least is not None
    if not beyond_placement(spec):
        assert SCORE_MIN < slate.least <= MAX_WORTH * ONE


@pytest.fixture
def home(tmp_path: Path) -> Iterator[tuple[Tenant, Store]]:
    with new_tenant(tmp_path / "home") as made:
        yield made


TOO_MUCH: list[tuple[dict[str, Any], str, str]] = [
    ({"value": MAX_WORTH + 0.000001}, "value", "with its cost the offer is worth 32,767.000001,"),
    (
        {"value": 1_000_000},
        "value",
        "with its cost the offer is worth 1,000,000, and a score holds",
    ),
    ({"value": 1, "cost": MAX_WORTH + 2}, "cost", "with its value the offer is worth -32,768, and"),
]
ENOUGH: list[dict[str, Any]] = [
    {"id": "most", "value": MAX_WORTH},
    {"id": "least", "value": 0, "cost": MAX_WORTH},
    {"id": "both", "value": 1_000_000, "cost": 1_000_000 - MAX_WORTH},
]


def test_the_import_and_the_check_refuse_it_and_say_what_to_do(
    tmp_path: Path, home: tuple[Tenant, Store]
) -> None:
    tenant, store = home
    rows = [*ENOUGH, *({"id": f"o{n}", **fields} for n, (fields, _, _) in enumerate(TOO_MUCH))]
    path = write(tmp_path / "offers.jsonl", rows)
    report = run(tenant, store, "offers", path)
    assert (report.new, report.rejected) == (len(ENOUGH), len(TOO_MUCH))
    for reject, (_, column, said) in zip(report.rejects, TOO_MUCH, strict=True):
        assert reject.column == column
        assert reject.cause.startswith(said)
        assert reject.cause.endswith("in a larger unit, such as thousands")
    command = ["--home", str(tenant.dir.parent.parent), "offers", "check", str(path)]
    checked = CliRunner().invoke(cli, command)
    assert checked.exit_code == 1
    assert [str(reject) for reject in report.rejects] == checked.stderr.splitlines()


@pytest.mark.parametrize("least", [MAX_WORTH + 0.5, -MAX_WORTH - 0.5])
def test_a_placement_that_asks_for_more_is_refused(
    tmp_path: Path, home: tuple[Tenant, Store], least: float
) -> None:
    tenant, store = home
    rows = [{"id": "a", "least_worth": MAX_WORTH}, {"id": "b", "least_worth": least}]
    report = run(tenant, store, "placements", write(tmp_path / "p.jsonl", rows))
    (reject,) = report.rejects
    assert (reject.line, reject.column) == (2, "least_worth")
    assert reject.cause.startswith(f"it is {least:,}, and a score holds -32,767 to 32,767; say")


def test_it_is_not_published(tmp_path: Path) -> None:
    tenant = built_tenant(tmp_path / "home")
    with closing(tenant.open_store()) as store:
        # As an earlier version took it in.
        store.put_documents("offer", [offer("spa", "service:spa", value=40_000)])
        for dry_run in (True, False):
            with pytest.raises(Refused, match="offer 'spa': value: with its cost the offer is"):
                publish(tenant, untrained=True, dry_run=dry_run, now_ms=NOW)
        done = publish(tenant, untrained=True, leave_out=True, now_ms=NOW)
        assert done.notes[0].startswith("offer 'spa' is left out: value: with its cost the offer")
        store.put_documents("offer", [offer("spa", "service:spa", value=MAX_WORTH)])
        (name, plain), *_ = store.documents("placement")
        for least in (-40_000, 40_000):
            store.put_documents("placement", [(name, {**plain, "least_worth": least})])
            with pytest.raises(Refused, match=f"placement '{name}': least_worth: it is {least:,},"):
                publish(tenant, untrained=True, leave_out=True, now_ms=NOW)
        store.put_documents("placement", [(name, {**plain, "least_worth": MAX_WORTH})])
        assert publish(tenant, untrained=True, leave_out=True, now_ms=NOW).release.version == 2
        assert store.release(version=1) is not None


def test_a_device_still_reads_releases_that_have_it() -> None:
    """Their scores stay at the end of the range: the first of equals is shown."""
    documents = [{"id": "a", "value": 400_000}, {"id": "b", "value": 900_000}]
    placements = [{"id": "p", "least_worth": -1_000_000}]
    assert offer_from_document(documents[0]).value_micros == 400_000 * MICROS
    assert placement_from_document(placements[0]).least_worth_micros == -MICROS * MICROS
    release = release_from_documents(documents, placements)
    decision, _ = decide(release, Context(), "p")
    assert decision.slots[0].score == pytest.approx(SCORE_MAX / ONE)
    assert decision.offer is not None
