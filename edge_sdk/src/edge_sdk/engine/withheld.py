"""Offers that may not be shown on this device now, whatever the moment and whoever it is for.

Rules
-----
- STOPPED: the stop list names the offer.
- OFFLINE: the offer says how long it may be shown without word from the server, and that is over.
- ASSETS: a file that the offer needs, in the language of the moment, is not on this device, or
  there is none in that language and none for every other.
- A language falls back from the right: "de-CH" to "de" to what is for every language. Texts do so
  name by name.
- A house default obeys all of this too.

Theory of operation
-------------------
What is withheld changes when a list or a file arrives, when an age limit passes, and from language
to language. So it is worked out once for each combination, as one mask over the catalogue's rows
and what a record says of it; a decision looks it up and, where nothing is withheld, does no more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.decision import Reason, Tier
from edge_sdk.engine.runs import Rows, rows_of_runs, runs_of
from edge_sdk.errors import UsageError
from edge_sdk.messages import event_pb2, release_pb2

if TYPE_CHECKING:
    from edge_sdk.engine.catalogue import Catalogue

HOUR_MS: Final = 3_600_000
REASONS: Final = (Reason.STOPPED, Reason.OFFLINE, Reason.ASSETS)

Languages = tuple[str, ...]
Mask = npt.NDArray[np.bool_]


class InForce(NamedTuple):
    """What the server last said of what may be shown, and what is here to show.

    `held` names the asset parts on this device (None: all of the release's); `fresh` is from when
    until when the release is fresh (None: as its manifest says); `said_ms` when the server signed
    the newest of it (0: never).
    """

    stopped: frozenset[str] = frozenset()
    stop_list_version: int = 0
    held: frozenset[str] | None = None
    fresh: tuple[int, int] | None = None
    said_ms: int = 0


class Withheld:
    """Rows of a catalogue that may not be shown, by reason; `stop_list_version` (0: none)."""

    __slots__ = ("_shown", "by_reason", "proto", "stop_list_version")

    def __init__(
        self, offers: int, by_reason: Mapping[Reason, Rows], stop_list_version: int = 0
    ) -> None:
        self.by_reason = {reason: rows for reason, rows in by_reason.items() if len(rows)}
        self.stop_list_version = stop_list_version
        self._shown: Mask | None = None
        if self.by_reason:
            self._shown = np.ones(offers, bool)
            for rows in self.by_reason.values():
                self._shown[rows] = False
        #: As a record carries it.
        self.proto = [
            event_pb2.WithheldOffers(reason=reason, runs=runs_of(rows))
            for reason, rows in self.by_reason.items()
        ]

    def allowed(self, rows: Rows) -> Mask | None:
        """Which of `rows` may be shown, bool[k]; None: all."""
        if self._shown is None:
            return None
        allowed = self._shown[rows]
        return None if allowed.all() else allowed

    def allows(self, row: int) -> bool:
        """Whether an offer may be shown."""
        return self._shown is None or bool(self._shown[row])

    def reasons(self, row: int) -> list[Reason]:
        """Why an offer may not be shown; empty: it may."""
        if self.allows(row):
            return []
        return [reason for reason, rows in self.by_reason.items() if row in rows]


NOTHING: Final = Withheld(0, {})


class Withholding:
    """What is withheld from one catalogue under what is in force. Thread-safe, takes no lock.

    `like` is the one before: what was asked of it is worked out at once, and not by a decision.
    """

    def __init__(
        self, catalogue: Catalogue, in_force: InForce, like: Withholding | None = None
    ) -> None:
        self._size = len(catalogue)
        self._version = in_force.stop_list_version
        self._stopped = catalogue.rows_of(in_force.stopped)
        self._held = in_force.held
        self._assets = catalogue.assets if in_force.held is not None else {}
        self._limits = sorted(catalogue.offline_limits)
        # Entry k: the offers of which the limit has passed where k limits have.
        groups = [np.array(catalogue.offline_limits[limit], np.int32) for limit in self._limits]
        nobody = np.zeros(0, np.int32)
        self._offline = list(accumulate(groups, np.union1d, initial=nobody))
        self._tongues = {asset.language.lower() for of in self._assets.values() for asset in of}
        self._lacking: dict[Languages, Rows] = {}
        self._known: dict[tuple[Languages, int], Withheld] = {}
        #: What is withheld whatever the language, and however long ago the server was heard.
        self.always: Withheld | None = None
        if not self._assets and not self._limits:
            self.always = self._work_out((), 0)
        for languages, passed in list(like._known) if like is not None else ():
            if passed <= len(self._limits):
                self._known[languages, passed] = self._work_out(languages, passed)

    def at(self, languages: Languages, offline_ms: int) -> Withheld:
        """What is withheld in a language, this long after the server was heard."""
        if self.always is not None:
            return self.always
        spoken = tuple(one for one in languages if one in self._tongues) if self._assets else ()
        key = (spoken, bisect_left(self._limits, offline_ms))
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._work_out(*key)
        return known

    def _work_out(self, languages: Languages, passed: int) -> Withheld:
        by_reason = {
            Reason.STOPPED: self._stopped,
            Reason.OFFLINE: self._offline[passed].astype(np.int32),
            Reason.ASSETS: self._lacks(languages),
        }
        return Withheld(self._size, by_reason, self._version)

    def _lacks(self, languages: Languages) -> Rows:
        known = self._lacking.get(languages)
        if known is None:
            held = self._held or frozenset()
            rows = [
                row
                for row, assets in self._assets.items()
                if not held.issuperset(parts_of(assets, languages).values())
            ]
            known = self._lacking[languages] = np.array(rows, np.int32)
        return known


class Terms(NamedTuple):
    """What every decision is subject to at one moment: how far the release may be trusted, what
    keeps its offers back, `offline_ms` after the server was heard, and the language of contexts
    that name none."""

    tier: Tier = Tier.FRESH
    withholding: Withholding | None = None
    offline_ms: int = 0
    language: str = ""


@lru_cache(maxsize=256)
def languages_of(language: str) -> Languages:
    """A language and what it falls back to: "de-CH" → ("de-ch", "de", "")."""
    tags = language.lower().split("-") if language else []
    return (*("-".join(tags[:n]) for n in range(len(tags), 0, -1)), "")


def parts_of(assets: Iterable[release_pb2.OfferAsset], languages: Languages) -> dict[str, str]:
    """The part that stands for each asset of an offer; "" where there is none in the language."""
    found: dict[str, dict[str, str]] = {}
    for asset in assets:
        found.setdefault(asset.name, {})[asset.language.lower()] = asset.part
    return {
        name: next((parts[one] for one in languages if one in parts), "")
        for name, parts in found.items()
    }


def content_of(offer: release_pb2.OfferSpec, languages: Languages) -> dict[str, str]:
    """What is shown of an offer in a language, ordered by name."""
    content = dict(offer.content)
    if offer.texts:
        texts = {text.language.lower(): text.content for text in offer.texts}
        for language in reversed(languages):
            content.update(texts.get(language, {}))
    return dict(sorted(content.items()))


def recorded(
    offers: int, withheld: Sequence[event_pb2.WithheldOffers], stop_list_version: int
) -> Withheld:
    """What a record says was withheld. Raises UsageError where it cannot have been."""
    by_reason = {}
    for one in withheld:
        rows = rows_of_runs(one.runs)
        if one.reason not in REASONS or rows.max(initial=-1) >= offers:
            raise UsageError("the record withholds offers that are none, or for no reason")
        by_reason[Reason(one.reason)] = rows
    return Withheld(offers, by_reason, stop_list_version)
