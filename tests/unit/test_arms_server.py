"""Arms on the server: what import and publish refuse, and what lists and thin clients are told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest

from edge_sdk.engine.arms import Experiment
from edge_sdk.sync.trust import FEATURES
from genome_server.documents import placement_spec
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.ingest.importer import FileReport
from genome_server.releases.features import EXPERIMENTS
from genome_server.releases.publish import publish
from genome_server.store.protocol import DeviceRow, Store
from tests.serving import add_thin, offer, publish_release, serving
from tests.unit.ingesting import counts, new_tenant, run, write
from tests.unit.lists import a_tenant, decisions, go, rows
from tests.unit.releasing import NOW, built_tenant
from tests.unit.thin_clients import Thin, events, prepare

CUSTOMERS = tuple(f"c{n}" for n in range(25))
ARMS = {"seed": "autumn", "arms": {"bold": 0.3, "quiet": 0.3}}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Tenant, Store, Path]]:
    with new_tenant(tmp_path / "home") as (tenant, store):
        yield tenant, store, tmp_path


def imported(opened: tuple[Tenant, Store, Path], *placements: Any) -> FileReport:
    tenant, store, folder = opened
    return run(tenant, store, "placements", write(folder / "p.jsonl", placements))


def said(report: FileReport) -> list[tuple[int, str, str]]:
    return [(one.line, one.column, one.cause) for one in report.rejects]


# -- import


def test_arms_may_stand_behind_what_they_are_arms_of(
    opened: tuple[Tenant, Store, Path],
) -> None:
    base = {"id": "p", "experiment": ARMS}
    assert counts(imported(opened, base, {"id": "bold"}, {"id": "quiet"})) == (3, 0, 0, 0)
    assert counts(imported(opened, base)) == (0, 0, 1, 0)
    _, store, folder = opened
    flat = folder / "p.csv"
    text = json.dumps(ARMS["arms"]).replace('"', '""')
    flat.write_text(f'id,experiment.seed,experiment.arms\np,autumn,"{text}"\n')
    assert counts(run(opened[0], store, "placements", flat)) == (0, 0, 1, 0)
    documents = dict(store.documents("placement"))
    assert [arm.placement for arm in placement_spec(documents["p"]).arms] == ["bold", "quiet"]


def test_an_arm_may_stand_thousands_of_rows_behind(opened: tuple[Tenant, Store, Path]) -> None:
    others = [{"id": f"other{n}"} for n in range(2_500)]
    rows = [{"id": "p", "experiment": ARMS}, *others, {"id": "bold"}, {"id": "quiet"}]
    assert counts(imported(opened, *rows)) == (2_503, 0, 0, 0)
    # And what is wrong at the end is known before anything is written that hangs on it.
    worse = [{"id": "q", "experiment": {"arms": {"late": 0.5}}}, *others]
    worse.append({"id": "late", "experiment": {"arms": {"other1": 0.5}}})
    report = imported(opened, *worse)
    assert said(report) == [(1, "experiment.arms.late", "'late' has arms itself")]
    assert counts(report) == (1, 0, 2_500, 1)


def test_an_arm_that_nothing_defines_is_refused_with_its_line(
    opened: tuple[Tenant, Store, Path],
) -> None:
    report = imported(opened, {"id": "bold"}, {"id": "p", "experiment": ARMS})
    ((line, column, cause),) = said(report)
    assert (line, column) == (2, "experiment.arms.quiet")
    assert cause == "there is no placement 'quiet'; it may be in the same file"
    assert str(report.rejects[0].file).endswith("p.jsonl")
    near = imported(opened, {"id": "p", "experiment": {"arms": {"bolt": 0.1}}})
    assert "did you mean 'bold'?" in said(near)[0][2]
    assert [name for name, _ in opened[1].documents("placement")] == ["bold"]


def test_whatever_would_make_arms_impossible_is_refused(
    opened: tuple[Tenant, Store, Path],
) -> None:
    both = [{"id": "bold"}, {"id": "quiet"}, {"id": "p", "experiment": ARMS}, {"id": "rest"}]
    assert imported(opened, *both).rejected == 0
    # An arm gets arms.
    arms = {"id": "bold", "experiment": {"arms": {"rest": 0.1}}}
    why = "it is an arm of 'p', and arms have none themselves"
    assert said(imported(opened, arms)) == [(1, "experiment", why)]
    # An arm of two.
    second = {"id": "rest", "experiment": {"arms": {"quiet": 0.5}}}
    (told,) = said(imported(opened, {"id": "other"}, second))
    assert told == (2, "experiment.arms.quiet", "'quiet' is one of 'p' already")
    # A row that is refused takes with it what hangs on it, and no more.
    chain = [
        {"id": "x", "experiment": {"arms": {"y": 0.1}}},
        {"id": "y", "experiment": {"arms": {"nowhere": 0.1}}},
        {"id": "z"},
    ]
    report = imported(opened, *chain)
    assert [line for line, _, _ in sorted(said(report))] == [1, 2]
    assert counts(report) == (1, 0, 0, 2)
    # What the row alone says wrong is told as of any other column.
    more = {"id": "v", "experiment": {"arms": {"z": 0.6, "rest": 0.6}}}
    ((_, column, cause),) = said(imported(opened, more))
    assert column == "experiment.arms"
    assert "at most 1" in cause


# -- publish


def test_a_release_with_an_arm_that_is_none_is_refused_and_devices_without_arms_are_told(
    tmp_path: Path,
) -> None:
    tenant = built_tenant(tmp_path / "home")
    with closing(tenant.open_store()) as store:
        for number, features in enumerate((FEATURES, ["offer-model-1", "quantiser-1", "squarecb"])):
            store.put_device(DeviceRow(f"d{number}", "", "all", b"k" * 32))
            store.touch_devices({f"d{number}": (1, {"features": list(features)})})
        (name, plain), *_ = store.documents("placement")
        store.put_documents("placement", [(name, {**plain, "experiment": ARMS})])
        with pytest.raises(Refused, match=f"placement '{name}': arm 'bold' is no placement"):
            publish(tenant, untrained=True, dry_run=True, now_ms=NOW)
        store.put_documents("placement", [(arm, {"id": arm}) for arm in ("bold", "quiet")])
    done = publish(tenant, untrained=True, dry_run=True, now_ms=NOW)
    assert EXPERIMENTS not in done.manifest.required_features, "older devices still get it"
    assert done.lacking.sentences() == [
        "50.0% of the devices (1 of 2) decide without the experiment: their SDK lacks experiments-1"
    ]


# -- decisions of the server


def drawn_for(tenant: Tenant, placement: str) -> dict[str, str]:
    """By customer the placement that decides, worked out from the document."""
    with closing(tenant.open_store()) as store:
        document = dict(store.documents("placement"))[placement]
        found = Experiment.of(placement_spec({"id": placement, **document}))
        assert found is not None
        subjects = store.subjects_of("app", CUSTOMERS)
    return {name: found.draw(subject, b"") for name, subject in subjects.items()}


def test_a_list_draws_as_devices_do_and_names_the_arm(tmp_path: Path) -> None:
    tenant = a_tenant(tmp_path / "home", CUSTOMERS)
    with closing(tenant.open_store()) as store:
        page = {"slots": 1, "explorer": "greedy"}
        views = {**page, "id": "quiet", "shown": "view"}
        made = [{**page, "id": "page", "experiment": ARMS}, {**page, "id": "bold"}, views]
        store.put_documents("placement", [(str(one["id"]), one) for one in made])
    publish_release(tenant)
    wanted = drawn_for(tenant, "page")
    found = rows(go(tenant, tmp_path / "out.parquet", placement="page").out)
    assert {row["customer"]: row["placement"] for row in found} == wanted
    assert set(wanted.values()) == {"page", "bold", "quiet"}
    logged = Counter((one.experiment, one.placement) for one in decisions(tenant))
    assert logged == Counter(("page", name) for name in wanted.values())


def test_what_a_thin_client_reports_is_of_the_arm(tmp_path: Path) -> None:
    home = prepare(tmp_path)
    tenant = home.tenant("default")
    with closing(tenant.open_store()) as store:
        made: list[dict[str, Any]] = [
            {"id": "page", "experiment": {"arms": {"bold": 1}}},
            {"id": "bold", "slots": 2},
        ]
        store.put_documents("placement", [(one["id"], one) for one in made])
        store.put_documents("offer", [offer("ride", "service:ride", placements=["page"])])
    publish_release(tenant)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, add_thin(tenant))
        answer = thin.decide("page", customer="ann", slots=2)
        assert [slot.offer for slot in answer.slots] == ["ride", ""]
        thin.outcome(answer.decision_id)
    logged = [event for _, event in events(tenant)]
    record = next(one.decision for one in logged if one.HasField("decision"))
    assert (record.placement, record.experiment, len(record.slots)) == ("bold", "page", 2)
    (outcome,) = [one.outcome for one in logged if one.HasField("outcome")]
    assert outcome.placement == "bold"
