"""What `uplift` says, in words and as a page. Free of I/O."""

from __future__ import annotations

from typing import Final

from genome_server.pages import escape, page
from genome_server.value.moved import Moved
from genome_server.value.uplift import LEAST_OF_EACH, LEAST_WITH, ByMarker, Measured, Uplift

FIFTHS: Final = ("fifth that it helps", "customers", "difference", "from", "to")
MARKERS: Final = ("marker", "customers", "having it", "others", "apart from", "to")
_SHOWN: Final = 10
_ORDER: Final = ("most", "2nd", "3rd", "4th", "least")
_STYLE: Final = (
    "table.told{table-layout:auto}.told th,.told td{text-align:right;font-weight:400;"
    "padding:.25rem .9rem .25rem 0}.told th{color:var(--soft);font-size:.85rem}"
    ".told th:first-child,.told td:first-child{text-align:left}"
    "svg path{fill:none;stroke:var(--bar);stroke-width:3}"
    "svg line{stroke:var(--soft);stroke-dasharray:4}svg text{fill:var(--soft);font-size:11px}"
)
_WIDE, _HIGH, _EDGE = 640, 280, 24


def amount(moved: Moved, value: float) -> str:
    """A difference, in the unit of what was asked."""
    if moved.question.measure == "amount":
        return f"{value:+,.3f} {moved.currency}".rstrip()
    return f"{value:+.2%}"


def sentences(moved: Moved) -> list[str]:
    """What can be said in words, the groups first."""
    found = moved.uplift
    told = [f"{moved.campaign}: {moved.shown:,} customers shown, {moved.held:,} held out."]
    if found is None:
        told.append(
            f"Whom showing helps cannot be told: it takes {LEAST_OF_EACH:,} of either group, and "
            f"markers that {LEAST_WITH:,} of them have and {LEAST_WITH:,} have not."
        )
        return told
    _, difference, low, high = _measured(moved, found.all)
    told.append(f"Showing makes a difference of {difference} ({low} to {high}) to each.")
    area = [amount(moved, value) for value in (found.area, found.low, found.high)]
    if moved.sure:
        told.append(
            f"It can be told whom: the area of the Qini curve is {area[0]} "
            f"({area[1]} to {area[2]})."
        )
    else:
        told.append(
            "Whom it helps more than others cannot be told: an order by genomes is no better than "
            f"none (area of the Qini curve {area[0]}, {area[1]} to {area[2]}). Show it to all, or "
            "to nobody; with more customers ask again."
        )
    return told


def left_out(moved: Moved) -> str | None:
    """What offers can say of whom it does not help; None where nothing is known of anybody."""
    if moved.uplift is None or not moved.sure:
        return None
    names = [moved.vocabulary.name(one.marker) for one in moved.uplift.markers if one.unmoved]
    if not names:
        return None
    return (
        f"It does not help who has {', '.join(names)}. To leave them out, say so in the "
        f"offers: none_of: [{', '.join(names)}]"
    )


def fifths(moved: Moved, found: Uplift) -> list[tuple[str, ...]]:
    """Rows under FIFTHS."""
    pairs = zip(_ORDER, found.fifths, strict=True)
    return [(name, *_measured(moved, one)) for name, one in pairs]


def markers(moved: Moved, found: Uplift) -> list[tuple[str, ...]]:
    """Rows under MARKERS: those that tell the most."""
    return [_row(moved, one) for one in found.markers[:_SHOWN]]


def page_of(moved: Moved) -> str:
    """All of it as one file of HTML that needs nothing else."""
    said, out = sentences(moved), left_out(moved)
    parts = [f"<p>{escape(one)}</p>" for one in (*said, *([out] if out else []))]
    if moved.uplift is not None and moved.sure:
        parts.append(_drawn(moved, moved.uplift))
        parts.append(_table("By how much it helps", FIFTHS, fifths(moved, moved.uplift)))
        parts.append(_table("By marker", MARKERS, markers(moved, moved.uplift)))
    return page(f"Whom {moved.campaign} helps", parts, style=_STYLE)


def _measured(moved: Moved, one: Measured) -> tuple[str, ...]:
    values = (one.difference, one.low, one.high)
    return f"{one.persons:,}", *(amount(moved, value) for value in values)


def _row(moved: Moved, one: ByMarker) -> tuple[str, ...]:
    values = (one.having.difference, one.others.difference, one.low, one.high)
    name = moved.vocabulary.name(one.marker)
    return name, f"{one.having.persons:,}", *(amount(moved, value) for value in values)


def _drawn(moved: Moved, found: Uplift) -> str:
    """The Qini curve and its diagonal."""
    curve = found.curve.tolist()
    low, high = min(0.0, *curve), max(0.0, *curve)
    span = (high - low) or 1.0

    def at(share: float, value: float) -> tuple[float, float]:
        x = _EDGE + share * (_WIDE - 2 * _EDGE)
        return round(x, 1), round(_HIGH - _EDGE - (value - low) / span * (_HIGH - 2 * _EDGE), 1)

    points = [at(place / (len(curve) - 1), value) for place, value in enumerate(curve)]
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    (x1, y1), (x2, y2) = points[0], points[-1]
    best = max(range(len(curve)), key=curve.__getitem__)
    says = (
        f"Most is done where the first {best / (len(curve) - 1):.0%} of the order are shown: "
        f"{amount(moved, curve[best])} by customer, and {amount(moved, curve[-1])} where all are. "
        "The dashes are an order without meaning. Where the curve is highest is a matter of "
        "chance, too: go by the fifths."
    )
    return (
        "<section><h2>How much more is done, by how many are shown it</h2>"
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" role="img">'
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/><path d="{path}"/>'
        f'<text x="{x1}" y="{_HIGH - 4}">nobody</text>'
        f'<text x="{x2}" y="{_HIGH - 4}" text-anchor="end">everybody</text></svg>'
        f'<p class="soft">{escape(says)}</p></section>'
    )


def _table(heading: str, names: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    def row(tag: str, cells: tuple[str, ...]) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    said = "".join(row("td", cells) for cells in rows)
    return (
        f"<section><h2>{escape(heading)}</h2>"
        f'<table class="told">{row("th", names)}{said}</table></section>'
    )
