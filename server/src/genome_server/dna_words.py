"""The dna.yaml of a new tenant, and rules of the DNA schema as the file spells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from edge_sdk.dna.schema import (
    MAX_DOUBLINGS,
    MAX_MARKERS,
    ONE_Q24,
    DnaSchema,
    KindRule,
    NamespaceRule,
    default_schema,
)
from genome_server.derived.insights import NAMES

LABELS: Final[Mapping[str, int]] = {"success": 1, "refusal": -1, "neither": 0}
"""How training reads a kind."""

# A new landmark lies so far before today: what is imported of the past still counts finely, and 25
# half-lives of the shortest kind still lie ahead.
_LANDMARK_DAYS_BACK: Final = 180


def default_text(now: datetime) -> str:
    """The file that `init` writes; the landmark lies some months before `now`."""
    first = (now.astimezone(UTC) - timedelta(days=_LANDMARK_DAYS_BACK)).date()
    rules = default_schema(0)
    names = "\n".join(
        f"  {rule.name}: {spell_namespace(rule)}" for rule in default_namespaces(rules)
    )
    kinds = "\n".join(f"  {rule.name}: {spell_kind(rule)}" for rule in default_kinds(rules))
    return f"""\
# The DNA schema of this tenant: how markers fade, and what interactions weigh.
# A change takes effect with the next `genome-server build` and `publish`.

# Strengths are kept as of this day. It must not lie in the future, and lasts
# {MAX_DOUBLINGS} times the shortest half-life below; builds move it on before that is used up.
landmark: {first.isoformat()}

# A strength has halved after its half-life: hours (36h), days (30d), or never.
default_half_life: {spell_hours(rules.default_half_life_hours)}

# What a fact of a customer's profile weighs (a purchase weighs 2). Namespaces of
# customers' attributes that are not listed below never fade and weigh this much.
profile_weight: 1.0

# The markers of a genome that a device sees: the strongest; or, after `genome-server dna count`,
# those that tell customers apart.
max_markers: {MAX_MARKERS}

# How strengths are written for devices: 2, in steps that an imprint elsewhere leaves alone, so
# that little is sent; 1, which is meant where nothing is said here, for SDKs before 0.2.
quantiser: {rules.quantiser}

# Half-life by namespace. A namespace of profiles: `age: {{profile: 2.0}}`.
#   moment       what went on before counts half as much in the moment after so long: 90s, 30m,
#                2h, or none, which forgets it at once
#   max_markers  of this namespace a device sees so many at most: `word: {{half_life: 120d,
#                max_markers: 16}}`
namespaces:
{names}

# What a kind of interaction weighs, from 0 to 32.
#   money   added for each doubling of (1 + amount): money is a louder vote
#   dwell   added for each doubling of (1 + seconds looked at): staying is a vote
#   beside  what is imprinted beside the DNA: [tender, channel, daypart], as far as it is said
#   prefix  put before every namespace, so that refusing is remembered as such
#   label   how training reads it: success, refusal, or neither (left out)
kinds:
{kinds}

# What each build derives of customers who agreed to personalisation: `all`, or a list of
#   {", ".join(NAMES)}
derive: []

# What texts say becomes DNA, too: claims, flavours, sizes, words; without the section they are
# not read. `description`, `size` and more can be read as well: docs/dna.md.
text:
  products: [title]
# `genome-server dna learn` finds what is rare in the catalogue; until then this has no effect.
# rarity:
#   min_products: 2
"""


def default_kinds(rules: DnaSchema) -> Iterator[KindRule]:
    """The kinds of a new tenant: the SDK's, and what further sources need."""
    for rule in rules.kinds:
        if rule.name in ("browse", "view"):
            yield replace(rule, dwell_weight_q24=ONE_Q24 // 16)
        elif rule.name in ("buy", "redeem"):
            yield replace(rule, beside=("tender",))
        else:
            yield rule
    yield KindRule("endorse", ONE_Q24 // 2)
    yield KindRule("criticise", ONE_Q24 // 2, marker_prefix="not-")
    yield KindRule("visit", ONE_Q24 // 8, dwell_weight_q24=ONE_Q24 // 16)


def default_namespaces(rules: DnaSchema) -> Iterator[NamespaceRule]:
    """The namespaces of a new tenant: the SDK's, and those of click sequences and of the words of
    texts, which are faint and many, and leave room."""
    yield from rules.namespaces
    yield NamespaceRule("path", 60 * 24, max_markers=8)
    yield NamespaceRule("visit", 60 * 24, max_markers=6)
    yield NamespaceRule("word", rules.default_half_life_hours, max_markers=8)


def spell_hours(hours: int) -> str:
    """A half-life."""
    if hours == 0:
        return "never"
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"


def spell_namespace(rule: NamespaceRule) -> str:
    """What stands behind a namespace."""
    hours = spell_hours(rule.half_life_hours)
    parts = [f"half_life: {hours}"]
    if rule.moment_half_life_s:
        parts.append(f"moment: {rule.moment_half_life_s // 60}m")
    if rule.max_markers:
        parts.append(f"max_markers: {rule.max_markers}")
    return f"{{{', '.join(parts)}}}" if len(parts) > 1 else hours


def spell_kind(rule: KindRule) -> str:
    """What stands behind a kind."""
    parts = [f"weight: {rule.weight_q24 / ONE_Q24:g}"]
    if rule.money_weight_q24:
        parts.append(f"money: {rule.money_weight_q24 / ONE_Q24:g}")
    if rule.dwell_weight_q24:
        parts.append(f"dwell: {rule.dwell_weight_q24 / ONE_Q24:g}")
    if rule.beside:
        parts.append(f"beside: [{', '.join(rule.beside)}]")
    if rule.marker_prefix:
        parts.append(f'prefix: "{rule.marker_prefix}"')
    if rule.label:
        parts.append(f"label: {next(k for k, v in LABELS.items() if v == rule.label)}")
    return "{" + ", ".join(parts) + "}"
