"""What the pages of a visit say by their order: click sequences as markers. Free of I/O.

Rules.
- A row is a whole visit: the kinds of its pages, in order. So what it says follows from the row
  alone, and no row has to wait for another one: visits may come in any order, and count once.
- It is an interaction of the kind `visit` with explicit DNA, each marker once, of a half:
  `path:search>product` for each step from one kind of page to the next, `visit:entry-…` and
  `visit:exit-…` for the first and the last page, and how long it was: `visit:bounce` (one page),
  `visit:short`, `visit:deep` (`DEEP` pages or more). One page is no exit.
- Kinds of pages are those of `PAGES`, so that a vocabulary, which never forgets, is not filled with
  addresses of pages. What is `other` says nothing and is in no marker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

VISIT: Final = "visit"
PATH: Final = "path"
DEEP: Final = 8
SALIENCE: Final = 0.5

PAGES: Final[Mapping[str, str]] = {
    "home": "the front page",
    "campaign": "where an advertisement or a mail leads to",
    "search": "a search and what it found",
    "list": "a category, a shelf",
    "product": "one product, room or flight",
    "compare": "some beside each other",
    "reviews": "what others say of it",
    "content": "something to read or to watch",
    "offer": "an offer, a coupon",
    "places": "stores, maps, opening hours",
    "basket": "what is to be bought",
    "checkout": "address, payment",
    "done": "the order is placed",
    "account": "orders, settings, points",
    "help": "questions, contact, returns",
    "other": "anything else",
}
_UNSAID: Final = "other"


def visit_markers(pages: Sequence[str]) -> list[str]:
    """The markers of a visit of at least one page, each once."""
    length = "bounce" if len(pages) == 1 else "deep" if len(pages) >= DEEP else "short"
    found = [f"{VISIT}:{length}"]
    if pages[0] != _UNSAID:
        found.append(f"{VISIT}:entry-{pages[0]}")
    if len(pages) > 1 and pages[-1] != _UNSAID:
        found.append(f"{VISIT}:exit-{pages[-1]}")
    found += [f"{PATH}:{a}>{b}" for a, b in pairwise(pages) if _UNSAID not in (a, b)]
    return list(dict.fromkeys(found))


def context_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The context of a row of `browsing` or `visits`: on the web unless it says otherwise."""
    said = {"channel": row["channel"]} if "channel" in row else {}
    return {"channel": "web", **row.get("context", {}), **said}


def visit_interaction(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `visits` as one of `interactions`."""
    source = row.get("source", "app")
    return {
        "customer": row["customer"],
        "source": source,
        "interaction_id": f"visited {source} {row['session']}",
        "kind": VISIT,
        "dna": [{"marker": name, "salience": SALIENCE} for name in visit_markers(row["pages"])],
        "context": context_of(row),
        **{name: row[name] for name in ("dwell_ms", "time") if name in row},
    }
