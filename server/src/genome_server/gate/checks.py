"""The checks of the gate: from figures to a word and a reason. Free of I/O.

Each takes what was found out elsewhere and says what of it is too much; the thresholds that are
not a tenant's own (`rules.Limits`) stand at the top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from genome_server.gate.rules import Check, Limits, State
from genome_server.models.findings import BAD, Checked
from genome_server.offpolicy.estimate import Answer, Estimate

#: The most by which two ways to work out a value may differ: devices' golden vectors ask the same.
PARITY: Final = 1e-5
#: Above this, chance alone makes an error so large that nothing can be said of calibration.
_NOISE: Final = 0.10
#: A namespace that tells the answer by itself as well as this (the second: one that no device ever
#: knew), and is missed by this much, was written when the answer was known.
TELLS: Final = 0.95
TELLS_UNKNOWN: Final = 0.85
MISSED: Final = 0.10
#: By how much an AUC may fall from what a model may have seen to what it cannot have.
FALL: Final = 0.05
#: By how much a file may beat `train` on examples that it says it has not seen.
BETTER: Final = 0.10
_NAMED: Final = 5


# What a file is ---------------------------------------------------------------------------------


def contract(checked: Checked) -> Check:
    """Whether devices can use the file; its size is another question."""
    bad = [one for one in checked.findings if one.severity == BAD and one.name != "size"]
    figures = {"findings": [one.name for one in checked.findings]}
    if bad:
        said = f"{bad[0].name}: {bad[0].cause}"
        more = f", and {len(bad) - 1} more (genome-server models check)" if bad[1:] else ""
        return Check("contract", State.STOP, f"devices cannot use it: {said}{more}", figures)
    return Check("contract", State.FINE, "devices can use it", figures)


def size(checked: Checked, limits: Limits) -> Check:
    """Whether the file is small enough."""
    figures = {"bytes": checked.bytes, "max_bytes": limits.max_bytes}
    said = f"{checked.bytes:,} bytes; {limits.max_bytes:,} are allowed"
    if checked.bytes > limits.max_bytes:
        advice = "every device fetches and keeps it (genome-server models limits --max-bytes)"
        return Check("size", State.STOP, f"{said}, because {advice}", figures)
    return Check("size", State.FINE, said, figures)


def latency(checked: Checked, limits: Limits) -> Check:
    """Whether it answers fast enough, measured here."""
    taken = checked.latency_us
    figures = {"latency_us": taken, "allowed_us": limits.latency_us}
    if taken is None:
        return Check("latency", State.CANNOT_TELL, "its time could not be measured", figures)
    said = f"1,000 offers take {taken:,.1f} µs here (median); {limits.latency_us:,.0f} are allowed"
    if taken > limits.latency_us:
        advice = "people wait for it (genome-server models limits --latency-us)"
        return Check("latency", State.STOP, f"{said}, because {advice}", figures)
    return Check("latency", State.FINE, said, figures)


def parity(trainer: float | None, own: bool, runtime: float | None) -> Check:
    """Whether all who work out a value come to the same.

    `trainer` is by how much the file was off the trainer's numbers when it was made (None: not
    known; only asked of `own` models), `runtime` by how much devices' own evaluation is off ONNX
    Runtime's (None: there was nothing to try).
    """
    figures = {"trainer": trainer, "runtime": runtime}
    if trainer is not None and not trainer <= PARITY:
        said = f"the file was {trainer:.1e} off what the trainer made; {PARITY:.0e} are allowed"
        return Check("parity", State.STOP, said, figures)
    if runtime is not None and not runtime <= PARITY:
        said = f"devices come to values {runtime:.1e} off the runtime's; {PARITY:.0e} are allowed"
        return Check("parity", State.STOP, said, figures)
    if own and trainer is None:
        said = "its report does not say how far the file is off the trainer"
        return Check("parity", State.CANNOT_TELL, said, figures)
    parts = [f"trainer and file agree to {trainer:.0e}"] if trainer is not None else []
    parts += [f"devices and runtime agree to {runtime:.0e}"] if runtime is not None else []
    return Check("parity", State.FINE, "; ".join(parts) or "one evaluation only", figures)


# What it says -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibrated:
    """How far off its probabilities are: the error, how large it may be by chance (99 of 100 times
    it is smaller), on how many examples, and in words which these are. `seen`: it may have learned
    from them, so that a small error means nothing."""

    error: float
    chance: float
    examples: int
    where: str
    seen: bool = False


def calibration(found: Sequence[Calibrated], limits: Limits) -> Check:
    """Whether what it says comes true as often as it says. The first that is off decides."""
    figures = {"measured": [asdict(one) for one in found], "allowed": limits.calibration}
    for one in found:
        if one.error > max(limits.calibration, one.chance):
            said = (
                f"what it says is off by {one.error:.3f} on {one.examples:,} examples {one.where}; "
                f"{limits.calibration:g} are allowed, and chance explains up to {one.chance:.3f}"
            )
            return Check("calibration", State.STOP, said, figures)
    told = [one for one in found if not one.seen and one.chance <= _NOISE]
    if not told:
        said = "there are no examples that it cannot have learned from"
        few = [one for one in found if not one.seen]
        if few:
            said = (
                f"{few[0].examples:,} examples {few[0].where} are too few: chance alone makes an "
                f"error of up to {few[0].chance:.3f}"
            )
        return Check("calibration", State.CANNOT_TELL, said, figures)
    best = told[0]
    said = f"what it says is off by {best.error:.3f} on {best.examples:,} examples {best.where}"
    if best.error > limits.calibration:
        said += f"; chance explains up to {best.chance:.3f}"
    return Check("calibration", State.FINE, said, figures)


@dataclass(frozen=True)
class Missed:
    """What a model loses without some markers, by their namespaces: AUC with, without, and of those
    markers alone. `unknown`: no decision of a device ever had them."""

    namespaces: tuple[str, ...]
    auc: float
    without: float
    alone: float
    unknown: bool = False


@dataclass(frozen=True)
class Seen:
    """The AUC on examples that a model says it has not seen, and one that it cannot beat so much.

    `other` is the AUC after it was taken in (`later`), or `train`'s own on strangers; `least` is
    the low end (95 %) of the difference.
    """

    claimed: float
    other: float
    least: float
    examples: int
    later: bool


def leak(missed: Sequence[Missed], seen: Seen | None, unproven: str = "") -> Check:
    """Whether it goes by what cannot be known when a decision is made.

    Of a model from elsewhere it must be known that it has not learned the very examples that it is
    judged by; `unproven` says why it is not (empty: nothing is lacking).
    """
    figures = {"missed": [asdict(one) for one in missed], "seen": asdict(seen) if seen else None}
    for one in missed:
        names = ", ".join(map(repr, one.namespaces[:_NAMED]))
        fall = f"its AUC falls from {one.auc:.3f} to {one.without:.3f} without"
        if one.auc - one.without < MISSED:
            continue
        if one.unknown and one.alone >= TELLS_UNKNOWN:
            said = (
                f"it goes by what no device ever knew when it decided: {names} tells the answer "
                f"(AUC {one.alone:.3f} by itself); {fall}"
            )
            return Check("leak", State.STOP, said, figures)
        if one.alone >= TELLS:
            said = (
                f"{names} tells the answer (AUC {one.alone:.3f} by itself), as what is written "
                f"after it does; {fall}"
            )
            return Check("leak", State.STOP, said, figures)
    if seen is not None and seen.least > (FALL if seen.later else BETTER):
        said = (
            f"it knows answers that it says it has not learned: AUC {seen.claimed:.3f} on "
            f"{seen.examples:,} examples from before it was taken in, "
        )
        said += (
            f"{seen.other:.3f} on later ones"
            if seen.later
            else f"where train reaches {seen.other:.3f} for persons that it has not seen"
        )
        return Check("leak", State.STOP, said, figures)
    if unproven:
        return Check("leak", State.CANNOT_TELL, unproven, figures)
    return Check("leak", State.FINE, "nothing that it goes by tells the answer by itself", figures)


# What it would do -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segment:
    """A part of the decisions: by how much the value of one changes in it; no `gain` where too
    little is known. The model in force (`flattered`) or the candidate (`doubted`) may have learned
    from what it is judged by."""

    name: str
    decisions: int
    gain: Estimate | None
    flattered: bool = False
    doubted: bool = False

    @property
    def gains(self) -> bool:
        """Whether it is shown to be better off."""
        return self.gain is not None and self.gain.low > 0 and not self.doubted

    @property
    def loses(self) -> bool:
        """Whether it is more likely worse off than better, as far as that can be told."""
        return self.gain is not None and self.gain.value <= 0 and not self.flattered


def segments(found: Sequence[Segment]) -> Check:
    """Whether those who are in one segment would be worse off. Intervals are those of all of them
    together."""
    told = [one for one in found if one.gain is not None]
    figures = {"segments": [_segment(one) for one in found]}
    low = [one for one in told if one.gain and one.gain.high < 0]
    worse = [one for one in low if not one.flattered]
    if low:
        named = "; ".join(f"{one.name} ({_gain(one.gain)})" for one in (worse or low)[:_NAMED])
        if worse:
            said = f"{len(worse)} of {len(told)} segments would be worse off: {named}"
            return Check("segments", State.STOP, said, figures)
        said = (
            f"{len(low)} of {len(told)} segments seem worse off: {named}; but the model in force "
            "may have learned from these decisions and only seem better"
        )
        return Check("segments", State.CANNOT_TELL, said, figures, against=True)
    if not told:
        return Check("segments", State.CANNOT_TELL, "too little is known of every segment", figures)
    small = f"; of {len(found) - len(told)} too little is known" if len(found) > len(told) else ""
    said = f"none of {len(told)} segments is shown to be worse off{small}"
    return Check("segments", State.FINE, said, figures)


@dataclass(frozen=True)
class Weighed:
    """What the log says of the candidate beside the model in force.

    `answer` is of the difference, `value` the estimated value in force (reward by decision), and
    `where` says which decisions these are. `flattered`: the candidate may have learned from them;
    `harder`: the model in force may have.
    """

    answer: Answer
    value: float
    where: str
    flattered: bool = False
    harder: bool = False


def off_policy(found: Weighed | None, why: str, limits: Limits) -> Check:
    """Whether it would earn no less than the model in force; `why` nothing was weighed.

    A loss that is shown is a stop, however small: many small ones, published one after the other,
    add up. The margin is for what is not shown, and may be a loss or a gain.
    """
    if found is None:
        return Check("off-policy", State.CANNOT_TELL, why)
    answer, by = found.answer, "dr" if "dr" in found.answer.estimates else "snips"
    margin = limits.margin * abs(found.value)
    figures: dict[str, Any] = {
        "by": by,
        "value_in_force": found.value,
        "margin": margin,
        "confidence": limits.confidence,
        "estimates": {name: asdict(one) for name, one in answer.estimates.items()},
        "overlaps": [asdict(one) for one in answer.overlaps],
        "lacks": [str(one) for one in answer.lacks],
        "candidate_may_have_learned_from_them": found.flattered,
        "model_in_force_may_have_learned_from_them": found.harder,
    }
    if not answer.concludes:
        said = f"the log says too little {found.where}: {'; '.join(map(str, answer.lacks))}"
        return Check("off-policy", State.CANNOT_TELL, said, figures)
    gain = answer.estimates[by]
    sure = f"{limits.confidence:.0%} interval"
    said = (
        f"by decision it would earn {_gain(gain)} ({sure}, {by.upper()}, {found.where}) beside the "
        f"{_money(found.value)} in force; an interval with 0 in it may begin at {_signed(-margin)}"
    )
    if gain.high < 0:
        if not found.harder:
            said = f"it is worse than what is in force: {said}"
            return Check("off-policy", State.STOP, said, figures)
        said = (
            f"it seems worse than what is in force: {said}; but that may have learned from these "
            "decisions and only seem better"
        )
        return Check("off-policy", State.CANNOT_TELL, said, figures, against=True)
    if gain.low < -margin:
        return Check("off-policy", State.CANNOT_TELL, f"not shown to be no worse: {said}", figures)
    if found.flattered:
        said = f"it may have learned from every decision that it could be judged by: {said}"
        return Check("off-policy", State.CANNOT_TELL, said, figures)
    return Check("off-policy", State.FINE, said, figures)


def _segment(one: Segment) -> dict[str, Any]:
    return {**asdict(one), "gain": asdict(one.gain) if one.gain else None}


def _gain(gain: Estimate | None) -> str:
    if gain is None:
        return "not known"
    return f"{_signed(gain.value)}, {_signed(gain.low)} to {_signed(gain.high)}"


def _signed(value: float) -> str:
    return f"{value:+.{_places(value)}f}"


def _money(value: float) -> str:
    return f"{value:.{_places(value)}f}"


def _places(value: float) -> int:
    """Decimals that show three digits of a number."""
    return min(6, max(1, 2 - math.floor(math.log10(abs(value))))) if value else 1
