"""One genome as a page: a single HTML file for people who never heard of markers. Free of I/O."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_COLOURS: Final = (
    "#2563a8", "#b4541a", "#2f7d4f", "#8a3a8f", "#a8263b", "#5b6b12", "#0f7a86", "#6b4fb3",
)  # fmt: skip
_HYPHEN: Final = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])")
_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#667085;--paper:#fff;--line:#e4e7ec}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--paper:#12161d;--line:#2a3140}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;
max-width:60rem;padding:2rem 1.25rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .4rem}
p{margin:.3rem 0 1rem;max-width:44rem}.soft{color:var(--soft)}
svg{display:block;width:100%;height:auto}
table{border-collapse:collapse;width:100%;table-layout:fixed}
td{padding:.18rem .5rem .18rem 0;vertical-align:middle}
td.name{width:42%;overflow-wrap:anywhere}td.said{width:30%;text-align:right;font-size:.85rem}
.bar{height:.75rem;border-radius:.2rem;min-width:2px}
.groups{display:grid;grid-template-columns:repeat(auto-fit,minmax(26rem,1fr));gap:0 2.5rem}
@media(max-width:30rem){.groups{grid-template-columns:1fr}}
"""


@dataclass(frozen=True, slots=True)
class Fact:
    """A marker of the genome: strength, share of the genome (0 to 1), and how many have it.

    `common` is the share of all customers (0 to 1); None where so few have it that it is not said.
    """

    namespace: str
    value: str
    strength: float
    share: float
    common: float | None


@dataclass(frozen=True)
class Picture:
    """What a page says of one customer, beside the facts of the genome."""

    title: str
    as_of: str
    facts: Sequence[Fact]
    notes: Sequence[str] = field(default=())


def page_of(picture: Picture) -> str:
    """The page: UTF-8 text of one file that needs nothing else."""
    facts = sorted(picture.facts, key=lambda fact: (-fact.share, fact.namespace, fact.value))
    names = sorted(
        {fact.namespace for fact in facts},
        key=lambda name: (-sum(f.share for f in facts if f.namespace == name), name),
    )
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}
    groups = "".join(
        _group(name, [fact for fact in facts if fact.namespace == name], colours[name])
        for name in names
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in picture.notes)
    title = html.escape(picture.title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{title}</h1><p class="soft">as of {html.escape(picture.as_of)} · '
        f"{len(facts)} markers</p>{_strip(facts, colours)}"
        f"<h2>What stands out</h2><p>{_summary(facts)}</p>{notes}"
        f'<div class="groups">{groups}</div>'
        '<p class="soft"><br>A bar says how strong a marker is: what the customer did, the more '
        "recent the more, each doubling one step. Beside it stands how many of all customers have "
        "the marker: what few have says most about this one.</p></body></html>\n"
    )


def _summary(facts: Sequence[Fact]) -> str:
    """What weighs most in this genome, and few others have."""
    told = sorted(facts, key=lambda fact: fact.share * ((fact.common or 0.0) - 1.0))[:5]
    if not told:
        return "Nothing is known of this customer yet."
    return ", ".join(f"<b>{html.escape(_plain(fact))}</b>" for fact in told) + "."


def _strip(facts: Sequence[Fact], colours: dict[str, str]) -> str:
    """All markers side by side, each as high as it is strong."""
    if not facts:
        return ""
    width, height = 960, 90
    step = width / len(facts)
    most = max(math.log2(1 + fact.strength) for fact in facts)
    bars = []
    for i, fact in enumerate(facts):
        high = height * math.log2(1 + fact.strength) / most
        bars.append(
            f'<rect x="{i * step:.1f}" y="{height - high:.1f}" width="{step * 0.8:.1f}" '
            f'height="{high:.1f}" fill="{colours[fact.namespace]}">'
            f"<title>{html.escape(_plain(fact))}</title></rect>"
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="All markers, most telling first">{"".join(bars)}</svg>'
    )


def _group(name: str, facts: Sequence[Fact], colour: str) -> str:
    ordered = sorted(facts, key=lambda fact: (-fact.strength, fact.value))
    most = math.log2(1 + ordered[0].strength)
    rows = []
    for fact in ordered:
        width = 100 * math.log2(1 + fact.strength) / most if most else 0.0
        rows.append(
            f'<tr><td class="name">{html.escape(_words(fact.value))}</td>'
            f'<td><div class="bar" style="width:{width:.0f}%;background:{colour}"></div></td>'
            f'<td class="said soft">{_common(fact)}</td></tr>'
        )
    heading = html.escape(_heading(name))
    return f"<section><h2>{heading}</h2><table>{''.join(rows)}</table></section>"


def _common(fact: Fact) -> str:
    if fact.common is None:
        return "hardly anybody else"
    return f"{fact.common:.0%} of customers"


def _plain(fact: Fact) -> str:
    return f"{_heading(fact.namespace)}: {_words(fact.value)}"


def _heading(namespace: str) -> str:
    """What was turned down has a namespace that begins with `not-`."""
    kind = namespace.removeprefix("not-")
    return f"turned down, {_words(kind)}" if kind != namespace else _words(kind)


def _words(text: str) -> str:
    return _HYPHEN.sub(" ", text)
