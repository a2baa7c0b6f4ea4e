"""Decisions for thin clients: the engine of devices, once for each request, in the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from genome_edge.v1 import decision_pb2
from genome_server.home import Home, Tenant
from genome_server.log import verify_log
from genome_server.log.erase import SERVER_CAPS
from genome_server.services import server_caps
from tests.serving import (
    add_audience,
    add_thin,
    make_home,
    offer,
    publish_release,
    serving,
    until,
)
from tests.unit.thin_clients import HOTEL, Thin, events, prepare, refusal


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return prepare(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def channel(home: Home) -> Iterator[grpc.Channel]:
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        yield channel


@pytest.fixture
def thin(channel: grpc.Channel, tenant: Tenant) -> Thin:
    return Thin(channel, add_thin(tenant))


def test_a_decision_comes_back_and_is_in_the_log(thin: Thin, tenant: Tenant) -> None:
    answer = thin.decide(moment=HOTEL, slots=2, customer="ann")
    assert len(answer.slots) == 2
    assert answer.reason == answer.slots[0].reason == "CHOSEN"
    assert answer.slots[0].content["title"]
    assert answer.slots[0].propensity == 1.0
    assert answer.release_version == 1
    subject, event = events(tenant)[-1]
    assert event.decision.decision_id.hex() == answer.decision_id
    assert [slot.offer for slot in event.decision.slots] == [slot.offer for slot in answer.slots]
    assert event.decision.genome_used
    assert not event.decision.scores
    assert not event.decision.regions
    with closing(tenant.open_store()) as store:
        assert subject == store.subject_of("app", "ann")


def test_nobody_gets_an_answer_too(thin: Thin, tenant: Tenant) -> None:
    answer = thin.decide()
    assert len(answer.slots) == 1
    subject, event = events(tenant)[-1]
    assert subject == bytes(16)
    assert not event.decision.genome_used


def test_whoever_is_not_in_the_audience_is_nobody(channel: grpc.Channel, tenant: Tenant) -> None:
    add_audience(tenant, "only-bob", ["bob"])
    thin = Thin(channel, add_thin(tenant, "only-bob"))
    outside, unknown = thin.decide(customer="ann"), thin.decide(customer="nobody at all")
    assert list(outside.unknown) == list(unknown.unknown) == ["unknown customer"]
    assert [subject for subject, _ in events(tenant)[-2:]] == [bytes(16)] * 2
    assert list(thin.decide(customer="bob").unknown) == []
    names = ("ann", "nobody at all")
    reasons = {refusal(thin.imprint, name, product="soap")[:2] for name in names}
    assert len(reasons) == 1
    assert reasons.pop()[0] == "NOT_IN_AUDIENCE"


def test_without_consent_no_genome_is_read(home: Home, thin: Thin, tenant: Tenant) -> None:
    with closing(tenant.open_store()) as store:
        eve = store.subject_of("app", "eve") or b""
        store.set_consents(eve, 0)
    thin.decide(customer="eve")
    subject, event = events(tenant)[-1]
    assert subject == eve
    assert not event.decision.genome_used


def test_the_same_request_is_answered_once(thin: Thin, tenant: Tenant) -> None:
    before = len(events(tenant))
    first = thin.decide(moment=HOTEL, request_id="visit-1")
    again = thin.decide(moment=HOTEL, request_id="visit-1")
    other = thin.decide(moment=HOTEL, request_id="visit-2")
    assert first == again
    assert other.decision_id != first.decision_id
    assert len(events(tenant)) == before + 2


def test_a_request_id_belongs_to_its_client(channel: grpc.Channel, tenant: Tenant) -> None:
    one, two = Thin(channel, add_thin(tenant)), Thin(channel, add_thin(tenant))
    first = one.decide(request_id="r").decision_id
    assert two.decide(request_id="r").decision_id != first


@pytest.mark.parametrize(
    ("moment", "says"),
    [
        (decision_pb2.Moment(cell="not a cell"), "H3 cell"),
        (decision_pb2.Moment(cell="40.7589,-73.9851"), "H3 cell"),
        (decision_pb2.Moment(time="yesterday"), "ISO 8601"),
        (decision_pb2.Moment(time="2026-01-31T12:00:00"), "offset"),
        (decision_pb2.Moment(stage="never"), "before, during, after"),
        (decision_pb2.Moment(attributes={"lat": "40.7"}), "lat"),
        (decision_pb2.Moment(place="x" * 500), "place"),
    ],
)
def test_a_moment_that_cannot_be(thin: Thin, moment: decision_pb2.Moment, says: str) -> None:
    reason, details, _ = refusal(thin.decide, moment=moment)
    assert reason == "INVALID_ARGUMENT"
    assert says in details


def test_what_is_not_there_names_the_nearest(thin: Thin) -> None:
    reason, details, facts = refusal(thin.decide, "scren")
    assert (reason, facts) == ("UNKNOWN_PLACEMENT", {"nearest": "screen"})
    assert "did you mean 'screen'" in details
    assert refusal(thin.decide, "screen", slots=65)[0] == "INVALID_ARGUMENT"
    assert "did you mean 'soap'" in refusal(thin.imprint, "ann", product="soup")[1]
    decided = thin.decide().decision_id
    assert "'click'" in refusal(thin.outcome, decided, "clck")[1]


def test_an_outcome_follows_its_decision_once(thin: Thin, tenant: Tenant) -> None:
    decided = thin.decide(customer="ann", slots=2)
    before = len(events(tenant))
    event_id = thin.outcome(decided.decision_id, slot=1, value_micros=52_000_000, event_id="ride-1")
    assert event_id == thin.outcome(decided.decision_id, slot=1, event_id="ride-1") == "ride-1"
    assert thin.outcome(decided.decision_id, "view")
    outcomes = events(tenant)[before:]
    assert len(outcomes) == 2
    subject, event = outcomes[0]
    with closing(tenant.open_store()) as store:
        assert subject == store.subject_of("app", "ann")
    said = event.outcome
    assert (said.kind, said.slot, said.offer) == ("click", 1, decided.slots[1].offer)
    assert (said.placement, said.value_micros) == ("screen", 52_000_000)
    assert said.decision_id.hex() == decided.decision_id


def test_outcomes_that_follow_nothing(thin: Thin, channel: grpc.Channel, tenant: Tenant) -> None:
    decided = thin.decide().decision_id
    assert refusal(thin.outcome, "ab" * 16)[0] == "UNKNOWN_DECISION"
    assert refusal(thin.outcome, "junk")[2] == {"field": "decision_id"}
    assert refusal(thin.outcome, decided, slot=1)[2] == {"field": "slot"}
    assert refusal(thin.outcome, decided, value_micros=-1)[2] == {"field": "value_micros"}
    add_audience(tenant, "strangers", [])
    stranger = Thin(channel, add_thin(tenant, "strangers"))
    assert refusal(stranger.outcome, decided)[0] == "UNKNOWN_DECISION"


def test_a_moment_may_say_its_language(thin: Thin, tenant: Tenant) -> None:
    thin.decide(moment=decision_pb2.Moment(language="de-CH"))
    assert "language:de-ch" in events(tenant)[-1][1].decision.context_markers


def test_an_imprint_changes_the_next_genome(thin: Thin, tenant: Tenant) -> None:
    def row() -> bytes:
        with closing(tenant.open_store()) as store:
            record = store.genome(store.subject_of("app", "bob") or b"")
        assert record is not None
        return record.row

    before = row()
    first = thin.imprint("bob", product="soap", amount_micros=3_000_000, interaction_id="till-7")
    assert first == thin.imprint("bob", product="soap", interaction_id="till-7") == "till-7"
    until(lambda: row() != before)
    dna = [{"marker": "claim:organic", "salience_q8": 256}]
    assert thin.imprint("bob", "view", dna=dna)
    said = [e.interaction for _, e in events(tenant) if e.HasField("interaction")]
    assert [i.interaction_id for i in said].count("till-7") == 1


def test_imprints_that_make_no_sense(thin: Thin) -> None:
    dna = [{"marker": "claim:organic", "salience_q8": 256}]
    for field, fields in (
        ("product", {}),
        ("product", {"product": "soap", "dna": dna}),
        ("dna", {"dna": [{"marker": "no namespace", "salience_q8": 1}]}),
        ("dna", {"dna": [{"marker": "a:b", "salience_q8": 0}]}),
        ("dna", {"dna": dna * 65}),
        ("kind", {"product": "soap", "kind": "steal"}),
        ("amount_micros", {"product": "soap", "amount_micros": -1}),
    ):
        assert refusal(thin.imprint, "ann", **fields)[2] == {"field": field}, fields


@pytest.mark.parametrize("worth", [1, 5_000])
def test_caps_outlive_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth: int
) -> None:
    """From the log, and from what was kept of it."""
    monkeypatch.setattr(server_caps, "_WORTH_EVENTS", worth)
    home = prepare(tmp_path / "home")
    tenant = home.tenant("default")
    token = add_thin(tenant)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, token)
        assert thin.decide(customer="ann").slots[0].offer == "once"
        assert thin.decide(customer="ann").slots[0].offer != "once"
        assert thin.decide(customer="bob").slots[0].offer == "once"
        assert thin.decide().slots[0].offer == thin.decide().slots[0].offer == "once"
        kept = thin.decide("feed", customer="eve", request_id="r")
        assert kept.slots[0].offer == "once"
        assert thin.decide("feed", customer="eve").slots[0].offer != "once", "held until it is seen"
        thin.outcome(kept.decision_id, "view")
        assert thin.decide("feed", customer="eve").slots[0].offer != "once"
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, token)
        assert thin.decide("feed", customer="eve", request_id="r") == kept
        assert thin.outcome(kept.decision_id, "click")
        for name in ("ann", "bob", "eve"):
            assert thin.decide("feed", customer=name).slots[0].offer != "once", name
    assert (tenant.dir / SERVER_CAPS).exists() == (worth == 1)
    # Under another incarnation, too: a log that was restored.
    with closing(sqlite3.connect(tenant.log_path)) as log, log:
        log.execute("UPDATE meta SET value = randomblob(16) WHERE key = 'incarnation'")
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, token)
        for name in ("ann", "bob", "eve"):
            assert thin.decide("feed", customer=name).slots[0].offer != "once", name
    assert verify_log(tenant.log_path).whole


def test_a_new_release_is_used_at_once(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    tenant = home.tenant("default")
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        thin = Thin(channel, add_thin(tenant))
        assert refusal(thin.decide)[0] == "NO_RELEASE"
        publish_release(tenant)
        assert thin.decide().release_version == 1
        with closing(tenant.open_store()) as store:
            store.put_documents("offer", [offer("best", "service:best", value=9.0)])
        publish_release(tenant)
        answer = thin.decide()
        assert (answer.release_version, answer.slots[0].offer) == (2, "best")
