"""Cumulative regret over time as an SVG: one line for each policy, named at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Final

import numpy as np

from tests.bench.world.covariates import Floats

WIDTH: Final = 860
HEIGHT: Final = 460
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 40, 48
_POINTS: Final = 120
_LABEL: Final = 15
_Scale = Callable[[float], float]
COLOURS: Final = (
    "#2563a8", "#c2410c", "#7c3aed", "#15803d", "#b91c1c", "#0e7490", "#6b7280", "#a16207",
)  # fmt: skip


def plot(title: str, days: int, regrets: Mapping[str, Sequence[Floats]]) -> str:
    """The whole file. `regrets` has by policy what each run lost in each moment, float64[n].

    A line is the mean over the runs of the sum so far; the band is from the least to the most.
    """
    sums = {name: np.cumsum(np.stack(runs), axis=1) for name, runs in regrets.items()}
    total = int(next(iter(sums.values())).shape[1])
    at = np.unique(np.linspace(0, total - 1, _POINTS).astype(int))
    top: float = max(float(one[:, -1].max()) for one in sums.values()) * 1.03 or 1.0

    def x(moment: float) -> float:
        return float(_LEFT + (WIDTH - _LEFT - _RIGHT) * (moment + 1) / total)

    def y(value: float) -> float:
        return float(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top)

    parts = [_frame(title, days, total, top, x, y)]
    ends = sorted(sums, key=lambda name: -float(sums[name][:, -1].mean()))
    below = -1e9
    for number, name in enumerate(ends):
        colour = COLOURS[number % len(COLOURS)]
        one = sums[name][:, at]
        upper = [f"{x(m):.1f},{y(v):.1f}" for m, v in zip(at, one.max(axis=0), strict=True)]
        lower = [f"{x(m):.1f},{y(v):.1f}" for m, v in zip(at, one.min(axis=0), strict=True)]
        mean = [f"{x(m):.1f},{y(v):.1f}" for m, v in zip(at, one.mean(axis=0), strict=True)]
        band = " ".join([*upper, *reversed(lower)])
        parts.append(f'<polygon points="{band}" fill="{colour}" opacity="0.15"/>')
        parts.append(
            f'<polyline points="{" ".join(mean)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        end = float(one[:, -1].mean())
        below = max(below + _LABEL, y(end) + 4)
        said = escape(f"{name} {1000 * end / total:.0f}")
        parts.append(f'<text x="{x(total) + 8:.1f}" y="{below:.1f}" fill="{colour}">{said}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui,sans-serif" font-size="13">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _frame(title: str, days: int, total: int, top: float, x: _Scale, y: _Scale) -> str:
    parts = [f'<text x="{_LEFT}" y="22" font-size="15" fill="#1d2430">{escape(title)}</text>']
    step = 10.0 ** np.floor(np.log10(top / 2))
    step *= next(n for n in (1, 2, 5, 10) if top / (step * n) <= 7)
    parts.extend(
        f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
        f'stroke="#e4e7ec"/><text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end" '
        f'fill="#667085">{value:,.0f}</text>'
        for value in np.arange(0, top, step)
    )
    for day in range(0, days + 1, 2):
        at = x(total * day / days - 1)
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - _BOTTOM + 18}" text-anchor="middle" '
            f'fill="#667085">{day}</text>'
        )
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle" fill="#667085">days</text>'
        f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle" '
        f'fill="#667085">acceptances lost so far</text>'
    )
    return "".join(parts)
