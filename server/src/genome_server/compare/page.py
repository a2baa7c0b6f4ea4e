"""One genome as a page, for people who never heard of markers. Free of I/O."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from genome_server.pages import Bar, escape, page, section

_COLOURS: Final = (
    "#2563a8", "#b4541a", "#2f7d4f", "#8a3a8f", "#a8263b", "#5b6b12", "#0f7a86", "#6b4fb3",
)  # fmt: skip
_STYLE: Final = ":root{--column:26rem}"
_HYPHEN: Final = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])")
_STEP: Final = re.compile(r"(?<=\w)>(?=\w)")


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
    return page(
        picture.title,
        [
            f'<p class="soft">as of {escape(picture.as_of)} · {len(facts)} markers</p>',
            _strip(facts, colours),
            f"<h2>What stands out</h2><p>{_summary(facts)}</p>",
            *(f"<p>{escape(note)}</p>" for note in picture.notes),
            f'<div class="groups">{groups}</div>',
            '<p class="soft"><br>A bar says how strong a marker is: what the customer did, the '
            "more recent the more, each doubling one step. Beside it stands how many of all "
            "customers have the marker: what few have says most about this one.</p>",
        ],
        style=_STYLE,
    )


def _summary(facts: Sequence[Fact]) -> str:
    """What weighs most in this genome, and few others have."""
    told = sorted(facts, key=lambda fact: fact.share * ((fact.common or 0.0) - 1.0))[:5]
    if not told:
        return "Nothing is known of this customer yet."
    return ", ".join(f"<b>{escape(_plain(fact))}</b>" for fact in told) + "."


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
            f"<title>{escape(_plain(fact))}</title></rect>"
        )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="All markers, most telling first">{"".join(bars)}</svg>'
    )


def _group(name: str, facts: Sequence[Fact], colour: str) -> str:
    ordered = sorted(facts, key=lambda fact: (-fact.strength, fact.value))
    most = math.log2(1 + ordered[0].strength)
    return section(
        _heading(name),
        (
            Bar(
                _words(fact.value),
                math.log2(1 + fact.strength) / most if most else 0.0,
                _common(fact),
                colour,
            )
            for fact in ordered
        ),
    )


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
    """A step of a click sequence is `search>product`."""
    return _STEP.sub(" → ", _HYPHEN.sub(" ", text))
