"""What a campaign brings, as a page. Free of I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from genome_server.lift.job import Answer
from genome_server.lift.judging import Outcome
from genome_server.lift.telling import (
    DUES,
    GROUPS,
    LIMITS,
    bounds,
    dues,
    findings,
    groups,
    headline,
    limits,
    notes,
    of_segments,
    segments,
    segments_heading,
    warnings,
)
from genome_server.pages import escape, page

_STYLE: Final = (
    "table.told{table-layout:auto}.told th,.told td{text-align:right;font-weight:400;"
    "padding:.25rem .9rem .25rem 0}.told th{color:var(--soft);font-size:.85rem}"
    ".told th:first-child,.told td:first-child{text-align:left}"
    ".loud{border-left:.35rem solid #c0392b;padding:.4rem .8rem}"
    "svg .all{stroke:var(--soft);stroke-width:2}svg .one{stroke:var(--bar);stroke-width:7}"
    "svg .zero{stroke:var(--line);stroke-width:2}svg circle{fill:var(--ink)}"
)
_WIDE: Final = 640
_READ: Final = (
    "The thick line is the 95 % interval for one look on a day that was chosen beforehand, the "
    "thin one for all looks together, whenever somebody looks. The dot is what was seen; the "
    "upright line is no difference."
)


def page_of(*answers: Answer) -> str:
    """The page: UTF-8 text of one file that needs nothing else. Several are of one experiment."""
    parts = [part for answer in answers for part in _parts(answer)]
    first = answers[0].campaign
    what = f"the arms of {first.experiment} bring" if first.experiment else f"{first} brings"
    return page(f"What {what}", parts, style=_STYLE)


def _parts(answer: Answer) -> list[str]:
    parts = [f'<p class="lead">{escape(headline(answer))}</p>']
    parts += [
        f'<p class="loud"><b>Do not believe this:</b> {escape(one)}.</p>'
        for one in warnings(answer)
    ]
    parts += [f"<p>{escape(one)}</p>" for one in findings(answer)]
    parts.append(_table("The groups", GROUPS, groups(answer)))
    if answer.verdict.outcomes:
        parts.append(_table("Between them", LIMITS, limits(answer)))
        parts += [_drawn(one) for one in answer.verdict.outcomes]
        parts.append(f'<p class="soft">{_READ}</p>')
    due = dues(answer)
    if due:
        parts.append(_table("When it can be told", DUES, due))
    if answer.verdict.segments is not None:
        heading = segments_heading(answer)
        parts.append(_table(f"By {answer.question.by}", ("", *heading[1:]), segments(answer)))
        parts.append(f'<p class="soft">{escape(of_segments(answer))}</p>')
    told = "".join(f"<li>{escape(one)}.</li>" for one in notes(answer))
    parts.append(f'<ul class="soft">{told}</ul>')
    return parts


def _table(heading: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    said = "".join(row("td", cells) for cells in rows)
    return (
        f"<section><h2>{escape(heading)}</h2>"
        f'<table class="told">{row("th", names)}{said}</table></section>'
    )


def _drawn(outcome: Outcome) -> str:
    """Both intervals, to scale."""
    contrast = outcome.contrast
    low, high = bounds(contrast)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return round(20 + (value - low) / span * (_WIDE - 40), 1)

    def line(name: str, left: float, right: float) -> str:
        return f'<line class="{name}" x1="{at(left)}" x2="{at(right)}" y1="20" y2="20"/>'

    return (
        f"<section><h2>Difference: {escape(outcome.name)}</h2>"
        f'<svg viewBox="0 0 {_WIDE} 40" role="img">'
        f'<line class="zero" x1="{at(0.0)}" x2="{at(0.0)}" y1="2" y2="38"/>'
        f"{line('all', *contrast.always)}{line('one', *contrast.planned)}"
        f'<circle cx="{at(contrast.difference)}" cy="20" r="6"/></svg></section>'
    )
