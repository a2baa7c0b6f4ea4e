"""What an app puts in place of ours is used; where it fails, ours goes on and a decision comes."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk import Context, EdgeClient, IdentifyResult, Plugins, Reason, UsageError
from edge_sdk.dna.genome import block_from_rows
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.policy import Drawn, Floats, Greedy, Indices, Scores
from edge_sdk.errors import UnreachableError
from edge_sdk.plugins import Identified
from tests.unit.device_client import FAST, MOMENT, events
from tests.unit.device_town import OFFERS, Town, filled, row, subject

HERE = Context(cell="8a2a1072b59ffff")
AT_A_HOTEL = (*OFFERS[:2], {**OFFERS[2], "near": ["hotel"], "priority": 1})


class Beacons:
    """Every cell is at a hotel."""

    def resolve(self, cell: int) -> Sequence[tuple[str, float]]:
        return [("place:hotel", 1.0)]


class Last:
    """Scores offers by their position."""

    made: tuple[bytes, int] = (b"", 0)

    def __init__(self, model: bytes, vocabulary: Vocabulary) -> None:
        Last.made = (model, len(vocabulary))

    def vectors(self, dna: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        return np.arange(len(dna), dtype=np.float32).reshape(-1, 1)

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        return np.asarray((vectors[:, 0] + 1) / 10, np.float32)


class Worst(Greedy):
    """The worst score, always."""

    name = "worst"

    def draw(self, scores: Scores, number: int) -> Drawn:
        return Drawn(int(scores.argmin()), 1 << 32, int(scores.argmax()))


class Broken:
    """Fails whatever is asked of it."""

    name, gamma, floor = "broken", 0.0, 0.0

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self) -> datetime:
        raise RuntimeError("no time")

    def resolve(self, cell: int) -> Sequence[tuple[str, float]]:
        raise RuntimeError("no place")

    def vectors(self, dna: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        raise RuntimeError("no vectors")

    def values(self, indices: Indices, weights: Floats, vectors: Floats) -> Floats:
        raise RuntimeError("no values")

    def distribution(self, scores: Scores) -> Any:
        raise RuntimeError("no chances")

    def draw(self, scores: Scores, number: int) -> Drawn:
        return Drawn(len(scores), 1, 0)  # not among them

    def identify(self, token: str, lineage: Any, timeout: float) -> Identified | None:
        raise RuntimeError("no reader")


def opened(tmp_path: Path, plugins: Plugins, town: Town | None = None) -> EdgeClient:
    filled(tmp_path / "store", town or Town())
    edge = EdgeClient(tmp_path / "store", config=FAST, plugins=plugins)
    assert edge.wait_ready(10)
    return edge


def test_places_come_from_the_app_and_a_declared_place_still_wins(tmp_path: Path) -> None:
    with opened(tmp_path, Plugins(places=Beacons()), Town(offers=AT_A_HOTEL)) as edge:
        shown = edge.decide(HERE, "lobby").offer
        assert shown is not None
        assert shown.id == "book"
        declared = edge.decide(Context(cell=HERE.cell, place="museum"), "lobby").offer
        assert declared is not None
        assert declared.id != "book"


def test_a_scorer_is_made_from_the_release(tmp_path: Path) -> None:
    town = Town(offers=[{**offer, "value": 1.0} for offer in OFFERS])
    with opened(tmp_path, Plugins(scorer=Last), town) as edge:
        decision = edge.decide(MOMENT, "lobby", 3)
        scores = [slot.score for slot in decision.slots]
        assert scores == pytest.approx([0.3, 0.2, 0.1], abs=1e-4)
        assert Last.made == (town.parts()["model"], len(town.vocabulary))


def test_an_explorer_draws_and_is_named_in_the_record(tmp_path: Path) -> None:
    with opened(tmp_path, Plugins(explorer=Worst(), scorer=Last)) as edge:
        decision = edge.decide(MOMENT, "lobby")
        assert decision.reason is Reason.EXPLORED
        assert decision.slots[0].propensity == 1.0
        records = [event.decision for event in events(edge) if event.HasField("decision")]
        assert records[0].explorer == "worst"


def test_a_clock_is_the_devices_wall_clock(tmp_path: Path) -> None:
    then = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)
    with opened(tmp_path, Plugins(clock=lambda: then)) as edge:
        edge.decide(MOMENT, "lobby")
        assert {event.time.wall_ms for event in events(edge)} == {int(then.timestamp() * 1000)}


def test_an_identifier_answers_for_the_server(tmp_path: Path) -> None:
    town = Town()

    class Cards:
        def identify(self, token: str, lineage: Any, timeout: float) -> Identified | None:
            if token == "off":
                raise UnreachableError("no reader")
            if token != "card-9":
                return None
            block = block_from_rows(lineage, [row(9, town=town)])
            return Identified(subject(9), block, 60)

    with opened(tmp_path, Plugins(identifier=Cards()), town) as edge, edge.session() as visit:
        assert visit.identify("off") is IdentifyResult.OFFLINE
        assert visit.identify("card-8") is IdentifyResult.UNKNOWN
        assert visit.identify("card-9") is IdentifyResult.FETCHED
        assert visit.decide(MOMENT, "lobby").genome_used


def test_what_fails_is_said_once_and_ours_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken()
    plugins = Plugins(
        clock=broken, places=broken, scorer=Broken, explorer=broken, identifier=broken
    )
    with caplog.at_level(logging.ERROR, "edge_sdk"), opened(tmp_path, plugins) as edge:
        for _ in range(3):
            decision = edge.decide(HERE, "lobby")
            assert decision.offer is not None
            assert decision.reason is Reason.UNSCORED
        with edge.session() as visit:
            assert visit.identify("card") is IdentifyResult.OFFLINE
    for what in ("clock", "places", "explorer", "identify"):
        said = [r for r in caplog.records if f"plug-in for {what} failed" in r.getMessage()]
        assert len(said) == 1, what


def test_plugins_are_plugins() -> None:
    with pytest.raises(UsageError, match="plugins must be Plugins"):
        EdgeClient(bundle=b"", plugins=Beacons())  # type: ignore[arg-type]


def test_ours_are_used_where_none_is_given() -> None:
    from edge_sdk.engine.fake_release import release_from_documents
    from edge_sdk.engine.fitting import Failures, fitted

    release = release_from_documents([{"id": "taxi"}], ())
    assert fitted(release, Plugins(), Failures()) is release
    other = fitted(release, Plugins(places=Beacons()), Failures())
    assert other is not release
    assert replace(Plugins(), places=None) == Plugins()


def test_protocols_are_typed(tmp_path: Path) -> None:
    """What fits the protocols passes mypy; what does not, does not."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from edge_sdk import Plugins\n"
        "class Places:\n    def resolve(self, cell: str) -> int: return 1\n"
        "Plugins(places=Places())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(wrong)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 1
    assert "PlaceResolver" in done.stdout
