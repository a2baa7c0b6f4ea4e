"""Whether decisions can be made again from their records, and that differences are told."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.context import Context
from edge_sdk.decision import Tier
from edge_sdk.engine.decide import check_replay, coarse, decide, replay
from edge_sdk.engine.fake_release import SharedDna
from edge_sdk.engine.record import recorded_scores
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
