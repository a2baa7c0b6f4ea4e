"""Decisions of a log done again, and what another policy would have done in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.decide import coarse, decide
from edge_sdk.engine.fake_release import SharedDna, release_from_documents
from edge_sdk.engine.policy import SquareCB
from edge_sdk.engine.release import Release
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.learning.credit import CreditRules
from genome_server.learning.survey import survey
from genome_server.offpolicy.estimate import evaluate
from genome_server.offpolicy.logged import Slate
from genome_server.offpolicy.needs import NOTHING
from genome_server.offpolicy.past import NO_GENOME, Past, PastCounts, read_past
from genome_server.offpolicy.target import Asked, Decisions, Rebuilt, rebuild
from tests.unit._learning import VOCABULARY, Log, at, decision_id, who

NOW = 1_790_000_000_000
OFFERS: list[dict[str, Any]] = [
    {"id": "a", "dna": ["x:1"], "value": 3, "exclusivity_group": "g", "category": "one"},
    {"id": "b", "dna": ["x:2"], "value": 2, "exclusivity_group": "g", "category": "two"},
    {"id": "c", "dna": ["x:3"], "value": 1, "category": "one"},
    {"id": "d", "dna": ["x:1", "x:3"], "value": 2, "category": "one"},
    {"id": "e", "dna": ["x:2"], "value": 4, "category": "two"},
    {"id": "f", "dna": ["x:4"], "value": 1, "priority": 3, "all_of": ["activity:vip"]},
    {"id": "g", "dna": ["x:3"], "value": 1, "priority": 3, "all_of": ["activity:vip"]},
]
SCREEN: dict[str, Any] = {"id": "screen", "slots": 4, "explorer": "squarecb", "gamma": 5}


class Genome:
    """What somebody likes: markers by index, each with weight 1.5."""

    def __init__(self, *indices: int) -> None:
        self.indices = np.array(indices, np.int64)
        self.weights = np.full(len(indices), 1.5, np.float32)

    def features(self, now_hour: int) -> tuple[Any, Any]:
        return self.indices, self.weights


def town(**placement: Any) -> Release:
    return release_from_documents(OFFERS, [{**SCREEN, **placement}])


def decided(
    release: Release, number: int, *, slots: int = 3, activity: str = "walk",
    genome: Genome | None = None, success: Sequence[bool] = (),
) -> Past:  # fmt: skip
    """A decision of the engine as the log has it, with the genome that it was made with."""
    _, record = decide(
        release, Context(activity=activity), "screen", slots, genome=genome, consents=255,
        seed=number * 7919, decision_id=number.to_bytes(16), now_ms=NOW,
    )  # fmt: skip
    known = (genome.indices, genome.weights) if genome is not None else NO_GENOME
    said = coarse(record.to_proto())
    came = tuple(success) or (False,) * len(said.slots)
    return Past(said, number, number, NOW + number, 1.0, known, came)


def again(release: Release, *past: Past) -> tuple[list[Rebuilt], Counter[str]]:
    return rebuild(past, {release.version: release}.get, release.vocabulary)[:2]


def many(release: Release, number: int = 300) -> list[Past]:
    rng = np.random.default_rng(0)
    size = len(release.vocabulary)
    return [
        decided(
            release, n, slots=1 + n % 4, activity=("walk", "vip")[n % 5 == 0],
            genome=Genome(*rng.choice(size, 3, replace=False)) if n % 3 else None,
        )
        for n in range(number)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "placement",
    [{}, {"most_per_category": 1}, {"explorer": "greedy"}, {"floor": 0.5, "gamma": 2.5}],
)
def test_whatever_a_device_decided_comes_out_again(placement: Mapping[str, Any]) -> None:
    release = town(**placement)
    kept, why = again(release, *many(release))
    assert not why
    assert len(kept) == 300
    assert max(len(one.draws) for one in kept) >= 3
    decisions = Decisions(kept, release.vocabulary)
    # The policy that decided, asked what it would have done, says what is recorded.
    said = decisions.ask(Asked([release.scorer], {}))
    assert said.policy.chance == pytest.approx(decisions.logged.chance, rel=1e-6)


def test_another_genome_than_the_device_had_is_noticed() -> None:
    release = town()
    index = release.vocabulary.index("x:1")
    assert index is not None
    past = [decided(release, n, genome=Genome(index)) for n in range(50)]
    assert len(again(release, *past)[0]) == 50
    kept, why = again(release, *(one._replace(genome=NO_GENOME) for one in past))
    assert not kept
    assert {name.partition(":")[0] for name in why} == {
        "its score does not come out",
        "its chance does not come out",
    }


def test_what_cannot_be_done_again_is_counted_with_its_reason() -> None:
    release = town()
    good = decided(release, 1)
    runs, slot = good.record.candidate_runs, good.record.slots[0]

    def wrong(**fields: Any) -> Past:
        record = event_pb2.DecisionRecord()
        record.CopyFrom(good.record)
        for name, value in fields.items():
            record.ClearField(name)
            getattr(record, name).extend(value) if isinstance(value, list) else setattr(
                record, name, value
            )
        return good._replace(record=record)

    cases = {
        "its release is gone": wrong(release_version=99),
        "its release does not have its placement": wrong(placement="elsewhere"),
        "its record cannot be read": wrong(candidate_runs=[*runs, 1]),
        "its record names offers that its release does not have": wrong(candidate_runs=[0, 20]),
        "it shows what was not to choose from": wrong(
            slots=[event_pb2.SlotRecord(offer="f", score=slot.score, propensity=0.5)]
        ),
        "its score does not come out: the device knew something else": wrong(
            slots=[
                event_pb2.SlotRecord(
                    offer=slot.offer, score=slot.score + 70, propensity=slot.propensity
                )
            ]
        ),
        "its chance does not come out: the device knew something else": wrong(gamma=500.0),
    }
    for reason, past in cases.items():
        assert again(release, past) == ([], Counter({reason: 1}))
    choosy = town(least_worth=0.5)
    assert again(choosy, decided(choosy, 1))[1] == {"its placement asks for a least worth": 1}
    by_version = {choosy.version: choosy}.get
    known = rebuild([decided(choosy, 1)], by_version, choosy.vocabulary)[2]
    assert [one.past.record for one in known] == [decided(choosy, 1).record], "what is known of it"
    alone = release_from_documents(OFFERS[:1], [SCREEN])
    assert again(alone, decided(alone, 1))[1] == {"it had no choice": 1}


class Contrary(SharedDna):
    """Likes what the usual one does not."""

    def values(self, indices: Any, weights: Any, vectors: Any) -> Any:
        return 1 - super().values(indices, weights, vectors)


def test_another_policy_is_asked_what_it_would_have_shown() -> None:
    release = town()
    genome = Genome(0, 3)
    kept, _ = again(release, decided(release, 1, slots=1, genome=genome))
    decisions = Decisions(kept, release.vocabulary)
    explores = SquareCB(20.0, 0.2)
    said = decisions.ask(Asked([Contrary(release.vocabulary)], {"screen": explores}))
    # What it does show, on devices of its own.
    other = town(gamma=20, floor=0.2)
    other._make_scorer = lambda: Contrary(other.vocabulary)
    shown = Counter(
        decided(other, n, slots=1, genome=genome).record.slots[0].offer for n in range(4_000)
    )
    for number, offer in enumerate(decisions.offers):
        assert said.share[number] == pytest.approx(shown[offer] / 4_000, abs=0.025)
    assert said.share.sum() == pytest.approx(1)
    first = kept[0].past.record.slots[0].offer
    assert said.policy.chance[0, 0] == said.share[decisions.offers.index(first)]


def test_each_person_is_asked_about_by_a_model_of_their_own() -> None:
    release = town()
    kept, _ = again(release, *many(release, 60))
    decisions = Decisions(kept, release.vocabulary)
    usual, contrary = release.scorer, Contrary(release.vocabulary)
    both = decisions.ask(Asked([usual, contrary], {})).policy.chance
    one = decisions.ask(Asked([usual], {})).policy.chance
    other = decisions.ask(Asked([contrary], {})).policy.chance
    folds = np.array([each.past.fold % 2 for each in kept])
    assert (both[folds == 0] == one[folds == 0]).all()
    assert (both[folds == 1] == other[folds == 1]).all()
    assert not np.allclose(one, other)


def test_a_success_is_worth_what_its_offer_is() -> None:
    release = town()
    past = [decided(release, n, slots=2, success=(n % 2 == 0, True)) for n in range(20)]
    kept, _ = again(release, *past)
    logged = Decisions(kept, release.vocabulary).logged
    worth = {one["id"]: one["value"] for one in OFFERS}
    for row, one in enumerate(kept):
        first, second = one.past.record.slots
        assert logged.reward[row, 0] == (worth[first.offer] if row % 2 == 0 else 0)
        assert logged.reward[row, 1] == worth[second.offer]


def test_where_slots_influence_each_other_whole_slates_are_weighed() -> None:
    release = town()
    # The first slot succeeds where the last one holds "e": no order of reading explains that.
    likes = [release.vocabulary.index(name) or 0 for name in ("x:1", "x:2")]
    past = []
    for number in range(900):
        one = decided(release, number, genome=Genome(*likes))
        success = (one.record.slots[-1].offer == "e", number % 3 == 0, False)
        past.append(one._replace(success=success[: len(one.record.slots)]))
    kept, _ = again(release, *past)
    asked = Asked([Contrary(release.vocabulary)], {})
    plain, joint = (
        Decisions(kept, release.vocabulary, names) for names in ((), frozenset({"screen"}))
    )
    assert not plain.joint.any()
    assert joint.joint.all()
    policy = plain.ask(asked).policy
    said = evaluate(joint.logged, joint.ask(asked).policy, needs=NOTHING).estimates
    wanted = evaluate(plain.logged, policy, slate=Slate.JOINT, needs=NOTHING).estimates
    cascade = evaluate(plain.logged, policy, needs=NOTHING).estimates
    for by in ("ips", "snips"):
        assert said[by].value == pytest.approx(wanted[by].value)
        assert said[by].low == pytest.approx(wanted[by].low, rel=0.02)
        assert abs(said[by].value - cascade[by].value) > 0.1 * wanted[by].value
    # What it would show on devices of its own, and what then comes of it.
    other = town()
    other._make_scorer = lambda: Contrary(other.vocabulary)
    worth = {one["id"]: one["value"] for one in OFFERS}
    earned = []
    for number in range(2_000):
        slots = decided(other, number, genome=Genome(*likes)).record.slots
        first, second = worth[slots[0].offer], worth[slots[1].offer]
        earned.append(first * (slots[-1].offer == "e") + second / 3)
    truth = float(np.mean(earned))
    for by in ("ips", "snips", "dr"):
        assert said[by].low <= truth <= said[by].high, by
    assert not cascade["dr"].low <= truth <= cascade["dr"].high


# Reading the log --------------------------------------------------------------------------------


def told(log: Log, number: int, hours: float, subject: bytes = NOBODY, **fields: Any) -> None:
    record = event_pb2.DecisionRecord(
        decision_id=decision_id(number),
        placement=fields.pop("placement", "screen"),
        slots=[event_pb2.SlotRecord(offer="taxi", propensity=0.5)],
        candidate_runs=[0, 2],
        **fields,
    )
    log.add(subject, FrameKind.DECISION, hours, decision=record)


def read(log: Log, hours: float = 1_000, **more: Any) -> tuple[list[Past], PastCounts]:
    sources = more.pop("sources", log.sources())
    return read_past(sources, survey(sources), VOCABULARY, now_ms=at(hours), **more)


def test_only_what_is_settled_is_taken_however_it_ends() -> None:
    log = Log()
    for number, hours in enumerate((0, 1, 99, 99.5)):
        told(log, number, hours)
    log.followed(1, 2, "redeem")
    log.followed(2, 99.2, "redeem")  # a success; the window of its like is open all the same
    past, counts = read(log, hours=100)
    assert [one.success for one in past] == [(False,), (True,)]
    assert counts.left_out == {"whose outcome may still come": 2}
    assert counts.decisions == 4


def test_who_did_not_agree_is_left_out_and_so_is_what_had_no_choice() -> None:
    log = Log()
    log.agreed(who(1))
    told(log, 1, 0, who(1))
    told(log, 2, 0, who(2))
    told(log, 3, 0, held_out=True)
    told(log, 4, 0, placement="gone")
    log.decided(5, 0, "taxi")  # no candidates: a house default
    told(log, 6, 1)
    past, counts = read(log)
    assert [one.record.decision_id for one in past] == [decision_id(1), decision_id(6)]
    assert counts.left_out == {
        "of customers who did not agree to learning": 1,
        "held out": 1,
        "of a placement that is not there any more": 1,
        "without an offer to choose from": 1,
    }


def test_a_person_is_one_and_nobody_is_alone_each_time() -> None:
    log = Log()
    log.agreed(who(1), who(2))
    log.linked(who(1), who(2), 0)
    for number, subject in enumerate((who(1), who(2), NOBODY, NOBODY)):
        told(log, number, 1 + number, subject)
    past, _ = read(log)
    persons = [one.person for one in past]
    assert persons[0] == persons[1]
    assert len(set(persons)) == 3
    assert past[0].fold == past[1].fold


def test_the_genome_is_that_of_the_moment() -> None:
    log = Log()
    log.agreed(who(1))
    told(log, 1, 1, who(1), genome_used=True)
    log.did(who(1), 2, "redeem", offer="taxi")
    told(log, 2, 3, who(1), genome_used=True)
    told(log, 3, 4, who(1), genome_used=False)
    past, _ = read(log)
    taxi = VOCABULARY.index("service:taxi")
    assert [one.genome[0].tolist() for one in past] == [[], [taxi], []]
    assert past[1].genome[1][0] > 0


def test_the_newest_are_taken() -> None:
    log = Log()
    for number in range(10):
        told(log, number, number)
    past, counts = read(log, most=4)
    assert [one.at_ms for one in past] == [at(hours) for hours in range(6, 10)]
    assert counts.left_out == {"older than the newest 4": 6}


def test_a_purchase_that_is_credited_is_a_success_of_the_last_that_was_shown() -> None:
    log = Log()
    log.agreed(who(1), who(2))
    told(log, 1, 1, who(1))
    told(log, 2, 2, who(1))
    log.did(who(1), 3, "redeem", offer="taxi")
    told(log, 3, 2.5, who(2))
    told(log, 4, 10, who(2))  # its window is open, and the purchase is its own
    log.did(who(2), 12, "redeem", offer="taxi")
    sources = replace(log.sources(), credit=CreditRules(frozenset({"screen"}), {}))
    past, counts = read(log, hours=27, sources=sources)
    assert [one.success for one in past] == [(False,), (True,), (False,)]
    assert counts.left_out == {"whose outcome may still come": 1}
    plain = read(log, hours=27)[0]
    assert [one.success for one in plain] == [(False,)] * 3
