"""Keys that are replaced, offers that are stopped, canaries and files, with real devices."""

from __future__ import annotations

import json

from edge_sdk import Context, EdgeClient
from tests.e2e.house import House, until

AT_THE_HOTEL = Context(place="hotel", activity="flight-search", channel="kiosk")


def shown(edge: EdgeClient) -> str | None:
    """What the lobby shows to nobody in particular."""
    offer = edge.decide(AT_THE_HOTEL, "lobby-screen").offer
    return offer.id if offer is not None else None


def test_a_paused_offer_is_gone_within_seconds_and_stays_so_offline(house: House) -> None:
    house.start()
    store = house.enrol("lobby")
    with EdgeClient(store, house.address) as edge:
        assert edge.wait_ready(20)
        until(lambda: shown(edge) == "taxi-to-airport", what="the taxi is shown")
        house.server("offers", "pause", "taxi-to-airport", "--reason", "no cars today")
        until(lambda: shown(edge) != "taxi-to-airport", 5, "the taxi is stopped")
        until(lambda: house.server_json("offers", "stops")["informed"] == 1, 5, "it is known")
        house.kill()
        assert shown(edge) != "taxi-to-airport"
    with EdgeClient(store) as edge:
        assert edge.wait_ready(20)
        assert shown(edge) != "taxi-to-airport", "also after a restart without a server"
    house.start()
    with EdgeClient(store, house.address) as edge:
        house.server("offers", "resume", "taxi-to-airport")
        until(lambda: shown(edge) == "taxi-to-airport", 10, "the taxi is back")


def test_devices_follow_keys_that_were_replaced(house: House) -> None:
    house.start()
    stores = [house.enrol(name) for name in ("here", "away")]
    with EdgeClient(stores[0], house.address) as edge:
        assert edge.wait_ready(20)
        for role in ("release", "timestamp", "root", "release"):
            house.server("keys", "rotate", role)
        assert house.server_json("publish")["version"] == 2
        until(lambda: edge.status.release == 2, what="the release by the new key")
        house.server("offers", "pause", "taxi-to-airport")
        until(lambda: shown(edge) != "taxi-to-airport", 5, "stopped by the new key")
    house.kill()
    house.start()
    # Enrolled under the first root, and for the first time here after four more.
    with EdgeClient(stores[1], house.address) as edge:
        assert edge.wait_ready(20)
        until(lambda: edge.status.release == 2, what="the release by the new key")
    with EdgeClient(house.enrol("new"), house.address) as edge:
        assert edge.wait_ready(20)
        assert edge.status.release == 2


def test_a_canary_reaches_its_channel_and_is_rolled_back_everywhere(house: House) -> None:
    house.start()
    stores = {name: house.enrol(name) for name in ("stable", "beta")}
    house.server("devices", "channel", "beta", "beta")
    taxi = house.server_json("offers", "show", "taxi-to-airport")["offer"]
    picture = house.root / "taxi.png"
    picture.write_bytes(b"a picture of a taxi")
    taxi["assets"] = {"image": "taxi.png"}
    changed = house.root / "changed.jsonl"
    changed.write_text(json.dumps(taxi) + "\n")
    with (
        EdgeClient(stores["stable"], house.address) as stable,
        EdgeClient(stores["beta"], house.address) as beta,
    ):
        assert stable.wait_ready(20)
        assert beta.wait_ready(20)
        house.server("import", "offers", changed)
        assert house.server_json("publish", "--to", "beta")["version"] == 2
        until(lambda: beta.status.release == 2, what="the canary")
        assert stable.status.release == 1
        until(lambda: shown(beta) == "taxi-to-airport", what="the picture is there")
        offer = beta.decide(AT_THE_HOTEL, "lobby-screen").offer
        assert offer is not None
        assert offer.asset("image").read_bytes() == b"a picture of a taxi"
        assert house.server_json("releases", "promote", "2", "--to", "stable")["version"] == 3
        until(lambda: stable.status.release == 3, what="everybody has it")
        assert house.server_json("releases", "rollback")["content_of"] == 1
        until(lambda: stable.status.release == 4, what="back at the old content")
        until(lambda: shown(stable) == "taxi-to-airport", what="which needs no picture")
        assert beta.status.release == 2
