"""The page that `field_walk` writes: a map in SVG and a list, in one file that loads nothing.

The map is drawn from cells. Everything in the file is a position in pixels relative to
the middle of the day; there is no coordinate in it, and nobody's home is on it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h3

_WIDTH, _HEIGHT, _MARGIN = 760.0, 760.0, 56.0
_PIN = 11.0
_COLOURS = {
    "hotel": "#b5532a", "airport": "#3b6ea5", "cafe": "#8a6d3b", "bar": "#7a4b8c",
    "restaurant": "#b03a48", "gym": "#2e7d5b", "park": "#4f8a3c", "subway": "#5b6770",
    "station": "#5b6770",
}  # fmt: skip
_OTHER = "#6b7a8f"


@dataclass(frozen=True)
class Shown:
    """One offer as it came up: what it says, its score (0 to 1), and the engine's reason."""

    title: str
    score: float
    reason: str


@dataclass(frozen=True)
class Stop:
    """One check-in: local time, the place kind (empty: not shown), the cell, and what came up."""

    time: str
    kind: str
    cell: str
    shown: Sequence[Shown]
    why: str


class _Map:
    """Cells to pixels, relative to the middle of some cells."""

    def __init__(self, cells: Iterable[str]) -> None:
        spots = [h3.cell_to_latlng(cell) for cell in cells]
        south, north = min(s[0] for s in spots), max(s[0] for s in spots)
        west, east = min(s[1] for s in spots), max(s[1] for s in spots)
        self._middle = ((south + north) / 2, (west + east) / 2)
        self._shrink = math.cos(math.radians(self._middle[0]))
        wide = max((east - west) * self._shrink, 0.004)
        high = max(north - south, 0.004)
        self.pixels_per_degree = min((_WIDTH - 2 * _MARGIN) / wide, (_HEIGHT - 2 * _MARGIN) / high)

    def at(self, spot: tuple[float, float]) -> tuple[float, float]:
        east = (spot[1] - self._middle[1]) * self._shrink
        north = spot[0] - self._middle[0]
        scale = self.pixels_per_degree
        return _WIDTH / 2 + east * scale, _HEIGHT / 2 - north * scale

    def centre(self, cell: str) -> tuple[float, float]:
        return self.at(h3.cell_to_latlng(cell))

    def outline(self, cell: str) -> str:
        corners = (self.at(corner) for corner in h3.cell_to_boundary(cell))
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)

    def scale_bar(self) -> tuple[float, str]:
        """A round length that fits: its width in pixels and its name."""
        for metres in (20_000, 10_000, 5_000, 2_000, 1_000, 500, 200, 100):
            pixels = metres / 111_200 * self.pixels_per_degree
            if pixels < _WIDTH / 4:
                return pixels, f"{metres // 1000} km" if metres >= 1000 else f"{metres} m"
        return 1.0, ""


def _spread(pins: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Move pins apart until they can be read, and keep them on the map."""
    spots = [list(pin) for pin in pins]
    for _ in range(200):
        moved = False
        for i, a in enumerate(spots):
            for j, b in enumerate(spots[:i]):
                dx, dy = a[0] - b[0], a[1] - b[1]
                apart = math.hypot(dx, dy)
                if apart < 2.15 * _PIN:
                    moved = True
                    if apart < 0.01:  # in one spot: leave it in a direction of one's own
                        dx, dy, apart = math.cos(i * 2.4 + j), math.sin(i * 2.4 + j), 1.0
                    push = (2.15 * _PIN - min(apart, 2.15 * _PIN)) / 2 + 0.2
                    for spot, sign in ((a, 1), (b, -1)):
                        spot[0] += sign * push * dx / apart
                        spot[1] += sign * push * dy / apart
        for spot in spots:
            spot[0] = min(max(spot[0], _PIN), _WIDTH - _PIN)
            spot[1] = min(max(spot[1], _PIN), _HEIGHT - _PIN)
        if not moved:
            break
    return [(x, y) for x, y in spots]


def _colour(kind: str) -> str:
    return _COLOURS.get(kind, _OTHER)


def _svg(stops: Sequence[tuple[int, Stop]], around: Iterable[tuple[str, Sequence[str]]]) -> str:
    """The map: known places as a ground, the way, a cell and a numbered pin for each stop."""
    drawn = _Map(stop.cell for _, stop in stops)
    parts: list[str] = []
    for kind, cells in around:
        wide = kind == "airport"
        for cell in cells if wide else cells[len(cells) // 2 : len(cells) // 2 + 1]:
            x, y = drawn.centre(cell)
            if not (0 < x < _WIDTH and 0 < y < _HEIGHT):
                continue
            shape = (
                f'<polygon points="{drawn.outline(cell)}" opacity=".16"'
                if wide
                else f'<circle cx="{x:.0f}" cy="{y:.0f}" r="2.1" opacity=".45"'
            )
            parts.append(f'{shape} fill="{_colour(kind)}"/>')
    centres = [drawn.centre(stop.cell) for _, stop in stops]
    way = " ".join(f"{x:.1f},{y:.1f}" for x, y in centres)
    parts.append(f'<polyline points="{way}" class="way"/>')
    pins = _spread(centres)
    for (number, stop), (x, y), (px, py) in zip(stops, centres, pins, strict=True):
        colour = _colour(stop.kind)
        top = stop.shown[0].title if stop.shown else "nothing"
        label = html.escape(f"{stop.time} {stop.kind}: {top}")
        parts.append(
            f'<g><title>{label}</title><polygon points="{drawn.outline(stop.cell)}" '
            f'fill="{colour}" opacity=".8"/>'
            f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{px:.1f}" y2="{py:.1f}" stroke="{colour}"/>'
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{_PIN}" fill="{colour}"/>'
            f'<text x="{px:.1f}" y="{py + 4:.1f}" class="pin">{number}</text></g>'
        )
    bar, length = drawn.scale_bar()
    floor = _HEIGHT - 18
    parts.append(
        f'<path d="M18 {floor - 5} V{floor} H{18 + bar:.0f} V{floor - 5}" class="bar"/>'
        f'<text x="{18 + bar / 2:.0f}" y="{floor - 8}" class="scale">{length}</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" '
        f'aria-label="Where which offer came up">{"".join(parts)}</svg>'
    )


def _item(number: int, stop: Stop) -> str:
    if not stop.kind:
        return (
            f'<li class="quiet"><b class="dot none">{number}</b><div><p class="where">{stop.time} '
            "· somewhere private</p><p>neither drawn nor named</p></div></li>"
        )
    first, *rest = stop.shown or [Shown("nothing", 0.0, "")]
    meter = f'<span class="meter"><i style="width:{100 * first.score:.0f}%"></i></span>'
    also = ", ".join(f"{html.escape(o.title)} ({100 * o.score:.0f} %)" for o in rest)
    return (
        f'<li><b class="dot" style="background:{_colour(stop.kind)}">{number}</b><div>'
        f'<p class="where">{stop.time} · {html.escape(stop.kind)}</p>'
        f'<p class="offer">{html.escape(first.title)}</p>'
        f'<p class="score">{meter}{100 * first.score:.0f} % · {html.escape(first.reason)}</p>'
        f"<p>{html.escape(stop.why)}</p>"
        + (f'<p class="also">also: {also}</p>' if also else "")
        + "</div></li>"
    )


_STYLE = """
:root{color-scheme:light;--ink:#1d2733;--soft:#5d6b7a;--line:#d9dfe5;--ground:#f6f7f8;--card:#fff}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0 0 6px}
.lead{color:var(--soft);max-width:78ch;margin:0 0 20px}
.lead b{color:var(--ink)}
.two{display:grid;grid-template-columns:minmax(0,7fr) minmax(300px,5fr);gap:24px;
align-items:start}
.map{position:sticky;top:16px;background:var(--card);border:1px solid var(--line);
border-radius:10px}
svg{display:block;width:100%;height:auto}
.way{fill:none;stroke:#1d2733;stroke-width:1.2;stroke-dasharray:3 4;opacity:.45}
.pin{fill:#fff;font:600 11px system-ui,sans-serif;text-anchor:middle}
.bar{fill:none;stroke:#5d6b7a}
.scale{fill:#5d6b7a;font:11px system-ui,sans-serif;text-anchor:middle;
stroke:#fff;stroke-width:5px;stroke-linejoin:round;paint-order:stroke}
ol{list-style:none;margin:0;padding:0}
li{display:flex;gap:12px;padding:12px 0;border-bottom:1px solid var(--line)}
li p{margin:0;color:var(--soft);font-size:13.5px}
.dot{flex:none;width:24px;height:24px;border-radius:50%;color:#fff;text-align:center;
font:600 12px/24px system-ui,sans-serif}
.none{background:#b9c2cb}
li .where{font-size:12.5px;letter-spacing:.02em}
li .offer{color:var(--ink);font-weight:600;font-size:16px}
.meter{display:inline-block;width:90px;height:6px;border-radius:3px;background:var(--line);
margin-right:8px;vertical-align:1px;overflow:hidden}
.meter i{display:block;height:100%;background:var(--ink)}
@media(max-width:860px){.two{grid-template-columns:1fr}.map{position:static}}
"""


def page(
    title: str, lead: str, stops: Sequence[Stop], around: Iterable[tuple[str, Sequence[str]]] = ()
) -> str:
    """The whole HTML file. `around` are the known places, (kind, cells), as the ground.

    Raises `ValueError` where no stop has a place to draw.
    """
    numbered = list(enumerate(stops, start=1))
    drawn = [(number, stop) for number, stop in numbered if stop.kind]
    if not drawn:
        raise ValueError("none of these stops has a place that may be drawn")
    items = "\n".join(_item(number, stop) for number, stop in numbered)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<h1>{html.escape(title)}</h1><p class="lead">{lead}</p><div class="two">'
        f'<div class="map">{_svg(drawn, around)}</div>\n<ol>{items}</ol></div>'
        "</main></body></html>\n"
    )
