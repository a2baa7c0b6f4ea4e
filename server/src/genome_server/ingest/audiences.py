"""Who belongs to an audience: rules over customers, made into members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from genome_server.store.rows import AudienceRow

if TYPE_CHECKING:
    from genome_server.store.protocol import Store


def members_by_rule(store: Store, audience: AudienceRow) -> Iterator[bytes]:
    """The subjects that an audience's rule takes in, as customers are now."""
    rule = audience.rule
    if rule.get("all"):
        yield from (customer.subject for customer in store.customers())
    elif "any_of" in rule:
        wanted = set(rule["any_of"])
        for customer in store.customers():
            if any(marker in wanted for marker, _ in customer.markers):
                yield customer.subject
    elif "customers" in rule:
        yield from store.subjects_of(audience.source, list(rule["customers"])).values()


def refresh(store: Store, audiences: Iterable[AudienceRow] | None = None) -> tuple[int, int]:
    """Bring members in line with the rules; returns how many joined and left in all."""
    joined = left = 0
    for audience in store.audiences() if audiences is None else audiences:
        with store.transaction():
            added, removed = store.set_members(audience.name, members_by_rule(store, audience))
        joined, left = joined + added, left + removed
    return joined, left
