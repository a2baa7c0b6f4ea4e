"""The kinds of a new tenant, and rules of the DNA schema as dna.yaml spells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule, NamespaceRule

LABELS: Final[Mapping[str, int]] = {"success": 1, "refusal": -1, "neither": 0}
"""How training reads a kind."""


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
