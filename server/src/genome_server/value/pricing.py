"""What an offer's price, margin and discount say: its worth, and a depth that is learned. Pure.

Rules.
- Of a price, `margin` is the part that remains where nothing is taken off, `discount` the part that
  is taken off. A success is worth price x margin (`value`, where it is said, wins) and costs
  price x discount (beside `cost`, where it is said). Devices are told value and cost as ever: a
  score is the chance of a success times what remains.
- A discount has DNA of its own: `discount-at-least:10` and so on, one marker for each step up to
  its depth. So 30 % off has all that 20 % off has and something more: what is learned of one depth
  holds for those beside it, and who took deep discounts has a genome that says so.
- The offers of one `ladder` are the same but for their depth. They exclude each other in a
  decision, unless they name a group of their own.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from edge_sdk.engine import documents as read

FIELDS: Final = ("price", "margin", "discount", "ladder")
"""What stays on the server: devices are told what follows from it."""
STEPS: Final = (5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90)
"""The depths, in percent of the price, that have a marker each."""
NAMESPACE: Final = "discount-at-least"
_MICRO: Final = 1e-6

Document = Mapping[str, Any]


class Pricing(NamedTuple):
    """What a document says: `price` and money in the tenant's unit, `margin` and `discount` as
    parts of the price, 0 to 1. None: it does not say."""

    price: float | None
    margin: float | None
    discount: float | None
    ladder: str


class Rung(NamedTuple):
    """An offer of a ladder. `worth` is what a success is worth, less what it costs, in the tenant's
    unit."""

    offer: str
    discount: float
    worth: float


def pricing(document: Document) -> Pricing:
    """What a document says. Raises InvalidDocument."""
    found = Pricing(
        _number(document, "price", read.MAX_VALUE),
        _number(document, "margin", 1.0),
        _number(document, "discount", 1.0),
        read.text(document, "ladder"),
    )
    if found.margin is not None and found.price is None:
        read.fail("price", None, "the price that the margin is a part of")
    if found.ladder and found.discount is None:
        read.fail("discount", None, f"the depth of this rung of the ladder {found.ladder!r}")
    return found


def priced(document: Document) -> Document:
    """The document in words that devices know: what its pricing comes to. Raises InvalidDocument.

    One without a word of pricing is returned as it is.
    """
    said = pricing(document)
    if not any(name in document for name in FIELDS):
        return document
    found = {name: value for name, value in document.items() if name not in FIELDS}
    if said.price is not None:
        if said.margin is not None:
            found.setdefault("value", round(said.price * said.margin, 6))
        if said.discount:
            cost = read.money(document, "cost", 0.0) * _MICRO
            found["cost"] = round(cost + said.price * said.discount, 6)
    if said.ladder:
        found["exclusivity_group"] = found.get("exclusivity_group") or f"ladder:{said.ladder}"
    return found


def depth_markers(discount: float | None) -> list[str]:
    """The markers of a discount, the shallowest first."""
    percent = round((discount or 0.0) * 100, 6)
    return [f"{NAMESPACE}:{step}" for step in STEPS if step <= percent]


def with_depth(document: Document) -> dict[str, Any]:
    """The document with its depth among its DNA; what its DNA says of a depth itself stays."""
    found = dict(document)
    markers = depth_markers(pricing(document).discount)
    if not markers:
        return found
    said = found.get("dna") or []
    if isinstance(said, Mapping):
        found["dna"] = {**dict.fromkeys(markers, 1.0), **said}
        return found
    known = {one["marker"] if isinstance(one, Mapping) else one for one in said}
    found["dna"] = [*said, *({"marker": m, "salience": 1.0} for m in markers if m not in known)]
    return found


def ladders(documents: Iterable[tuple[str, Document]]) -> dict[str, list[Rung]]:
    """The ladders among offers, each with its rungs, the shallowest first."""
    found: defaultdict[str, list[Rung]] = defaultdict(list)
    for name, document in documents:
        said = pricing(document)
        if said.ladder:
            found[said.ladder].append(Rung(name, said.discount or 0.0, worth_of(document)))
    return {
        name: sorted(rungs, key=lambda rung: (rung.discount, rung.offer))
        for name, rungs in sorted(found.items())
    }


def worth_of(document: Document) -> float:
    """What a success is worth less what it costs, in the tenant's unit. Raises InvalidDocument."""
    told = priced(document)
    return (read.money(told, "value", 1.0) - read.money(told, "cost", 0.0)) * _MICRO


def losses(document: Document) -> Iterator[str]:
    """What is odd about one offer's pricing, as "field: sentence"."""
    said = pricing(document)
    worth = worth_of(document)
    if said.discount and said.price is not None and worth < 0:
        left = f"{said.margin:.0%} remain" if said.margin is not None else "less remains"
        yield (
            f"discount: {said.discount:.0%} are taken off where {left}: "
            f"each success loses {-worth:,.2f}"
        )


def odd_ladders(documents: Iterable[tuple[str, Document]]) -> Iterator[str]:
    """What is odd about ladders, each as a sentence."""
    for name, rungs in ladders(documents).items():
        if len(rungs) < 2:
            yield f"ladder {name!r} has one rung: there is nothing to choose from"
        for one, other in itertools.pairwise(rungs):
            if depth_markers(one.discount) == depth_markers(other.discount):
                yield (
                    f"ladder {name!r}: {one.offer!r} and {other.offer!r} have the same depth to a "
                    f"model, which knows the steps {', '.join(map(str, STEPS))} %"
                )


def _number(document: Document, field: str, high: float) -> float | None:
    value = document.get(field)
    return None if value is None or value == "" else read.number(value, field, 0.0, high)
