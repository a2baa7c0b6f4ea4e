"""The gate's checks: from figures to a word and a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from genome_server.gate import checks
from genome_server.gate.checks import Calibrated, Missed, Seen, Segment, Weighed
from genome_server.gate.rules import Check, Limits, Outcome, State, Verdict
from genome_server.gate.starving import Emptied, Offered, starvation
from genome_server.models.findings import BAD, WARNING, Checked, Finding
from genome_server.offpolicy.estimate import Answer, Estimate
from genome_server.offpolicy.needs import Lack

LIMITS = Limits()
FINE = Checked(500_000, "", (Finding("slow", WARNING, "it is", ""),), latency_us=40.0)


def weighed(value: float, low: float, high: float, **more: bool) -> Weighed:
    estimates = {name: Estimate(value, low, high) for name in ("ips", "snips", "dr")}
    return Weighed(Answer((), (), estimates), 1.0, "on 9 decisions", **more)


def test_what_a_file_takes_is_held_to_the_limits() -> None:
    assert checks.contract(FINE).state is State.FINE
    assert checks.size(FINE, LIMITS).state is State.FINE
    assert checks.latency(FINE, LIMITS).state is State.FINE
    large = checks.size(replace(FINE, bytes=1_000_001), LIMITS)
    assert large.state is State.STOP
    assert "1,000,001 bytes; 1,000,000 are allowed" in large.reason
    assert checks.size(FINE, Limits(max_bytes=499_999)).state is State.STOP
    slow = checks.latency(replace(FINE, latency_us=100.1), LIMITS)
    assert slow.state is State.STOP
    assert "1,000 offers take 100.1 µs here" in slow.reason
    assert checks.latency(replace(FINE, latency_us=None), LIMITS).state is State.CANNOT_TELL
    bad = replace(FINE, findings=(Finding("size", BAD, "", ""), Finding("rows", BAD, "none", "")))
    assert "devices cannot use it: rows: none" in checks.contract(bad).reason
    only_large = replace(FINE, findings=(Finding("size", BAD, "", ""),))
    assert checks.contract(only_large).state is State.FINE, "the limit of size is another check's"


@pytest.mark.parametrize(
    ("trainer", "own", "runtime", "state"),
    [
        (1e-7, True, 1e-7, State.FINE),
        (2e-5, True, 1e-7, State.STOP),
        (1e-7, True, 2e-5, State.STOP),
        (None, True, 1e-7, State.CANNOT_TELL),
        (None, False, None, State.FINE),
        (float("nan"), True, None, State.STOP),
    ],
)
def test_all_come_to_the_same_values(
    trainer: float | None, own: bool, runtime: float | None, state: State
) -> None:
    assert checks.parity(trainer, own, runtime).state is state


def test_what_is_said_comes_true() -> None:
    good = Calibrated(0.02, 0.01, 900, "newer")
    off = Calibrated(0.05, 0.04, 900, "newer")
    by_chance = Calibrated(0.05, 0.06, 900, "newer")
    few = Calibrated(0.2, 0.3, 90, "newer")
    learned = Calibrated(0.01, 0.01, 900, "old", seen=True)
    learned_and_off = replace(learned, error=0.05)

    def state(*found: Calibrated) -> State:
        return checks.calibration(found, LIMITS).state

    assert state(good) is State.FINE
    assert state(off) is State.STOP
    assert state(by_chance) is State.FINE
    assert state(few) is State.CANNOT_TELL
    assert state(learned) is State.CANNOT_TELL, "that it knows what it learned says nothing"
    assert state(good, learned_and_off) is State.STOP, "off even on what it learned"
    assert state(learned, good) is State.FINE
    assert state() is State.CANNOT_TELL
    assert checks.calibration([off], Limits(calibration=0.05)).state is State.FINE
    assert "off by 0.050 on 900 examples newer" in checks.calibration([off], LIMITS).reason


def test_what_cannot_be_known_is_a_leak() -> None:
    tells = Missed(("answer",), 0.99, 0.75, 0.99)

    def state(one: Missed) -> State:
        return checks.leak([one], None).state

    assert state(tells) is State.STOP
    assert state(replace(tells, without=0.95)) is State.FINE, "the model does not go by it"
    assert state(replace(tells, alone=0.90)) is State.FINE
    assert state(replace(tells, alone=0.90, unknown=True)) is State.STOP
    assert state(replace(tells, alone=0.80, unknown=True)) is State.FINE
    assert "'answer' tells the answer" in checks.leak([tells], None).reason


def test_what_was_learned_by_heart_is_a_leak() -> None:
    def check(least: float, later: bool) -> Check:
        return checks.leak([], Seen(0.99, 0.7, least, 500, later))

    assert check(0.06, True).state is State.STOP
    assert check(0.04, True).state is State.FINE
    assert check(0.11, False).state is State.STOP
    assert check(0.09, False).state is State.FINE, "a model may be better than train's"
    assert "AUC 0.990 on 500 examples" in check(0.2, True).reason
    assert checks.leak([], None, "nobody knows").state is State.CANNOT_TELL


def test_no_offer_starves() -> None:
    kept = Offered("a", 0.30, 0.01, 1_000)
    gone = Offered("b", 0.30, 0.0005, 1_000)
    rare = Offered("c", 0.005, 0.0, 10_000)
    hardly = Offered("d", 0.30, 0.0, 30)
    assert starvation([kept, rare, hardly], 1_000, {}, ()).state is State.FINE
    found = starvation([kept, gone], 1_000, {}, ())
    assert found.state is State.STOP
    assert "1 of 2 offers would practically never be shown again: 'b' (30.0% before)" in (
        found.reason
    )
    assert starvation([kept], 49, {}, ()).state is State.CANNOT_TELL


def test_no_segment_starves() -> None:
    everybody = [Offered("a", 0.60, 0.70, 1_000), Offered("b", 0.40, 0.30, 1_000)]
    here = [Offered("a", 0.69, 0.998, 400), Offered("b", 0.31, 0.0009, 400)]
    less = [Offered("a", 0.76, 0.999, 400), Offered("b", 0.24, 0.0, 400)]
    few = [Offered("a", 0.5, 1.0, 19), Offered("b", 0.5, 0.0, 19)]
    lost, won = Estimate(-0.1, -0.4, 0.2), Estimate(0.2, 0.1, 0.3)
    unsure = Estimate(0.1, -0.2, 0.4)

    def found(gain: Estimate | None, offers: list[Offered] = here, **more: bool) -> Check:
        gains = [Segment("young", 400, gain, **more)]
        return starvation(everybody, 1_000, {"young": offers}, gains)

    stopped = found(lost)
    assert stopped.state is State.STOP
    assert stopped.reason.startswith(
        "segment 'young': offers 'b' are 31% of what is shown today, 0.1% under the candidate"
    )
    assert found(won).state is State.FINE, "it is served better without"
    assert "but 1 that gain by it" in found(won).reason
    assert found(won, doubted=True).state is State.CANNOT_TELL, "it may only seem so"
    assert found(lost, flattered=True).state is State.CANNOT_TELL
    assert found(unsure).state is State.CANNOT_TELL
    assert found(None).state is State.CANNOT_TELL
    assert starvation(everybody, 1_000, {"young": here}, ()).state is State.CANNOT_TELL
    assert found(lost, less).state is State.FINE, "a part may do without a little"
    assert found(lost, few).state is State.FINE, "too few to mean something"
    # What nobody is shown any more is told once, and not again of each segment.
    gone = starvation([Offered("b", 0.4, 0, 1_000)], 1_000, {"young": here}, ())
    assert gone.state is State.STOP
    assert "young" not in gone.reason


def test_no_segment_is_left_with_house_defaults() -> None:
    kept = [Offered("a", 1.0, 1.0, 1_000)]

    def found(*parts: Emptied) -> Check:
        return starvation(kept, 1_000, {}, (), parts)

    assert found(Emptied("young", 400, 99), Emptied("old", 20, 9)).state is State.FINE
    held = found(Emptied("young", 400, 100), Emptied("old", 400, 400))
    assert held.state is State.CANNOT_TELL
    assert "('old': 100% of 400 decisions; 'young': 25% of 400 decisions)" in held.reason


def test_no_segment_is_worse_off() -> None:
    better, worse = Estimate(0.2, 0.1, 0.3), Estimate(-0.2, -0.3, -0.1)
    unsure, none = Estimate(-0.2, -0.5, 0.1), None
    segments = [Segment("x", 9, better), Segment("y", 9, unsure), Segment("z", 9, none)]
    found = checks.segments(segments)
    assert found.state is State.FINE
    assert "none of 2 segments" in found.reason
    assert "of 1 too little is known" in found.reason
    assert checks.segments([*segments, Segment("w", 9, worse)]).state is State.STOP
    harder = Segment("w", 9, worse, flattered=True)
    found = checks.segments([*segments, harder])
    assert found.state is State.CANNOT_TELL, "the one in force may only seem better"
    assert "1 of 3 segments seem worse off: w (-0.2" in found.reason
    unsure_too = Segment("w", 9, unsure, flattered=True)
    assert checks.segments([unsure_too]).state is State.FINE
    assert checks.segments([Segment("z", 9, none)]).state is State.CANNOT_TELL


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (weighed(0.1, -0.05, 0.2), State.FINE),
        (weighed(0.1, -0.05, 0.2, flattered=True), State.CANNOT_TELL),
        (weighed(0.1, -0.05, 0.2, harder=True), State.FINE),
        (weighed(-0.02, -0.05, 0.0), State.FINE),  # no less, as far as can be seen
        (weighed(0.0, 0.0, 0.0), State.FINE),  # it does the same
        (weighed(-0.02, -0.05, -0.01), State.STOP),  # surely worse, by however little
        (weighed(-0.02, -0.05, -0.01, flattered=True), State.STOP),
        (weighed(-0.02, -0.05, -0.01, harder=True), State.CANNOT_TELL),
        (weighed(-0.2, -0.3, -0.1), State.STOP),
        (weighed(-0.2, -0.3, -0.1, flattered=True), State.STOP),
        (weighed(-0.2, -0.3, -0.1, harder=True), State.CANNOT_TELL),
        (weighed(0.0, -0.3, 0.3), State.CANNOT_TELL),
        (Weighed(Answer((), (Lack("persons", 3, 50),)), 1.0, ""), State.CANNOT_TELL),
        (None, State.CANNOT_TELL),
    ],
)
def test_no_less_is_earned_than_in_force(found: Weighed | None, state: State) -> None:
    assert checks.off_policy(found, "nothing is in force", LIMITS).state is state


def test_the_margin_is_a_share_of_what_is_earned() -> None:
    found = weighed(-0.03, -0.08, 0.02)
    assert checks.off_policy(found, "", LIMITS).state is State.FINE
    assert checks.off_policy(found, "", Limits(margin=0.05)).state is State.CANNOT_TELL
    assert checks.off_policy(replace(found, value=0.5), "", LIMITS).state is State.CANNOT_TELL


def test_a_loss_that_is_shown_is_no_question_of_the_margin() -> None:
    found = weighed(-0.02, -0.03, -0.01)
    stopped = checks.off_policy(found, "", Limits(margin=0.5))
    assert stopped.state is State.STOP
    assert "it is worse than what is in force: by decision it would earn -0.02" in stopped.reason
    seems = checks.off_policy(replace(found, harder=True), "", Limits(margin=0.5))
    assert seems.state is State.CANNOT_TELL
    assert "that may have learned from these decisions and only seem better" in seems.reason


def verdict(*states: State, first: bool = False) -> Verdict:
    found = tuple(Check(f"c{n}", state, f"because {n}") for n, state in enumerate(states))
    return Verdict("m", "" if first else "f", first, 5, found, {"a": [1]})


def test_one_stop_stops_and_what_cannot_be_told_holds_up() -> None:
    fine, stop, unknown = State.FINE, State.STOP, State.CANNOT_TELL
    assert verdict(fine, fine).outcome is Outcome.PASSED
    stopped = verdict(fine, unknown, stop, first=True)
    assert stopped.outcome is Outcome.STOPPED
    assert stopped.reasons() == ["c2: because 2"]
    assert not stopped.opens(watched=True)
    held = verdict(fine, unknown)
    assert held.outcome is Outcome.CANNOT_TELL
    assert held.reasons() == ["c1: because 1"]
    assert not held.opens(watched=False)
    assert held.opens(watched=True), "the canary finds out"
    first = verdict(fine, unknown, first=True)
    assert first.outcome is Outcome.PASSED
    assert first.opens(watched=False)
    assert Verdict.from_json(held.to_json()) == held
