"""Whether decisions can be made again from their records, and that differences are told."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.context import Context
from edge_sdk.decision import Tier
from edge_sdk.engine.decide import check_replay, coarse, decide, explain, replay
from edge_sdk.engine.fake_release import SharedDna, release_from_documents
from edge_sdk.engine.record import recorded_scores
from edge_sdk.engine.release import Release
from edge_sdk.engine.what_if import what_if
from edge_sdk.engine.withheld import Terms
from edge_sdk.errors import UsageError
from edge_sdk.runtime.loading import open_bundle
from genome_edge.v1 import event_pb2
from tests.candidates import candidate_ids
from tests.unit.device_town import Town
from tests.unit.test_engine import AGREED, AT_HOTEL, Genome, town
from tests.unit.test_explain import NOON


def recorded(placement: str = "feed", slots: int = 3, **more: Any) -> event_pb2.DecisionRecord:
    release = town()
    genome = Genome(release, drink__beer=5.0)
    _, record = decide(release, AT_HOTEL, placement, slots, genome=genome, consents=AGREED, **more)
    return record.to_proto()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"blocked": frozenset(["taxi"])},
        {"terms": Terms(Tier.HOUSE)},
        {"terms": Terms(Tier.RESTRICTED)},
        {"terms": Terms(Tier.STALE)},
        {"placement": "nowhere"},
        {"placement": "screen", "slots": 5, "terms": Terms(Tier.HOUSE)},
        {"blocked": frozenset(["taxi", "beer", "coffee"])},
    ],
)
def test_every_kind_of_decision_can_be_made_again(more: dict[str, Any]) -> None:
    record = recorded(**more)
    again = replay(town(), record)
    assert check_replay(town(), record) == []
    assert again.id == record.decision_id.hex()
    assert [slot.reason for slot in again.slots] == [slot.reason for slot in record.slots]
    assert [slot.offer.id if slot.offer else "" for slot in again.slots] == [
        slot.offer for slot in record.slots
    ]


def test_records_that_cannot_be_replayed() -> None:
    with pytest.raises(UsageError, match="release 1; this is release 2"):
        replay(town(version=2), recorded())
    with pytest.raises(UsageError, match="coarse"):
        replay(town(), coarse(recorded()))
    odd = recorded()
    odd.tier = "sleepy"
    with pytest.raises(UsageError, match="sleepy"):
        replay(town(), odd)


def raise_score(record: event_pb2.DecisionRecord, by: int) -> None:
    """Change the recorded score of the first candidate."""
    scores = recorded_scores(record)
    scores[0] += by
    record.scores = scores.tobytes()


def test_differences_are_told_in_sentences() -> None:
    record = recorded()
    record.slots[0].propensity = 0.5
    (said,) = check_replay(town(), record)
    assert said.startswith("slot 0 is ")
    assert "0.500000" in said

    record = recorded()
    record.candidate_runs.extend([5, 1])
    assert any("candidates" in said for said in check_replay(town(), record))

    record = recorded()
    record.capped.append("taxi")
    assert check_replay(town(), record) != []

    record = recorded("lobby", 1)
    record.scored_by = "another kind of processor"
    raise_score(record, 3)  # still the best, so only the model can tell
    record.slots[0].score += 3
    (said,) = check_replay(town(), record)
    assert "scores taxi" in said

    raise_score(record, -2)
    record.slots[0].score -= 2  # another processor may round otherwise
    assert check_replay(town(), record) == []
    record.scored_by = recorded("lobby", 1).scored_by  # the same one may not
    (said,) = check_replay(town(), record)
    assert "scores taxi" in said


def test_scores_of_other_candidates_are_not_used() -> None:
    record = recorded("lobby", 1)
    assert candidate_ids(record, town())[0] == "taxi"
    record.candidate_runs[0] += 1
    raise_score(record, -recorded_scores(record)[0])
    again = replay(town(), record)
    assert again.offer is not None
    assert again.offer.id == "taxi"


def test_the_seed_decides() -> None:
    record = recorded()
    outcomes = set()
    for seed in range(30):
        record.seed = seed
        outcomes.add(tuple(s.offer.id for s in replay(town(), record).slots if s.offer))
    assert len(outcomes) > 2


def test_who_scored_is_in_the_record() -> None:
    record = recorded("lobby", 1)
    assert record.scored_by.startswith(f"numpy {np.__version__} on {platform.machine()}")
    assert recorded(terms=Terms(Tier.HOUSE)).scored_by == "", "nobody scored"

    class Plugged(SharedDna):
        runtime = ""

    # A scorer that does not say what runs it is held to the tolerance, and not to the bit.
    words = town().vocabulary
    release = town(scorer=Plugged(words))
    _, made = decide(release, AT_HOTEL, "lobby")
    proto = made.to_proto()
    assert proto.scored_by == ""
    raise_score(proto, 1)
    proto.slots[0].score += 1
    assert check_replay(release, proto) == []


def test_a_model_scores_alike_to_the_bit_in_another_process(tmp_path: Path) -> None:
    """Many decisions from a model file: another process gives every score, bit for bit."""
    town_of = Town()
    file = tmp_path / "town.bundle"
    file.write_bytes(town_of.bundle())
    _, release = open_bundle(file.read_bytes(), None)
    release.warm()
    records = []
    for number in range(40):
        context = Context(place=("hotel", "bar")[number % 2], time=NOON.time)
        _, made = decide(release, context, "feed", 3, seed=number)
        records.append(made.to_proto())
    assert {"numpy", "onnxruntime"} & {one.scored_by.partition(" ")[0] for one in records}
    (tmp_path / "records").write_bytes(
        b"".join(len(b).to_bytes(4, "big") + b for b in (r.SerializeToString() for r in records))
    )
    script = (
        "import sys;from edge_sdk.engine.explain import check_replay;"
        "from edge_sdk.runtime.loading import open_bundle;"
        "from genome_edge.v1.event_pb2 import DecisionRecord as R;"
        "_, release = open_bundle(open(sys.argv[1], 'rb').read(), None);"
        "data = open(sys.argv[2], 'rb').read();n = 0\n"
        "while data:\n"
        "    size = int.from_bytes(data[:4], 'big')\n"
        "    found = check_replay(release, R.FromString(data[4:4 + size]))\n"
        "    assert not found, found\n"
        "    data = data[4 + size:];n += 1\n"
        "print(n)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(file), str(tmp_path / "records")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "40\n", done.stderr
    # One bit of one score is a difference.
    scores = recorded_scores(records[0])
    scores[-1] -= 1
    records[0].scores = scores.tobytes()
    records[0].slots[2].score -= 1
    (said,) = check_replay(release, records[0])
    assert "the model scores" in said


def test_who_is_held_out_is_checked_by_whom_it_was_for() -> None:
    release = release_from_documents([{"id": "a"}], [{"id": "p", "holdout": 0.5}])
    people = [bytes([number]) * 16 for number in range(1, 40)]
    made = {
        subject: decide(release, Context(), "p", subject=subject)[1].to_proto()
        for subject in people
    }
    assert {record.held_out for record in made.values()} == {True, False}
    for subject, record in made.items():
        assert check_replay(release, record, subject) == []
    held, shown = (next(r for r in made.values() if r.held_out is is_) for is_ in (True, False))
    of_held, of_shown = (next(s for s, r in made.items() if r is one) for one in (held, shown))
    assert check_replay(release, held, of_shown) == ["by the release this customer is not held out"]
    assert check_replay(release, shown, of_held) == ["by the release this customer is held out"]


def test_what_was_worth_too_little_must_still_be() -> None:
    def release(value: float) -> Release:
        offers = [{"id": "a", "value": value}, {"id": "b", "value": 4}]
        return release_from_documents(offers, [{"id": "p", "least_worth": 1}])

    record = decide(release(1), Context(), "p")[1].to_proto()
    assert check_replay(release(1.9), record) == []
    (said,) = check_replay(release(3), record)
    assert said.startswith("the model scores a 1.500000 here; it was at most 0.99")


TOWN, RECORDED = town(), recorded(seed=7).SerializeToString()
FIELDS = [
    one
    for one in event_pb2.DecisionRecord.DESCRIPTOR.fields
    if one.name not in ("release_version", "gamma", "floor")
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_record_is_refused_or_made_again(data: st.DataObject) -> None:
    """Nothing but UsageError, whatever a record that can still be parsed says."""
    record = event_pb2.DecisionRecord.FromString(RECORDED)
    for described in data.draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3)):
        value: Any = getattr(record, described.name)
        if described.is_repeated:
            if described.message_type is not None or data.draw(st.booleans()):
                del value[data.draw(st.integers(0, 3)) :]
            elif described.type == described.TYPE_STRING:
                value.append(data.draw(st.sampled_from(["", "taxi", "language:de", "BUDGET"])))
            else:
                value.append(data.draw(st.integers(0, 2**31 - 1)))
        elif described.type == described.TYPE_BYTES:
            setattr(record, described.name, data.draw(st.binary(max_size=40)))
        elif described.type == described.TYPE_STRING:
            words = st.sampled_from(["", "lobby", "nowhere", "house", "fresh", "not hex"])
            setattr(record, described.name, data.draw(words))
        elif described.type == described.TYPE_BOOL:
            setattr(record, described.name, data.draw(st.booleans()))
        else:
            setattr(record, described.name, data.draw(st.integers(0, 200)))
    for asked in (
        lambda: replay(TOWN, record),
        lambda: check_replay(TOWN, record, bytes(16)),
        lambda: explain(TOWN, record),
        lambda: what_if(TOWN, record, {"place": "bar"}),
    ):
        with contextlib.suppress(UsageError):
            asked()
