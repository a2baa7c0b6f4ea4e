"""A model from outside goes out to some devices, does badly there, and is taken back by itself.

Once one that anybody would stop, and once one that the gate lets pass.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import Context, EdgeClient
from edge_sdk.config import Config
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.enrolment import enrol
from examples.adapters import hotel
from examples.models import scikit_learn
from examples.models.contract import Handout
from genome_server.store.protocol import ReleaseRow
from tests.e2e.house import House, until
from tests.e2e.test_models import said_by
from tests.gate_town import ACTIVITIES, OFFERS, TRAINED, TRUTH, copy_town

#: On either side: the fewest that a canary is judged by.
LEAST = 5
GUESTS_A_DAY = 6


def upside_down(handout: Handout) -> bytes:
    """A logistic regression by somebody who mixed up who accepted and who did not."""
    wrong = replace(handout, success=~handout.success)
    model, asked, offered = scikit_learn.fit(wrong)
    return scikit_learn.export(model, wrong, asked, offered)


@dataclass
class Screen:
    """A device in the lobby. `canary`: release 2 is meant for it."""

    edge: EdgeClient
    canary: bool
    guests: list[tuple[str, bool]]
    luck: random.Random

    def serve(self) -> Counter[str]:
        """Some guests stand before it, one after another, and do what guests of the town do,
        which no model is told. What it showed to those who looked up flights, by offer."""
        shown: Counter[str] = Counter()
        for _ in range(GUESTS_A_DAY):
            guest, waved = self.guests.pop()
            for activity in hotel.ACTIVITIES:
                here = Context(place="hotel", activity=activity)
                decision = self.edge.decide(here, hotel.SCREEN, customer=guest)
                assert decision.offer is not None
                offer = decision.offer.id
                if self.luck.random() < hotel.likelihood(activity, offer, waved):
                    self.edge.report(decision, "redeem")
                shown[offer] += activity == "flight-search"
        return shown


def guests(town: Path) -> list[tuple[str, bool]]:
    """Customers who agreed to everything, and whether they waved a taxi away before."""
    customers = map(json.loads, (town / "customers.jsonl").read_text("utf-8").splitlines())
    agreed = [
        one["id"] for one in customers if {"personalisation", "learning"} <= {*one["consent"]}
    ]
    rows = map(json.loads, (town / "interactions.jsonl").read_text("utf-8").splitlines())
    waved = {
        row["customer"]
        for row in rows
        if row.get("offer") == hotel.TAXI and row["kind"] == "dismiss"
    }
    return [(one, one in waved) for one in agreed]


@contextmanager
def both_sides(house: House, audience: str) -> Iterator[list[tuple[EdgeClient, bool]]]:
    """Devices that are ready, so many that release 2 for half of them is for `LEAST` of them, and
    not for as many; each with whether it is meant for it."""
    second = ReleaseRow(2, "stable", 0, 0, b"", 0, share=0.5)
    with ExitStack() as opened:
        found: list[tuple[EdgeClient, bool]] = []
        for number in range(100):
            sides = Counter(canary for _, canary in found)
            if min(sides[True], sides[False]) == LEAST:
                break
            name = f"screen-{number}"
            enrolling = ("devices", "enrol", "--audience", audience, "--name", name)
            code = said_by(house, *enrolling)["code"]
            with closing(DeviceStore.open(house.root / name)) as store:
                canary = second.covers(enrol(house.address, code, store, name, Config()).device_id)
            if sides[canary] < LEAST:
                edge = opened.enter_context(EdgeClient(house.root / name, house.address))
                found.append((edge, canary))
        for edge, _ in found:
            assert edge.wait_ready(20)
        until(lambda: all(edge.status.genomes for edge, _ in found), what="genomes are there")
        yield found


@contextmanager
def lobby(house: House) -> Iterator[list[Screen]]:
    """Screens of a hotel, and who comes to them."""
    people = guests(house.root / "town")
    with both_sides(house, "app") as devices:
        yield [
            Screen(edge, canary, people[number :: 2 * LEAST], random.Random(number))
            for number, (edge, canary) in enumerate(devices)
        ]


def test_a_model_that_falls_is_taken_back_by_itself(house: House, handout: Path) -> None:
    house.start()
    file = house.root / "ours.onnx"
    file.write_bytes(upside_down(Handout.read(handout)))
    with lobby(house) as screens:
        ours = [one for one in screens if one.canary]
        others = [one for one in screens if not one.canary]
        # All have a past with the tenant's own model, which found out what guests like.
        assert takes(screens) == {hotel.TAXI, hotel.TRAIN}

        model = said_by(house, "models", "import", file)["model"]
        own = said_by(house, "models", "promote", model)["was"]
        # What guests accept here they accept at once: a first look after some seconds will do.
        watched: tuple[object, ...] = ("--share", "50%", "--watch", "--first-look", 0.06)
        # The gate finds out beforehand; here it is the canary's turn.
        watched += ("--despite-gate", "to see the canary take it back")
        said = said_by(house, "publish", *watched)
        assert (said["version"], said["model"]) == (2, model)
        until(lambda: all(one.edge.status.release == 2 for one in ours), what="they have it")
        assert not takes(ours) <= {hotel.TAXI, hotel.TRAIN}
        assert takes(others) == {hotel.TAXI, hotel.TRAIN}
        assert [one.edge.flush(10) for one in screens] == [0] * len(screens)
        assert {one.edge.status.release for one in others} == {1}
        for one in others:
            one.edge.close()  # what they did has been heard

        # Nobody does anything. On a busy machine it takes a second look, or a third.
        until(lambda: all(one.edge.status.release == 3 for one in ours), 60, "it goes back")
        assert takes(ours) == {hotel.TAXI, hotel.TRAIN}

    found = said_by(house, "releases", "canary")
    why = found["looks"][-1]["why"]
    assert (found["version"], found["state"]) == (2, "rolled back")
    assert why.startswith("it is worse: ")
    listed = said_by(house, "models", "list")
    assert (listed["current"], listed["before"]) == (own, None)
    assert listed["history"][-1]["kind"] == "rolled back"
    assert listed["history"][-1]["reason"] == f"release 2 was rolled back: {why}"
    carried = {one["id"]: one["releases"] for one in listed["models"]}
    assert carried == {own: [1, 3], model: [2]}
    assert said_by(house, "publish")["unchanged"]  # it does not come again


def takes(screens: list[Screen]) -> set[str]:
    """What these screens show to those who look up flights, more than once in ten times."""
    shown: Counter[str] = Counter()
    for one in screens:
        shown += one.serve()
    return {offer for offer, times in shown.items() if times > 0.1 * shown.total()}


#: Guests that each screen serves at a time.
CROWD = 150


@pytest.fixture
def gate_house(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose log tells the gate which model is better."""
    made = House(tmp_path)
    copy_town(made.home, tmp_path_factory)
    yield made
    made.kill()


def from_elsewhere(handout: Path) -> bytes:
    """A logistic regression of somebody whose guests are like ours, but for those on a journey: of
    theirs nearly everybody takes the tour."""
    ours = Handout.read(handout)
    markers = json.loads((handout / "vocabulary.json").read_text("utf-8"))["markers"]
    at = {name: index for index, name in enumerate(markers)}
    rng = np.random.default_rng(5)
    queries, offers, success = [], [], []
    for _ in range(12_000):
        wanted, shown, away = rng.integers(4), int(rng.integers(4)), bool(rng.random() < 0.5)
        moment = [at[ACTIVITIES[wanted]], *([at["stage:during"]] if away else [])]
        queries.append((np.array(moment), np.ones(len(moment), np.float32)))
        offers.append((np.array([at[f"service:{OFFERS[shown]}"]]), np.ones(1, np.float32)))
        tours = 5.0 * (away and OFFERS[shown] == "tour")
        success.append(rng.random() < taken(wanted == shown, tours))
    person = np.arange(len(success))
    theirs = replace(
        ours, newest_ms=TRAINED, queries=queries, offers=offers,
        success=np.array(success), person=person,
    )  # fmt: skip
    model, asked, offered = scikit_learn.fit(theirs)
    return scikit_learn.export(model, theirs, asked, offered)


def taken(fits: bool, more: float = 0.0) -> float:
    """The chance that a guest takes an offer: here always without `more`, a logit."""
    return float(1 / (1 + np.exp(-TRUTH.base - TRUTH.match * fits - more)))


def serve(edge: EdgeClient, luck: random.Random) -> Counter[str]:
    """A crowd on its journey; what it was shown."""
    shown: Counter[str] = Counter()
    for _ in range(CROWD):
        activity = luck.randrange(4)
        here = Context(stage="during", activity=ACTIVITIES[activity].removeprefix("activity:"))
        decision = edge.decide(here, "screen")
        assert decision.offer is not None
        shown[decision.offer.id] += 1
        if luck.random() < taken(decision.offer.id == OFFERS[activity]):
            edge.report(decision, "buy")
    return shown


def test_one_that_the_gate_lets_pass_is_taken_back_by_what_devices_report(
    gate_house: House,
) -> None:
    house = gate_house
    house.start()
    own = said_by(house, "models", "list")["current"]
    # What a training reaches for persons it has not seen tells the gate that theirs did not cheat.
    said_by(house, "train", "--quick", "--seed", 1)
    said_by(house, "models", "examples", house.root / "handout")
    file = house.root / "theirs.onnx"
    file.write_bytes(from_elsewhere(house.root / "handout"))
    with both_sides(house, "all") as devices:
        luck = random.Random(1)
        ours = [edge for edge, canary in devices if canary]
        others = [edge for edge, canary in devices if not canary]
        model = said_by(house, "models", "import", file)["model"]
        said_by(house, "models", "promote", model)
        said_by(house, "models", "limits", "--latency-us", 5_000)  # how busy this machine is
        said = said_by(house, "publish", "--share", "50%", "--watch", "--first-look", 0.06)
        # In the log nobody is on a journey. Now they set out.
        assert (said["version"], said["model"], said["gate"]) == (2, model, "passed"), said
        until(lambda: all(edge.status.release == 2 for edge in ours), what="they have it")
        shown = sum((serve(edge, luck) for edge in ours), Counter())
        assert shown["tour"] > 0.7 * shown.total()
        for edge in others:
            assert serve(edge, luck)["tour"] < 0.5 * CROWD
        assert [edge.flush(10) for edge, _ in devices] == [0] * len(devices)

        until(lambda: all(edge.status.release == 3 for edge in ours), 40, "it goes back")
        assert serve(ours[0], luck)["tour"] < 0.5 * CROWD

    found = said_by(house, "releases", "canary")
    look = found["looks"][-1]
    assert (found["version"], found["state"], look["action"]) == (2, "rolled back", "roll back")
    assert look["why"].startswith("it is worse: ")
    sides = look["figures"]["canary"], look["figures"]["others"]
    assert [side["devices"] for side in sides] == [LEAST, LEAST]
    rates = [side["successes"] / side["decisions"] for side in sides]
    assert rates[0] < 0.8 * rates[1]

    releases = {
        one["version"]: one["state"] for one in said_by(house, "releases", "list")["releases"]
    }
    assert releases == {1: "superseded", 2: "withdrawn", 3: "in force"}
    listed = said_by(house, "models", "list")
    assert listed["current"] == own
    assert listed["history"][-1]["kind"] == "rolled back"
    assert listed["history"][-1]["reason"] == f"release 2 was rolled back: {look['why']}"
    assert {one["id"]: one["releases"] for one in listed["models"]}[model] == [2]
    assert said_by(house, "models", "show", model)["gate"][-1]["outcome"] == "passed"
    assert f"release 2 of channel stable: roll back, because {look['why']}" in house.log.read_text()
    assert said_by(house, "publish")["model"] == own  # theirs does not come again
