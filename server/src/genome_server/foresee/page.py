"""What comes next for one customer as a page. Free of I/O."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from genome_server.compare.telling import roughly
from genome_server.foresee.job import Ahead, Chance
from genome_server.foresee.proof import Accuracy, Score
from genome_server.pages import Bar, escape, page, section

_MOST: Final = 6
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SAID: Final = {
    "daypart": "part of the day",
    "time": "time until then",
    "week": "within a week",
}
_STYLE: Final = (
    ".measured th,.measured td{text-align:left;font-size:.85rem;font-weight:400;"
    "padding:.18rem .5rem .18rem 0}.measured th{color:var(--soft)}"
)
_READ: Final = (
    "Right is how often the likeliest came, said is the chance that it was given. The verdict is "
    "against the best of the three beside it, and even where chance may have made the difference."
)
_PARTS: Final = ("morning", "midday", "afternoon", "evening", "night")


def page_of(customer: str, ahead: Ahead, zone: tzinfo | None) -> str:
    """The page: UTF-8 text of one file that needs nothing else. `zone` None: this machine's."""
    parts = _in_order(ahead.dayparts, _PARTS)
    days = _in_order(ahead.weekdays, _DAYS)
    groups = [
        ("What they do", ahead.actions[:_MOST]),
        ("Out of which category", ahead.categories[:_MOST]),
        ("Over which channel", ahead.channels[:_MOST]),
        ("At what time of day", parts),
        ("On which day", days),
    ]
    tables = "".join(_group(heading, chances) for heading, chances in groups if chances)
    return page(
        f"What comes next for {customer}",
        [
            f'<p class="soft">As of {_when(ahead.now_ms, zone)}.</p>',
            f'<p class="lead">{escape(sentence(ahead))} {escape(coming(ahead, zone))}</p>',
            f'<div class="groups">{tables}</div><p class="soft"><br>{_known(ahead)}</p>',
            _measured(ahead.accuracy, zone),
        ],
        style=_STYLE,
    )


def sentence(ahead: Ahead) -> str:
    """What is likeliest, in a sentence."""
    said = []
    if ahead.actions:
        best = ahead.actions[0]
        said.append(f"Most likely {best.name!r} ({best.chance:.0%})")
    if ahead.categories:
        best = ahead.categories[0]
        said.append(f"out of {best.name!r} ({best.chance:.0%})")
    if ahead.channels:
        best = ahead.channels[0]
        said.append(f"over {best.name!r} ({best.chance:.0%})")
    return ", ".join(said) + "." if said else "Nothing is known of what they do."


def coming(ahead: Ahead, zone: tzinfo | None) -> str:
    """When they come again, or do something again, in a sentence or two."""
    do = f"do {ahead.until!r}" if ahead.until is not None else "come"
    if ahead.until is None and ahead.last_ms is None:
        return "They have not been seen yet."
    if ahead.until is not None and ahead.until_ms is None:
        return f"They have never done {ahead.until!r} yet."
    if not ahead.came_again:
        did = f"done {ahead.until!r}" if ahead.until is not None else "come"
        return f"Too few customers have {did} again yet to say when they do."
    if ahead.hours is None:
        said = [f"They have been away for longer than nearly all who {do} again."]
        if ahead.until is None:
            said = ["They have been away for longer than nearly all who came again."]
    else:
        low, median, high = (_after(ahead.now_ms, hours, zone) for hours in ahead.hours)
        said = [
            f"If they {do} again, then before {median} as likely as after; with 80 % between {low} "
            f"and {high}."
        ]
    if ahead.comes is not None:
        day, week = ahead.comes.within_day, ahead.comes.within_week
        said.append(f"Within a day: {day:.0%}, within a week: {week:.0%}, again or not.")
        if ahead.comes.overdue:
            by_now = min(ahead.comes.by_now, 0.99)
            said.append(f"They are overdue: of such pauses {by_now:.0%} are over by now.")
    return " ".join(said)


MEASURED: Final = (
    "what", "right", "said", "most customers", "own habit", "by chance", "verdict",
    "cases (customers)",
)  # fmt: skip
"""What the columns of `measured` are."""


def measured(accuracy: Accuracy) -> list[tuple[str, ...]]:
    """A row of words for each column that was measured, under MEASURED."""
    return [
        _score(_SAID.get(name, name), one)
        for name, one in accuracy.scores.items()
        if isinstance(one, Score)
    ]


def not_measured(accuracy: Accuracy) -> list[str]:
    """A sentence for each column that was not measured: why."""
    return [
        f"{_SAID.get(name, name)} was not measured: {why}"
        for name, why in accuracy.scores.items()
        if isinstance(why, str)
    ]


def how_measured(accuracy: Accuracy, zone: tzinfo | None) -> str:
    """What the figures are, in a sentence."""
    return (
        f"measured {_when(accuracy.as_of_ms, zone)} on your own customers: what happened in the "
        "newest fifth of the log, foretold from what came before it"
    )


def _score(name: str, one: Score) -> tuple[str, ...]:
    def shown(value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:.0%}" if one.unit == "share" else f"{value:,.1f} h off"

    said = f"{one.said:.0%}"
    if one.unit == "h":
        said = f"{one.said:.0%} held {one.came:.0%}"
    rivals = [shown(one.rivals.get(name)) for name in ("popularity", "frequency", "uniform")]
    of = f"{one.cases:,} ({roughly(one.customers):,})"
    return (name, shown(one.ours), said, *rivals, one.verdict, of)


def _measured(accuracy: Accuracy, zone: tzinfo | None) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    rows = measured(accuracy)
    said = "".join(row("td", cells) for cells in rows)
    table = f'<table class="measured">{row("th", MEASURED)}{said}</table>' if rows else ""
    why = "".join(f'<p class="soft">{escape(one)}.</p>' for one in not_measured(accuracy))
    return (
        f"<section><h2>How far to believe it</h2>{table}{why}"
        f'<p class="soft">{escape(how_measured(accuracy, zone))}. {_READ}</p></section>'
    )


def _known(ahead: Ahead) -> str:
    return (
        f"From {ahead.own_events:,} events of this customer and {ahead.crowd_events:,} of "
        f"about {roughly(ahead.crowd_people):,} customers who agreed to learning. A chance of "
        "30 % means: of a hundred such cases about thirty come so. What is said of a day and of a "
        "week holds for everybody; all else speaks of customers who come again."
    )


def _group(heading: str, chances: Sequence[Chance]) -> str:
    return section(heading, (Bar(one.name, one.chance, f"{one.chance:.0%}") for one in chances))


def _in_order(chances: Sequence[Chance], names: Sequence[str]) -> list[Chance]:
    known = {one.name: one for one in chances}
    return [known[name] for name in names if name in known]


def _when(ms: int, zone: tzinfo | None) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _after(ms: int, hours: float, zone: tzinfo | None) -> str:
    at = datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone) + timedelta(hours=hours)
    return at.strftime("%a %d %b, %H:00") if hours < 14 * 24 else at.strftime("%d %b %Y")
