"""What rows of further sources become: interactions, markers, and words on links. Free of I/O.

Rules.
- A signal is an interaction of the kind `endorse`, or `criticise` where its sentiment is negative,
  with explicit DNA. Its salience is the size of the sentiment, at least a quarter, a half where
  nothing is said of it; each doubling of 1 + engagement adds a quarter of that.
- A page is an interaction of the kind `browse` or `click` in a channel; visit and step are its id.
- A tier and a step of points are markers like those of a profile.
- A key that ids share is known by its keyed hash alone, under its kind.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from edge_sdk.dna.imprint import ilog2_q8
from edge_sdk.dna.schema import MAX_SALIENCE_Q8
from genome_server.ingest.check import RowError
from genome_server.ingest.dna import ONE_Q8, declared_dna, marker_of
from genome_server.ingest.visits import context_of

Row = Mapping[str, Any]

ENDORSE: Final = "endorse"
CRITICISE: Final = "criticise"

_UNSAID_Q8: Final = ONE_Q8 // 2
_LEAST_Q8: Final = ONE_Q8 // 4
# 1 in a quarter of 1/256: what a doubling of 256/256 adds to is four of them.
_QUARTERS: Final = 4 * ONE_Q8
_KEY_BYTES: Final = 16


def signal_salience(sentiment: float | None, engagement: int) -> int:
    """The salience in 1/256 of what a signal is about; 1 … 4096."""
    size = _UNSAID_Q8 if sentiment is None else max(round(abs(sentiment) * ONE_Q8), _LEAST_Q8)
    return min(size * (_QUARTERS + ilog2_q8(1 + engagement)) // _QUARTERS, MAX_SALIENCE_Q8)


def signal_interaction(row: Row) -> dict[str, Any]:
    """A row of `signals` as one of `interactions`. Raises RowError."""
    topics = row.get("topic", [])
    markers = {marker_of(f"topic[{i}]", "topic", name): ONE_Q8 for i, name in enumerate(topics)}
    for name in ("brand", "community"):
        if name in row:
            markers[marker_of(name, name, row[name])] = ONE_Q8
    markers.update(declared_dna(row.get("dna"), "dna"))
    if not markers:
        raise RowError("topic", "is missing, and so are brand, community and dna: it is of nothing")
    sentiment = row.get("sentiment")
    salience = signal_salience(sentiment, row.get("engagement", 0))
    made = {
        "customer": row["customer"],
        "kind": CRITICISE if sentiment is not None and sentiment < 0 else ENDORSE,
        "dna": [
            {"marker": name, "salience": max(1, min(q8 * salience >> 8, MAX_SALIENCE_Q8)) / ONE_Q8}
            for name, q8 in markers.items()
        ],
        "time": row["time"],
    }
    if "signal_id" in row:
        made["interaction_id"] = f"signal {row['signal_id']}"
    if "source" in row:
        made["source"] = row["source"]
    if "platform" in row:
        made["context"] = {"channel": row["platform"]}
    return made


def page_interaction(row: Row) -> dict[str, Any]:
    """A row of `browsing` as one of `interactions`."""
    source = row.get("source", "app")
    same = ("customer", "product", "offer", "content", "dna", "dwell_ms", "time")
    return {
        **{name: row[name] for name in same if name in row},
        "source": source,
        "interaction_id": f"visit {source} {row['session']} {row['step']}",
        "kind": row.get("action", "browse"),
        "context": context_of(row),
    }


def points_step(points: int) -> int:
    """The largest of 0, 100, 200, 500, 1000, 2000, 5000 … that is reached."""
    if points < 100:
        return 0
    power = int("1".ljust(len(str(points)), "0"))
    return next(step for step in (5 * power, 2 * power, power) if step <= points)


def loyalty_markers(row: Row) -> list[tuple[str, int]]:
    """The markers that a row of `loyalty` gives. Raises RowError."""
    markers = []
    if "tier" in row:
        markers.append((marker_of("tier", "tier", row["tier"]), ONE_Q8))
    if "points" in row:
        markers.append((f"points:{points_step(row['points'])}", ONE_Q8))
    if not markers:
        raise RowError("tier", "is missing, and so are points: it says nothing")
    return markers


def key_hash(secret: bytes, kind: str, key: str) -> bytes:
    """16 bytes that stand for a key; equal for what people take for the same."""
    said = key.strip()
    if kind == "email":
        said = said.casefold()
    return hmac.digest(secret, f"{kind}\0{said}".encode(), hashlib.sha256)[:_KEY_BYTES]


class Holder(NamedTuple):
    """Who has a key, or had one until `at_ms`."""

    subject: bytes
    at_ms: int
    held: bool


class LinkWord(NamedTuple):
    """Two subjects are one person as of `at_ms`, or are not."""

    subject: bytes
    other: bytes
    linked: bool
    at_ms: int


def words_of_key(newest: Holder, holders: list[Holder]) -> list[LinkWord]:
    """What follows for a subject and all others that have, or had, the same key.

    Those who have it now are one person since the later of both had it. Whoever gives it back is
    taken from the others as of then.
    """
    words = []
    for other in sorted(holders):
        if other.subject == newest.subject:
            continue
        at_ms = max(newest.at_ms, other.at_ms)
        if newest.held and other.held:
            words.append(LinkWord(newest.subject, other.subject, True, at_ms))
        elif not newest.held:
            words.append(LinkWord(newest.subject, other.subject, False, at_ms))
    return words
