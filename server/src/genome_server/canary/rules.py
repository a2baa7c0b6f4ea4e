"""What becomes of a release that is out for a share of its channel, by what devices report. Pure.

Theory. Which devices get a canary follows from a hash, so it is a fair draw: its devices and the
others differ in the release alone, and are compared over the same time. The unit is the device.
What is compared is a ratio of sums over devices (what was earned, or successes, by decision), so
its error is that of the jackknife over devices, with Welch's degrees of freedom. Devices differ
from each other by much more than by a release: what is earned counts as the difference to what the
device's own rate before the canary lets expect, which the draw of devices knew nothing of.

It is judged by what a decision earns: the worth of what succeeded in it, value less cost, as its
release has it. That is what devices rank by and what the gate estimates. Where everything that is
shown is worth the same, and so too where no offer says a value, the share of decisions that succeed
is the same question, and judges. Shares are always said.

A few successes that are worth much make both a mean and its error a thing of chance: a side without
them looks worse than it is, and surely so. So nothing is concluded before what succeeded tells as
much as `least_successes` of one worth, by Kish's effective number.

Who looks often finds something by chance. So there are looks of their own: when so much time has
passed, twice that, four times that, and so on. Look k may err with 0.05 / (k (k + 1)), which adds
up to 0.05 over all looks that there can be (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from edge_sdk.dna.schema import HOUR_MS

FIRST_LOOK_MS: Final = 15 * 60_000
"""Unless a bound says otherwise the first look is due after so long."""
ERROR: Final = 0.05


@dataclass(frozen=True)
class Bounds:
    """When a canary goes which way. `margin`: the share of what others earn by decision (of their
    rate of success) that the canary may lack and still be promoted. `first_look_ms`: after so long
    the first look is due; each further one after twice the time of the one before."""

    margin: float = 0.1
    least_hours: float = 24.0
    least_devices: int = 5  # on either side
    least_successes: int = 30  # on both sides together, see Seen.alike
    # Devices that refuse it, as a share of those that were heard of, and their number.
    refusing: float = 0.2
    least_refusing: int = 2
    # The share of decisions by which failures of the model, or empty slots, may be more frequent.
    broken: float = 0.02
    first_look_ms: int = FIRST_LOOK_MS


class Tally(NamedTuple):
    """What one device did under a release: decisions, those that succeeded within the horizon,
    those in which an offer was shown, and those in which the model failed; `value` is what all of
    them earned, in the tenant's unit. A decision counts as often as it stands for. `expected` are
    the successes that its own past lets expect, `expected_value` what it lets expect them to earn;
    alike for all where there is none."""

    decisions: float
    successes: float
    shown: float
    unscored: float
    expected: float = 0.0
    value: float = 0.0
    expected_value: float = 0.0


class Heard(NamedTuple):
    """Devices of the channel: `meant` to have the canary, and `beside` them. Of the first, how many
    were heard of since (`covered`), and how many of those have not taken it and say that they
    refused something; `usual`: the share of the others that say so, of something else."""

    meant: int
    beside: int
    covered: int
    refused: int
    usual: float = 0.0


class Seen(NamedTuple):
    """What is known at a look. `alike`: as many successes of one worth would tell as much as those
    of both sides do. `by_value`: what is shown is not all worth the same. `left_out` decisions show
    what their releases do not have, or are of a release that is gone. `repriced`: so many offers
    are not worth the same in all releases that are compared."""

    canary: Sequence[Tally]
    others: Sequence[Tally]
    heard: Heard
    alike: float = 0.0
    by_value: bool = False
    left_out: int = 0
    repriced: int = 0


class Difference(NamedTuple):
    """Of a rate: the canary's, the others', and the interval of the first minus the second, each
    against what was expected of its devices."""

    canary: float
    others: float
    low: float
    high: float


class Action(Enum):
    """What is to be done."""

    WAIT = "wait"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


class Verdict(NamedTuple):
    """What to do, and why, in a sentence."""

    action: Action
    why: str


def looks_due(elapsed_ms: int, first_ms: int = FIRST_LOOK_MS) -> int:
    """How many looks are due after so long; 0 before the first, which comes after `first_ms`."""
    return 0 if elapsed_ms < first_ms else 1 + int(math.log2(elapsed_ms / first_ms))


def error_of(look: int) -> float:
    """The chance with which look 1, 2, … may err."""
    return ERROR / (look * (look + 1))


def difference(seen: Seen, field: str, error: float) -> Difference | None:
    """The rate of `field` by decision on either side, and the two-sided interval of the difference
    that errs with `error`; None where a side has fewer than two devices that decided."""
    ours, others = _ratio(seen.canary, field), _ratio(seen.others, field)
    if ours is None or others is None:
        return None
    from scipy.special import stdtrit  # a tenth of a second that most commands do without

    (one, its, few), (other, theirs, many) = ours, others
    rates = _rate(seen.canary, field), _rate(seen.others, field)
    spread = its + theirs
    if spread == 0.0:
        return Difference(*rates, one - other, one - other)
    freedom = spread**2 / (its**2 / (few - 1) + theirs**2 / (many - 1))
    reach = float(stdtrit(freedom, 1.0 - error / 2)) * math.sqrt(spread)
    return Difference(*rates, one - other - reach, one - other + reach)


def judge(seen: Seen, bounds: Bounds, *, look: int, elapsed_ms: int) -> Verdict:
    """What look number `look` (1 or more) says, `elapsed_ms` after the canary went out."""
    broken = refusal(seen.heard, bounds)
    if broken is not None:
        return broken
    error = error_of(look)
    for field, what in (("unscored", "the model fails"), ("shown", "nothing is shown")):
        found = difference(seen, field, error)
        if found is None:
            continue
        more = found.low if field == "unscored" else -found.high
        if more > bounds.broken:
            rates = (found.canary, found.others)
            one, other = rates if field == "unscored" else (1.0 - rates[0], 1.0 - rates[1])
            return Verdict(
                Action.ROLL_BACK, f"{what} in {one:.1%} of its decisions, in {other:.1%} of others"
            )
    few = _too_little(seen, bounds)
    if few:
        return Verdict(Action.WAIT, few)
    successes, earned = (difference(seen, field, error) for field in ("successes", "value"))
    if successes is None or earned is None:
        return Verdict(Action.WAIT, "too few devices have decided")
    found = earned if seen.by_value else successes
    said = _said(successes, earned if seen.by_value else None, seen.repriced)
    if found.high < 0:
        return Verdict(Action.ROLL_BACK, f"it is worse: {said}")
    if found.low <= -bounds.margin * abs(found.others):
        return Verdict(Action.WAIT, f"it cannot be told yet: {said}")
    if elapsed_ms < bounds.least_hours * HOUR_MS:
        return Verdict(Action.WAIT, f"it does well, and {bounds.least_hours:g} hours are not over")
    return Verdict(Action.PROMOTE, f"it is not worse by more than {bounds.margin:.0%}: {said}")


def _too_little(seen: Seen, bounds: Bounds) -> str:
    """Why nothing can be concluded yet; empty: it can."""
    for left, what in (
        (seen.heard.meant, "no device of the channel is meant to have it"),
        (seen.heard.beside, "the channel has no other device to compare it with"),
    ):
        if not left:
            return f"{what}: give it to another share (releases promote), or roll it back"
    devices = [sum(one.decisions > 0 for one in side) for side in (seen.canary, seen.others)]
    if min(devices) < bounds.least_devices:
        without = ""
        if seen.left_out:
            without = f"; {seen.left_out:,} decisions name offers that their releases do not have"
        return (
            f"{devices[0]} devices have decided from it and {devices[1]} others did: "
            f"{bounds.least_devices} of each are needed{without}"
        )
    if seen.alike < bounds.least_successes:
        told = f"{math.floor(seen.alike)} successes"
        if seen.by_value:
            told = f"what succeeded tells as much as {told} of one worth"
        return f"{told} so far: {bounds.least_successes} are needed"
    return ""


def _said(rates: Difference, worth: Difference | None, repriced: int) -> str:
    """The figures: of successes, or of what decisions earn beside them."""
    shares = (
        f"{rates.canary:.2%} of its decisions succeed, {rates.others:.2%} of others "
        f"({rates.low:+.2%} to {rates.high:+.2%})"
    )
    if worth is None:
        return shares
    prices = ""
    if repriced:
        prices = (
            f"; releases differ in what {repriced} of the offers are worth, which is in what "
            "decisions earn, whatever customers did"
        )
    return (
        f"a decision of it earns {worth.canary:,.4g}, of others {worth.others:,.4g} "
        f"({worth.low:+,.4g} to {worth.high:+,.4g}); {shares}{prices}"
    )


def refusal(heard: Heard, bounds: Bounds) -> Verdict | None:
    """Whether too many devices refuse it, which needs no look: nothing is left to chance in it."""
    many = (bounds.refusing + heard.usual) * heard.covered
    if heard.refused >= max(bounds.least_refusing, many):
        return Verdict(Action.ROLL_BACK, f"{heard.refused} of {heard.covered} devices refuse it")
    return None


def figures(seen: Seen) -> dict[str, Any]:
    """What a look saw, as plain data: sums of either side, and what it was judged by."""
    return {
        "judged_by": "value" if seen.by_value else "successes",
        "canary": _sums(seen.canary),
        "others": _sums(seen.others),
        "covered": seen.heard.covered,
        "refused": seen.heard.refused,
        "left_out": seen.left_out,
        "repriced": seen.repriced,
    }


def _sums(side: Sequence[Tally]) -> dict[str, float | None]:
    fields = ("decisions", "successes", "value", "shown", "unscored")
    found = {name: round(float(sum(getattr(one, name) for one in side)), 6) for name in fields}
    each = found["value"] / found["decisions"] if found["decisions"] else None
    whole = {name: int(value) if value.is_integer() else value for name, value in found.items()}
    return {"devices": len(side), **whole, "value_by_decision": each}


def _expected(one: Tally, field: str) -> float:
    return {"successes": one.expected, "value": one.expected_value}.get(field, 0.0)


def _rate(side: Sequence[Tally], field: str) -> float:
    return float(sum(getattr(one, field) for one in side) / sum(one.decisions for one in side))


def _ratio(side: Sequence[Tally], field: str) -> tuple[float, float, int] | None:
    """The ratio of sums over devices, its variance, and how many devices decided."""
    some = [
        (getattr(one, field) - _expected(one, field), one.decisions)
        for one in side
        if one.decisions
    ]
    if len(some) < 2:
        return None
    count, total = sum(one for one, _ in some), sum(decisions for _, decisions in some)
    # Leaving out one device at a time: with few devices that are not alike, sums of squares are
    # too sure of themselves.
    without = [(count - one) / (total - decisions) for one, decisions in some]
    mean = sum(without) / len(some)
    variance = sum((one - mean) ** 2 for one in without) * (len(some) - 1) / len(some)
    return count / total, variance, len(some)
