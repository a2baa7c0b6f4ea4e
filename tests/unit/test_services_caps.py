"""Caps on the server: taken before it answers, however many ask at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from tests.serving import add_thin, make_home, offer, publish_release, serving
from tests.unit.thin_clients import Thin


@pytest.mark.parametrize("placement", ["screen", "feed"])
def test_as_many_are_shown_as_there_are(tmp_path: Path, placement: str) -> None:
    home = make_home(tmp_path / "home")
    tenant = home.tenant("default")
    cap = [{"limit": 5, "over": "campaign"}]
    with closing(tenant.open_store()) as store:
        spring = {"campaign": "spring", "caps": cap, "priority": 1}
        store.put_documents(
            "offer",
            [
                offer("one", "service:one", **spring),
                offer("two", "service:two", **spring),
                offer("plain", "service:plain"),
            ],
        )
    publish_release(tenant)
    token = add_thin(tenant)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, token)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: thin.decide(placement, customer="ann"), range(24)))
        found = Counter(answer.slots[0].offer for answer in answers)
        assert found["one"] + found["two"] == 5
        assert sum(found.values()) == 24
        assert thin.decide(placement, customer="bob").slots[0].offer in ("one", "two")


def test_a_success_stops_an_offer_for_good(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    tenant = home.tenant("default")
    with closing(tenant.open_store()) as store:
        stop = {"stop_after": {"convert": True}, "priority": 1}
        store.put_documents("offer", [offer("card", "service:card", **stop)])
    publish_release(tenant)
    token = add_thin(tenant)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, token)
        first = thin.decide(customer="ann")
        assert first.slots[0].offer == "card"
        thin.outcome(first.decision_id, "view")
        assert thin.decide(customer="ann").slots[0].offer == "card"
        thin.outcome(first.decision_id, "buy")
        assert thin.decide(customer="ann").slots[0].offer != "card"
        assert thin.decide(customer="bob").slots[0].offer == "card"
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        assert Thin(channel, token).decide(customer="ann").slots[0].offer != "card"
