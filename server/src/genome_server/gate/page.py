"""The report page of a verdict: what each check said, and the figures as pictures. Free of I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from genome_server.gate.kept import Said
from genome_server.gate.rules import Outcome, State
from genome_server.pages import escape, page

_STYLE: Final = """
.checks td{vertical-align:top}td.state{width:7rem;font-weight:600}td.check{width:8rem}
.fine{color:#2e7d4f}.stop{color:#c0392b}.cannot{color:#b7791f}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}svg .name{fill:var(--ink)}
.axis{stroke:var(--line)}.dot{fill:var(--bar)}.whisker{stroke:var(--bar);stroke-width:2}
.gain{fill:#2e7d4f}.loss{fill:#c0392b}.none{fill:var(--soft)}
"""
_CLASS: Final = {State.FINE: "fine", State.STOP: "stop", State.CANNOT_TELL: "cannot"}
_SAID: Final = {
    Outcome.PASSED: "It passes the gate.",
    Outcome.STOPPED: "It is stopped.",
    Outcome.CANNOT_TELL: "It cannot be told whether it may replace what is in force.",
}
_WIDE: Final = 640
_LEFT: Final = 220
_ROW: Final = 20
_MOST: Final = 20


def page_of(said: Said, report: Mapping[str, Any]) -> str:
    """The page, UTF-8 text of one file that needs nothing else."""
    verdict, pictures = said.verdict, said.verdict.pictures
    when = datetime.fromtimestamp(verdict.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    beside = f" beside model {verdict.against}, which is in force" if verdict.against else ""
    origin = str(report.get("name") or "train")
    why = f" Why, though not all can be told: {verdict.why_open}." if verdict.why_open else ""
    parts = [
        f'<p class="lead">{escape(_SAID[verdict.outcome] + why)}</p>',
        f'<p class="soft">From {escape(origin)}; looked at {when}{escape(beside)}.</p>',
        _checks(said),
    ]
    if bins := pictures.get("calibration"):
        parts.append(_section("Calibration: what it says, and what comes true", _plot(bins)))
    if segments := pictures.get("segments"):
        told = [one for one in segments if one["gain"]]
        few = len(segments) - len(told)
        note = f'<p class="soft">Of {few} more too little is known.</p>' if few else ""
        heading = "Gain by segment: value by decision, with intervals for all of them together"
        parts.append(_section(heading, _forest(told) + note))
    if offers := pictures.get("offers"):
        heading = "Where it gains and loses: each offer's part of the difference"
        parts.append(_section(heading, _bars(offers[:_MOST])))
    if counts := pictures.get("decisions"):
        parts.append(_section("Decisions that were asked about", _counts(counts)))
    return page(f"Model {verdict.model} at the gate", parts, style=_STYLE)


def _section(heading: str, inside: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{inside}</section>"


def _checks(said: Said) -> str:
    rows = "".join(
        f'<tr><td class="check">{escape(one.name)}</td>'
        f'<td class="state {_CLASS[one.state]}">{escape(one.state.value)}</td>'
        f"<td>{escape(one.reason)}</td></tr>"
        for one in said.verdict.checks
    )
    why = f"<p>Published all the same: {escape(said.despite)}</p>" if said.despite else ""
    return f'<table class="checks">{rows}</table>{why}'


def _plot(bins: Sequence[Mapping[str, Any]]) -> str:
    """A dot for each bin over the line on which all would lie."""
    side, edge = 320, 36
    top = max(0.05, *(float(max(one["said"], one["came"])) for one in bins)) * 1.05

    def x(value: float) -> float:
        return edge + value / top * (side - 2 * edge)

    def y(value: float) -> float:
        return side - edge - value / top * (side - 2 * edge)

    dots = "".join(
        f'<circle class="dot" cx="{x(one["said"]):.1f}" cy="{y(one["came"]):.1f}" r="4">'
        f"<title>said {one['said']:.3f}, came true {one['came']:.3f} of {one['examples']}</title>"
        "</circle>"
        for one in bins
    )
    return (
        f'<svg viewBox="0 0 {side} {side}" style="max-width:28rem" role="img">'
        f'<line class="axis" x1="{x(0)}" y1="{y(0)}" x2="{x(top):.1f}" y2="{y(top):.1f}"/>'
        f'<line class="axis" x1="{x(0)}" y1="{y(0)}" x2="{x(top):.1f}" y2="{y(0)}"/>'
        f'<line class="axis" x1="{x(0)}" y1="{y(0)}" x2="{x(0)}" y2="{y(top):.1f}"/>'
        f'<text x="{x(top):.0f}" y="{side - 16}" text-anchor="end">said, up to {top:.2f}</text>'
        f'<text x="{edge}" y="20">came true</text>{dots}</svg>'
    )


def _forest(segments: Sequence[Mapping[str, Any]]) -> str:
    """A line from the low end to the high end of each gain, around nothing gained."""
    if not segments:
        return ""
    gains = [one["gain"] for one in segments]
    widest = max(max(abs(gain["low"]), abs(gain["high"])) for gain in gains) or 1.0
    middle, half = (_LEFT + _WIDE) / 2, (_WIDE - _LEFT) / 2 - 10

    def x(value: float) -> float:
        return middle + value / widest * half

    rows = []
    for number, one in enumerate(segments):
        at, gain = _ROW * number + 14, one["gain"]
        rows.append(
            f'<text class="name" x="0" y="{at + 4}">{escape(one["name"][:34])}</text>'
            f'<line class="whisker" x1="{x(gain["low"]):.1f}" x2="{x(gain["high"]):.1f}" '
            f'y1="{at}" y2="{at}"/><circle class="dot" cx="{x(gain["value"]):.1f}" cy="{at}" r="4">'
            f"<title>{gain['value']:+.4g} ({gain['low']:+.4g} to {gain['high']:+.4g}), "
            f"{one['decisions']} decisions</title></circle>"
        )
    tall = _ROW * len(segments) + 24
    return (
        f'<svg viewBox="0 0 {_WIDE} {tall}" role="img">'
        f'<line class="axis" x1="{middle}" x2="{middle}" y1="0" y2="{tall - 18}"/>'
        f'<text x="{middle}" y="{tall - 4}" text-anchor="middle">0</text>'
        f'<text x="{_WIDE - 10}" y="{tall - 4}" text-anchor="end">{widest:+.3g}</text>'
        f"{''.join(rows)}</svg>"
    )


def _bars(offers: Sequence[Mapping[str, Any]]) -> str:
    """A bar to the right for what is gained by an offer, to the left for what is lost."""
    widest = max(abs(one["gain"]) for one in offers) or 1.0
    middle, half = (_LEFT + _WIDE) / 2, (_WIDE - _LEFT) / 2 - 10
    rows = []
    for number, one in enumerate(offers):
        at, long = _ROW * number + 6, abs(one["gain"]) / widest * half
        begin = middle if one["gain"] >= 0 else middle - long
        kind = "gain" if one["gain"] > 0 else "loss" if one["gain"] < 0 else "none"
        said = f"{one['gain']:+.4g}; shown {one['before']:.1%} before, {one['after']:.1%} after"
        rows.append(
            f'<text class="name" x="0" y="{at + 11}">{escape(one["offer"][:34])}</text>'
            f'<rect class="{kind}" x="{begin:.1f}" y="{at}" width="{max(long, 1):.1f}" height="12">'
            f"<title>{escape(said)}</title></rect>"
        )
    tall = _ROW * len(offers) + 8
    return f'<svg viewBox="0 0 {_WIDE} {tall}" role="img">{"".join(rows)}</svg>'


def _counts(counts: Mapping[str, Any]) -> str:
    rows = [
        ("in the log", counts["in_the_log"]),
        ("done again, and asked about", counts["come_out"]),
    ]
    rows += [*counts["left_out"].items(), *counts["do_not_come_out"].items()]
    cells = "".join(
        f'<tr><td>{escape(str(name))}</td><td class="said">{number:,}</td></tr>'
        for name, number in rows
    )
    return f"<table>{cells}</table>"
