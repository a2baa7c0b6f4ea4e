"""A model from outside goes out to some devices, does badly there, and is taken back by itself."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

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
def lobby(house: House) -> Iterator[list[Screen]]:
    """Screens, so many that release 2 for half of them is for `LEAST`, and not for as many."""
    second = ReleaseRow(2, "stable", 0, 0, b"", 0, share=0.5)
    people = guests(house.root / "town")
    with ExitStack() as opened:
        screens: list[Screen] = []
        for number in range(100):
            sides = Counter(one.canary for one in screens)
            if min(sides[True], sides[False]) == LEAST:
                break
            name = f"screen-{number}"
            code = said_by(house, "devices", "enrol", "--audience", "app", "--name", name)["code"]
            with closing(DeviceStore.open(house.root / name)) as store:
                canary = second.covers(enrol(house.address, code, store, name, Config()).device_id)
            if sides[canary] < LEAST:
                edge = opened.enter_context(EdgeClient(house.root / name, house.address))
                mine = people[len(screens) :: 2 * LEAST]
                screens.append(Screen(edge, canary, mine, random.Random(len(screens))))
        for one in screens:
            assert one.edge.wait_ready(20)
        until(lambda: all(one.edge.status.genomes for one in screens), what="genomes are there")
        yield screens


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
