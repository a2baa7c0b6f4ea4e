"""`genome-edge decide` and `replay`: decisions made, explained, made again, and made otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import Context, EdgeClient
from edge_sdk.cli.decide import read_context
from edge_sdk.cli.parser import Misread, make_parser
from edge_sdk.store.device import DeviceStore
from tests.unit.contract_server import CODE, ContractServer
from tests.unit.device_client import FAST
from tests.unit.device_town import Town, customer, filled
from tests.unit.publisher import Publisher
from tests.unit.shells import Shell, bundle


@pytest.fixture
def house(contract_house: ContractServer) -> ContractServer:
    """The server of these tests."""
    return contract_house


def test_the_language_of_a_decision_may_be_an_option_or_an_attribute() -> None:
    for words in (["--language", "de-CH"], ["--attr", "language=de-CH"]):
        options = make_parser().parse_args(["decide", "--placement", "lobby", *words])
        assert read_context(options).language == "de-ch"


def test_what_went_on_before_is_an_option() -> None:
    said = ["--recent", "flight-search=300", "--recent", "a=b=0.5"]
    options = make_parser().parse_args(["decide", "--placement", "lobby", *said])
    same = Context(recent=[("flight-search", 300.0), ("a=b", 0.5)], time=options.time)
    assert read_context(options).recent == same.recent


@pytest.mark.parametrize("said", ["flight-search", "flight-search=", "=300", "a=soon"])
def test_what_went_on_before_needs_its_seconds(said: str) -> None:
    with pytest.raises(Misread, match="is not ACTIVITY=SECONDS"):
        make_parser().parse_args(["decide", "--placement", "lobby", "--recent", said])


def test_decide_and_replay(house: ContractServer, device: Shell) -> None:
    house.stop()
    made = device.json(
        "decide", "--placement", "lobby", "--place", "hotel", "--activity", "flight-search",
        "--lat", "40.7", "--lng", "-74.0", "--attr", "weather=sunny", "--slots", "2", "--explain",
    )  # fmt: skip
    assert made["slots"][0]["offer"] == "taxi"
    assert made["slots"][0]["content"] == {"title": "Taxi 1"}
    assert made["slots"][1]["reason"] == "NO_MORE"
    assert (made["reason"], made["release"], made["tier"]) == ("CHOSEN", 1, "fresh")
    again = device.json("replay", made["id"])
    assert again["identical"] is True
    assert again["differences"] == []
    assert again["slots"] == made["slots"]
    text = device.run("replay", made["id"], "--explain")
    assert text.startswith("identical")
    assert made["id"] in text


def test_decide_says_what_a_person_needs(device: Shell) -> None:
    text = device.run("decide", "--placement", "lobby", "--explain")
    assert text.startswith("slot 0  taxi - Taxi 1 (CHOSEN, score 0.5000")
    typo = device.run("decide", "--placement", "loby", code=1)
    assert "did you mean 'lobby'" in typo
    device.run("decide", "--placement", "lobby", "--cell", "nonsense", code=2)
    assert "cell" in device.err
    device.run("decide", "--placement", "lobby", "--time", "noon", code=2)
    device.run("decide", "--placement", "lobby", "--seed", "-1", code=2)
    device.run("decide", "--placement", "lobby", "--slots", "0", code=2)
    device.run("decide", "--placement", "lobby", "--recent", "flight-search=-1", code=2)


def test_decide_draws_the_same_with_the_same_seed(device: Shell) -> None:
    command = ["decide", "--placement", "lobby", "--seed", "7"]
    one, two = device.json(*command), device.json(*command)
    assert (one["seed"], one["slots"]) == (7, two["slots"])
    assert one["id"] != two["id"]


def test_a_dry_run_leaves_no_trace(device: Shell) -> None:
    made = device.json("decide", "--placement", "lobby", "--dry-run")
    assert device.json("status")["outbox"] == 0
    assert device.json("replay", made["id"], code=2)["error"]["kind"] == "UnknownDecision"
    device.run("decide", "--placement", "lobby")
    assert device.json("status")["outbox"] == 1


def test_a_store_without_a_release_decides_nothing_and_says_why(
    house: ContractServer, shell: Shell
) -> None:
    shell.run("enrol", "--server", house.address, "--code", CODE)
    made = shell.json("decide", "--placement", "lobby", code=1)
    assert made["reason"] == "NO_RELEASE"
    shell.run("decide", "--placement", "lobby", code=1)
    assert "sync --once" in shell.err


def test_decide_from_a_bundle_needs_no_store(tmp_path: Path, shell: Shell) -> None:
    file = bundle(tmp_path / "town.bundle", 4)
    made = shell.json("decide", "--placement", "lobby", "--bundle", str(file))
    assert (made["slots"][0]["offer"], made["release"]) == ("taxi", 4)
    assert not shell.store.exists()
    file.write_bytes(file.read_bytes()[:-40])
    assert "TrustError" in json.dumps(
        shell.json("decide", "--placement", "lobby", "--bundle", str(file), code=1)
    )
    missing = str(tmp_path / "missing")
    shell.run("decide", "--placement", "lobby", "--bundle", missing, code=1)
    assert "missing" in shell.err


def test_replay_needs_the_release_and_says_when_it_is_gone(
    house: ContractServer, device: Shell, tmp_path: Path
) -> None:
    made = device.json("decide", "--placement", "lobby")
    for version in (2, 3):
        house.release = house.publisher.release(version)
        device.run("sync", "--once")
        if version == 2:
            assert device.json("replay", made["id"])["identical"], "the previous one is kept"
    assert "--bundle" in device.json("replay", made["id"], code=1)["error"]["message"]
    file = bundle(tmp_path / "old.bundle", 1, house.publisher)
    assert device.json("replay", made["id"], "--bundle", str(file))["identical"]
    other = bundle(tmp_path / "other.bundle", 2, house.publisher)
    device.run("replay", made["id"], "--bundle", str(other), code=1)
    for wrong in ("xyz", "00" * 16):
        device.run("replay", wrong, code=2)


def test_replay_says_what_differs(device: Shell, tmp_path: Path) -> None:
    made = device.json("decide", "--placement", "lobby")
    offers = Publisher().contents(1)["offers"].replace(b"\x04taxi", b"\x04limo")
    file = bundle(tmp_path / "other.bundle", change={"offers": offers, "golden": b""})
    found = device.json("replay", made["id"], "--bundle", str(file), code=1)
    assert found["identical"] is False
    assert any("limo" in difference for difference in found["differences"])
    text = device.run("replay", made["id"], "--bundle", str(file), code=1)
    assert text.startswith("different:")


def test_many_decisions_are_replayed_at_once(
    house: ContractServer, device: Shell, tmp_path: Path
) -> None:
    made = [
        device.json("decide", "--placement", "lobby", "--seed", str(seed))["id"]
        for seed in range(6)
    ]
    assert "6 of 6 decisions come out the same" in device.run("replay", "--all")
    some = device.json("replay", "--last", "2")
    assert (some["decisions"], some["identical"], some["different"]) == (2, 2, {})
    # Of another release under the same number everything differs.
    offers = Publisher().contents(1)["offers"].replace(b"\x04taxi", b"\x04limo")
    file = bundle(tmp_path / "other.bundle", change={"offers": offers, "golden": b""})
    found = device.json("replay", "--all", "--bundle", str(file), code=1)
    assert set(found["different"]) == set(made)
    text = device.run("replay", "--last", "3", "--bundle", str(file), code=1)
    assert "0 of 3 decisions come out the same" in text
    assert f"  {made[5]}: " in text
    # What was decided from releases that are gone is said, and is not called a difference.
    for version in (2, 3):
        house.release = house.publisher.release(version)
        device.run("sync", "--once")
    gone = device.json("replay", "--all", code=1)
    assert (gone["identical"], gone["different"]) == (0, {})
    assert list(gone["missing"].values()) == [6]
    old = bundle(tmp_path / "old.bundle", 1, house.publisher)
    assert device.json("replay", "--all", "--bundle", str(old))["identical"] == 6


def test_replay_is_asked_about_one_or_many(device: Shell) -> None:
    for wrong in (["--all", "--explain"], ["--last", "1", "--what-if", "place=bar"]):
        device.run("replay", *wrong, code=2)
    for misread in (
        [],
        ["--all", "--last", "3"],
        ["--last", "0"],
        ["00" * 16, "--all"],
        ["00" * 16, "--what-if", "bar"],
    ):
        with pytest.raises(SystemExit, match="2"):
            device.run("replay", *misread)


def test_a_decision_without_a_release_has_nothing_to_be_made_again(shell: Shell) -> None:
    DeviceStore.open(shell.store).close()
    made = shell.json("decide", "--placement", "lobby", code=1)
    found = shell.json("replay", "--all")
    assert (found["decisions"], found["identical"], found["without_release"]) == (1, 0, 1)
    assert "without a release" in shell.json("replay", made["id"], code=1)["error"]["message"]
    told = shell.run("replay", "--last", "5")
    assert told.splitlines() == ["1 made without a release: there is nothing to make again"]


def test_those_without_a_release_are_counted_apart(house: ContractServer, shell: Shell) -> None:
    DeviceStore.open(shell.store).close()
    shell.json("decide", "--placement", "lobby", code=1)
    file = bundle(shell.store.parent / "one.bundle", 1, house.publisher)
    with EdgeClient(shell.store, bundle=file) as edge:
        assert edge.wait_ready(10)
    shell.json("decide", "--placement", "lobby")
    assert shell.run("replay", "--last", "5").splitlines() == [
        "1 of 1 decisions come out the same",
        "1 made without a release: there is nothing to make again",
    ]


def test_what_if(house: ContractServer, device: Shell, tmp_path: Path) -> None:
    command = ["decide", "--placement", "lobby", "--place", "hotel", "--seed", "3"]
    made = device.json(*command, "--what-if", "stage=before", "--what-if", "slots=2")
    assert made["what_if"]["changes"] == {"stage": "before", "slots": "2"}
    assert len(made["what_if"]["slots"]) == 2
    assert "stage:before" in made["what_if"]["moment"]
    assert any("slot 1" in said for said in made["what_if"]["differences"])
    text = device.run("replay", made["id"], "--what-if", "weather=")
    assert text.startswith("identical")
    assert "what if weather=:" in text
    assert "the same would have come out" in text
    device.run("replay", made["id"], "--what-if", "slots=0", code=2)
    assert "from 1 to 64" in device.err
    # A bundle of another release says what that would have brought.
    offers = Publisher().contents(2)["offers"].replace(b"\x04taxi", b"\x04limo")
    file = bundle(tmp_path / "other.bundle", 2, change={"offers": offers, "golden": b""})
    found = device.json("replay", made["id"], "--bundle", str(file))
    assert found["identical"]
    assert found["what_if"]["release"] == 2
    assert found["what_if"]["slots"][0]["offer"] == "limo"


def test_an_explanation_tells_all(device: Shell) -> None:
    made = device.json("decide", "--placement", "lobby", "--place", "hotel", "--explain")
    assert made["considered"]["candidates"] == 1
    (slot,) = made["explained"]
    assert slot["draw"]["chances"] == [{"offer": "taxi", "chance": 1.0}]
    assert {one["source"] for one in slot["own"]} <= {"offer"}
    assert "place:hotel" in made["moment"]
    text = device.run("decide", "--placement", "lobby", "--explain")
    assert "1 to draw from" in text


def test_what_the_genome_of_a_visit_decided_is_not_called_a_difference(shell: Shell) -> None:
    offers: list[dict[str, Any]] = [
        {"id": "gold", "all_of": ["brand:acme"], "value": 3},
        {"id": "any", "dna": ["service:taxi"]},
    ]
    filled(shell.store, Town(offers=offers, placements=[{"id": "lobby"}]))
    with EdgeClient(shell.store, config=FAST) as edge:
        assert edge.wait_ready(10)
        with edge.session() as visit:
            visit.imprint("buy", dna=["brand:acme"])
            seen = visit.decide(Context(), "lobby")
        known = edge.decide(Context(), "lobby", customer=customer(1))
        edge.decide(Context(), "lobby")
    assert seen.offer is not None
    assert (seen.offer.id, seen.genome_used) == ("gold", True)
    found = shell.json("replay", "--all")
    assert (found["identical"], found["forgotten"], found["different"]) == (2, 1, {})
    assert "not to be checked" in shell.run("replay", "--all")
    assert shell.json("replay", known.id)["notes"] == []
    one = shell.json("replay", seen.id, code=1)
    assert "of a visit" in one["notes"][0]
    assert "of a visit" in shell.run("replay", seen.id, "--explain", code=1)
