"""What comes next for one customer as a page: a single HTML file. Free of I/O."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from genome_server.foresee.job import Ahead, Chance

_MOST: Final = 6
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PARTS: Final = ("morning", "midday", "afternoon", "evening", "night")
_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#667085;--paper:#fff;--line:#e4e7ec;
--bar:#2563a8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--paper:#12161d;--line:#2a3140;
--bar:#6ea8e5}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;
max-width:60rem;padding:2rem 1.25rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.05rem;margin:0 0 .4rem}
.lead{font-size:1.15rem;max-width:44rem}.soft{color:var(--soft);max-width:44rem}
.groups{display:grid;grid-template-columns:repeat(auto-fit,minmax(17rem,1fr));gap:1.6rem 2.5rem;
margin:1.6rem 0}
table{border-collapse:collapse;width:100%;table-layout:fixed}
td{padding:.15rem .4rem .15rem 0;vertical-align:middle;overflow-wrap:anywhere}
td.name{width:45%}td.said{width:3.6rem;text-align:right;font-variant-numeric:tabular-nums}
.bar{height:.7rem;border-radius:.2rem;background:var(--bar);min-width:1px}
"""


def page_of(customer: str, ahead: Ahead, zone: tzinfo | None) -> str:
    """The page: UTF-8 text of one file that needs nothing else. `zone` None: this machine's."""
    title = f"What comes next for {html.escape(customer)}"
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
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>"
        f'<p class="soft">As of {_when(ahead.now_ms, zone)}.</p>'
        f'<p class="lead">{html.escape(sentence(ahead))} {html.escape(coming(ahead, zone))}</p>'
        f'<div class="groups">{tables}</div><p class="soft">{_known(ahead)}</p></body></html>\n'
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
    """When they come again, in a sentence."""
    if ahead.last_ms is None:
        return "They have not been seen yet."
    if ahead.hours is None:
        return "They have been away for longer than nearly all who came again."
    low, median, high = (_after(ahead.now_ms, hours, zone) for hours in ahead.hours)
    day, week = ahead.within_day or 0.0, ahead.within_week or 0.0
    return (
        f"If they come again, then before {median} as likely as after; with 80 % between {low} and "
        f"{high}. "
        f"Within a day: {day:.0%}, within a week: {week:.0%}."
    )


def _known(ahead: Ahead) -> str:
    return (
        f"From {ahead.own_events:,} events of this customer and {ahead.crowd_events:,} of "
        f"{ahead.crowd_people:,} customers who agreed to learning. A chance of 30 % means: of a "
        "hundred such cases about thirty come so. Of who never comes again it says nothing."
    )


def _group(heading: str, chances: Sequence[Chance]) -> str:
    rows = "".join(
        f'<tr><td class="name">{html.escape(one.name)}</td>'
        f'<td><div class="bar" style="width:{100 * one.chance:.1f}%"></div></td>'
        f'<td class="said">{one.chance:.0%}</td></tr>'
        for one in chances
    )
    return f"<section><h2>{heading}</h2><table>{rows}</table></section>"


def _in_order(chances: Sequence[Chance], names: Sequence[str]) -> list[Chance]:
    known = {one.name: one for one in chances}
    return [known[name] for name in names if name in known]


def _when(ms: int, zone: tzinfo | None) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _after(ms: int, hours: float, zone: tzinfo | None) -> str:
    at = datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone) + timedelta(hours=hours)
    return at.strftime("%a %d %b, %H:00") if hours < 14 * 24 else at.strftime("%d %b %Y")
