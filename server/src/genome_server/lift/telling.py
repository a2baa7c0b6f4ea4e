"""What is said of a campaign, in words and lines that a terminal and a page share. Free of I/O."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from genome_server.lift.balance import UNFAIR
from genome_server.lift.needs import POWER
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_server.lift.estimates import Contrast, Interval
    from genome_server.lift.job import Answer
    from genome_server.lift.judging import Group, Outcome

Row = tuple[str, ...]

GROUPS: Final = ("", "customers", "did", "share", "per customer")
LIMITS: Final = ("", "difference", "one planned look", "every look", "lift", "every look")
DUES: Final = (f"told in {POWER:.0%} of cases", "customers", "more", "on")
SEGMENTS: Final = ("difference", "all, every look", "best guess")
_WIDTH: Final = 56
_LATE: Final = 0.1
_BALANCED: Final = "The groups are as large as they should be"


def headline(answer: Answer) -> str:
    """Of whom it speaks."""
    verdict = answer.verdict
    compared = verdict.shown.persons + verdict.held.persons
    return (
        f"{answer.campaign}: {many(compared, 'customer')}, from {day(answer.first_ms)} on, "
        f"{_days(answer.window_ms)} each, as of {day(answer.as_of_ms)}. "
        f"What counts: {', '.join(answer.kinds)}"
        + (" of the offers' own products." if answer.question.own_products else ".")
    )


def groups(answer: Answer) -> list[Row]:
    """A row for each group, under GROUPS; without the last column where no money counts."""
    unit = f" {answer.currency}".rstrip()

    def row(name: str, group: Group) -> Row:
        n = max(group.persons, 1)
        amount = f"{group.amount / n:,.2f}{unit}" if answer.money else ""
        return (name, f"{group.persons:,}", f"{group.did:,}", f"{group.did / n:.1%}", amount)

    one, other = answer.campaign.groups
    return [row(one, answer.verdict.shown), row(other, answer.verdict.held)]


def limits(answer: Answer) -> list[Row]:
    """A row for each thing that is compared, under LIMITS."""
    found: list[Row] = []
    for one in answer.verdict.outcomes:
        contrast = one.contrast
        lift = f"{contrast.lift:+.0%}" if contrast.lift is not None else "–"
        always = _lifts(contrast.lift_always)
        planned, every = (_between(one, which) for which in (contrast.planned, contrast.always))
        found.append(
            (_NAMES[one.name], _change(one, contrast.difference), planned, every, lift, always)
        )
    return found


def picture(outcome: Outcome) -> str:
    """Both intervals on a line: `-` at every look, `=` planned, `o` the estimate, `|` zero."""
    contrast = outcome.contrast
    low, high = min(contrast.always.low, 0.0), max(contrast.always.high, 0.0)
    margin = (high - low) * 0.05 or 1.0
    low, high = low - margin, high + margin

    def at(value: float) -> int:
        return round((value - low) / (high - low) * (_WIDTH - 1))

    line = [" "] * _WIDTH
    for interval, mark in ((contrast.always, "-"), (contrast.planned, "=")):
        for place in range(at(interval.low), at(interval.high) + 1):
            line[place] = mark
    line[at(0.0)] = "|"
    line[at(contrast.difference)] = "o"
    ends = [_change(outcome, value) for value in (contrast.always.low, contrast.always.high)]
    return f"{_NAMES[outcome.name]:12} {ends[0]:>8} {''.join(line)} {ends[1]}"


def findings(answer: Answer) -> Iterator[str]:
    """What follows, a sentence for each thing that is compared, and when there will be enough."""
    verdict = answer.verdict
    if not verdict.outcomes:
        when, number = "", verdict.under_way
        if verdict.first_over_ms is not None:
            first = "the only one" if number == 1 else f"the first of {number:,}"
            when = f": {first} will have had their time on {day(verdict.first_over_ms)}"
        yield f"Nothing can be compared yet{when}."
        return
    who = "is shown it"
    if answer.campaign.experiment:
        who = "has {} instead of {}".format(*answer.campaign.groups)
    for one in verdict.outcomes:
        contrast = one.contrast
        what = _DONE[one.name]
        if contrast.sure:
            more = "more" if contrast.difference > 0 else "less"
            yield f"Who {who} {what.format(more)}: that holds at every look."
        else:
            yield f"Whether who {who} {what.format('more')} cannot be told yet."
    if answer.money and verdict.outcome("amount") is None:
        yield "Amounts are not compared: too few customers of a group have any."


def dues(answer: Answer) -> list[Row]:
    """When it can be told, under DUES: for the lift that was asked for and, if not told yet, for
    what is seen."""
    found: list[Row] = []
    for one in answer.verdict.outcomes:
        for due, what in ((one.stated, ""), (one.seen, ", as is seen now")):
            if due is None or one.contrast.sure or (what and not due.more):
                continue
            when = day(due.at_ms) if due.at_ms is not None else "never at this rate"
            found.append(
                (
                    f"{_NAMES[one.name]} {due.effect:+.0%}{what}",
                    f"{due.persons:,}",
                    f"{due.more:,}",
                    when if due.more else "by now",
                )
            )
    return found


def warnings(answer: Answer) -> Iterator[str]:
    """Why nothing of it may be believed; nothing where all is well."""
    verdict = answer.verdict
    experiment = answer.campaign.experiment
    whose, do = "", "are held out"
    if experiment:
        whose, do = f" and {experiment}", f"stay with {experiment}"
    for one in verdict.balances:
        if not one.fair:
            yield (
                f"of {many(one.persons, 'customer')} of {one.placement}{whose} {one.held:,} "
                f"({one.held / one.persons:.1%}) {do}, where {one.share:.1%} should be. A "
                f"fair draw does that in fewer than {UNFAIR:.1%} of cases: who is compared depends "
                "on the group, and no difference below means anything. Look for events of one "
                "group that are lost, and whether the share was changed (--since)"
            )
    if verdict.changed:
        yield (
            f"{verdict.redrawn:,} of {many(verdict.entered, 'customer')} "
            f"{'is' if verdict.redrawn == 1 else 'are'} in another group than the "
            "placement's document draws: its share or seed was changed, or devices do not "
            f"{'draw' if experiment else 'hold out'}. Begin after the change: --since"
        )


def notes(answer: Answer) -> Iterator[str]:
    """What else is worth knowing."""
    verdict, experiment = answer.verdict, answer.campaign.experiment
    if verdict.balances and all(one.fair for one in verdict.balances):
        said = ", ".join(
            f"{one.held / one.persons:.1%} of {one.persons:,} ({one.share:.1%})"
            for one in verdict.balances
        )
        who = "held out are" if not experiment else f"{experiment} has"
        yield f"{_BALANCED}: {who} {said}"
    if verdict.undeclared and not verdict.balances:
        yield "the document states no share any more: whether the draw was fair is not known"
    if dues(answer):
        yield f"{verdict.per_day:,.1f} new customers came a day lately; what is seen may be chance"
    if verdict.under_way and verdict.outcomes:
        are = "customers are" if verdict.under_way > 1 else "customer is"
        last = "lasts" if answer.window_ms == DAY_MS else "last"
        yield f"{verdict.under_way:,} {are} under way: their {_days(answer.window_ms)} {last}"
    older, other = ("is of a device that holds", "are of devices that hold"), "the other group"
    nobody, cannot = " nobody out: left out", ", which the held out cannot: not counted"
    if experiment:
        older, other = ("drew", "drew"), "another arm"
        nobody = " no arm (of older devices, or of before the experiment): left out"
        cannot = ", and only interactions are compared: not counted"
    if answer.among > 1:
        yield f"the intervals of all {answer.among} arms hold together"
    before, empty = "decisions before --since, and", "where a group has nobody yet: left out"
    counts = (
        (answer.without_consent, "customer", ("has", "have"), " not agreed to learning"),
        (answer.later, "customer", ("met", "met"),
         " it only after their first decision there: left out"),
        (answer.older, "decision", older, nobody),
        (verdict.both, "customer", ("met", "met"),
         f" {other}, too: a true effect is larger than it looks"),
        (verdict.earlier, "customer", (f"had {before} is", f"had {before} are"),
         " as those left them"),
        (verdict.one_sided, "customer", ("is of a placement", "are of placements"), f" {empty}"),
        (answer.outcomes, "outcome", ("names", "name"), f" a decision{cannot}"),
        (answer.elsewhere, "payment", ("is", "are"), f" not in {answer.currency}: in no amount"),
    )  # fmt: skip
    for count, what, does, rest in counts:
        if count:
            yield f"{many(count, what)} {does[count != 1]}{rest}"
    late = answer.as_of_ms - answer.newest_ms
    if not answer.newest_ms:
        kinds = " or ".join(answer.kinds)
        yield f"nobody did anything that counts: look whether there is a {kinds} in the log"
    elif late > max(DAY_MS, _LATE * answer.window_ms):
        yield (
            f"the newest that counts is of {day(answer.newest_ms)}: if purchases are imported "
            f"later, --until {day(answer.newest_ms)} leaves the time out that is not known yet"
        )


def segments_heading(answer: Answer) -> Row:
    """What `segments` stands under."""
    return (f"by {answer.question.by}", *answer.campaign.groups, *SEGMENTS)


def segments(answer: Answer) -> list[Row]:
    """A row for each segment, under `segments_heading`."""
    found = answer.verdict.segments
    return [
        (
            one.name,
            f"{one.shown:,}",
            f"{one.held:,}",
            f"{one.contrast.difference:+.1%}",
            f"{one.contrast.always.low:+.1%} to {one.contrast.always.high:+.1%}",
            f"{one.guess:+.1%}",
        )
        for one in (found.segments if found is not None else ())
    ]


def of_segments(answer: Answer) -> str:
    """How to read them."""
    found = answer.verdict.segments
    if found is None or not found.segments:
        return "No segment has people enough in both groups."
    if found.differ is None:
        return "Whether segments differ cannot be told."
    if found.differ > _LATE / 2:
        return f"Segments differ no more than chance makes them ({found.differ:.0%})."
    return f"Segments differ by more than chance makes them ({found.differ:.1%})."


def many(number: int, what: str) -> str:
    """So many of a thing: "1 customer", "1,575 customers"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def day(ms: int) -> str:
    """A day, UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


_NAMES: Final = {"share": "share", "amount": "per customer"}
_DONE: Final = {"share": "does it {} often", "amount": "spends {}"}


def _days(ms: int) -> str:
    days = ms / DAY_MS
    return f"{days:g} day{'s' * (days != 1)}"


def _change(one: Outcome, value: float) -> str:
    return f"{value:+.1%}" if one.name == "share" else f"{value:+,.2f}"


def _between(one: Outcome, interval: Interval) -> str:
    return f"{_change(one, interval.low)} to {_change(one, interval.high)}"


def _lifts(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    high = f"{interval.high:+.0%}" if interval.high < float("inf") else "any"
    return f"{interval.low:+.0%} to {high}"


def bounds(contrast: Contrast) -> tuple[float, float]:
    """What a picture of this must have room for."""
    return min(contrast.always.low, 0.0), max(contrast.always.high, 0.0)
