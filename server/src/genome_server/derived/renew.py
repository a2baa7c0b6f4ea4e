"""Deriving at a build: reads the log, keeps a summary of each customer and the limits of levels.

Only what customers did who agreed to personalisation is read. It takes about 100 bytes of memory
for each of their interactions, while it works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_sdk.dna.markers import split
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.errors import InvalidMarker
from genome_server.derived.columns import Interactions, summarise
from genome_server.derived.insights import NAMESPACE, Insights
from genome_server.doings.categories import Categories
from genome_server.doings.money import money_kinds
from genome_server.doings.reading import DONE, Doing, doings, frames_of
from genome_server.genomes.dna import StoreDna
from genome_server.log.reader import LogReader
from genome_server.store.rows import CONSENT_LOCATION, CONSENT_PERSONALISATION
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

INSIGHTS_KEY: Final = "insights"
"""`meta` key of the limits that the last build learnt; empty where it derived nothing."""

_PROMOTIONS: Final = frozenset({"coupon", "voucher", "promotion"})
_REDEEM: Final = "redeem"
_ROWS_AT_ONCE: Final = 200_000
_MOST_MOMENTS: Final = 10_000
_AT_HOME: Final = frozenset({"evening", "night"})


def renew(
    store: Store, log: LogReader | None, schema: DnaSchema, names: Sequence[str]
) -> Insights | None:
    """Derive `names` anew of everybody, and keep it; None where nothing is asked for."""
    if not names:
        if store.meta(INSIGHTS_KEY):
            with store.transaction():
                store.put_insights(())
                store.set_meta(INSIGHTS_KEY, "")
        return None
    agreed = {
        one.subject: one.consents or 0
        for one in store.customers()
        if (one.consents or 0) & CONSENT_PERSONALISATION
    }
    dna = StoreDna(store, schema)
    categories = Categories(dna.product, dna.offer) if "price" in names else None
    reading = _Reading(schema, agreed, categories)
    if log is not None:
        reading.read(log, log.end())
    summaries = dict(zip(reading.subjects, summarise(reading.told()), strict=True))
    insights = Insights.learn(names, summaries.values())
    with store.transaction():
        store.extend_vocabulary(insights.vocabulary(summaries.values()))
        store.put_insights(
            (subject, text) for subject, one in sorted(summaries.items()) if (text := one.to_text())
        )
        store.set_meta(INSIGHTS_KEY, insights.to_text())
    return insights


def insights_of(store: Store) -> Insights | None:
    """What the last build derived; None where that is nothing."""
    text = store.meta(INSIGHTS_KEY)
    return _insights(text) if text else None


@lru_cache(maxsize=8)
def _insights(text: str) -> Insights:
    return Insights.from_text(text)


class _Names:
    """Numbers of names, in the order in which they come."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        """The number of a name; -1 for none, and for what a marker cannot say."""
        if not name:
            return -1
        known = self.numbers.get(name)
        if known is None:
            if not _fits(name):
                return -1
            known = self.numbers[name] = len(self.numbers)
        return known


class _Reading:
    """The log on its way into columns."""

    def __init__(
        self, schema: DnaSchema, agreed: Mapping[bytes, int], categories: Categories | None
    ) -> None:
        self._money = money_kinds(schema)
        self._agreed = agreed
        self._categories = categories
        self._numbers: dict[bytes, int] = {}
        self._names = {
            what: _Names()
            for what in ("currency", "category", "slot", "channel", "tender", "region")
        }
        # Most moments are like others.
        self._moments: dict[tuple[str, ...], tuple[int, int, bool]] = {}
        self._rows: list[tuple[int, ...]] = []
        self._parts: list[np.ndarray[tuple[int, int], np.dtype[np.int64]]] = []

    @property
    def subjects(self) -> list[bytes]:
        """The subjects, by their numbers."""
        return list(self._numbers)

    def read(self, log: LogReader, stop: int) -> None:
        """Take in the log up to `stop`."""
        for doing in doings(frames_of(log, DONE, stop=stop), self._agreed.__contains__):
            self._take(doing)
            if len(self._rows) >= _ROWS_AT_ONCE:
                self._flush()
        self._flush()

    def told(self) -> Interactions:
        """What was read, in columns."""
        columns = np.concatenate([np.empty((0, 13), np.int64), *self._parts]).T
        subject, day, bought, promoted, at_home, amount, quantity = columns[:7]
        currency, category, slot, channel, tender, region = columns[7:]
        names = {what: list(one.numbers) for what, one in self._names.items()}
        return Interactions(
            len(self._numbers),
            subject,
            day,
            bought.astype(bool),
            promoted.astype(bool),
            at_home.astype(bool),
            amount,
            quantity,
            currency,
            category,
            slot,
            channel,
            tender,
            region,
            currencies=names["currency"],
            slots=names["slot"],
            channels=names["channel"],
            tenders=names["tender"],
            regions=names["region"],
        )

    def _flush(self) -> None:
        if self._rows:
            self._parts.append(np.array(self._rows, np.int64))
            self._rows.clear()

    def _take(self, doing: Doing) -> None:
        said, subject = doing.said, doing.frame.subject
        slot, channel, at_home = self._moment(tuple(said.context_markers))
        tender = "-".join(said.tender.lower().split()) if said.tender else ""
        located = said.region and self._agreed[subject] & CONSENT_LOCATION
        # Of what has no product it is not known what one costs.
        category = self._categories.of(said) if self._categories and said.product else None
        names = self._names
        self._rows.append(
            (
                self._numbers.setdefault(subject, len(self._numbers)),
                doing.at_ms // DAY_MS,
                said.kind in self._money,
                tender in _PROMOTIONS or said.kind == _REDEEM,
                at_home,
                _held(said.amount_micros),
                _held(said.quantity_milli),
                names["currency"].number(said.currency),
                names["category"].number(category or ""),
                slot,
                channel,
                names["tender"].number(tender),
                names["region"].number(said.region if located else ""),
            )
        )

    def _moment(self, markers: tuple[str, ...]) -> tuple[int, int, bool]:
        """The numbers of slot and channel, and whether it is a time of being at home."""
        known = self._moments.get(markers)
        if known is None:
            if len(self._moments) >= _MOST_MOMENTS:
                self._moments.clear()
            moment = dict(name.split(":", 1) for name in markers if ":" in name)
            daypart = moment.get("daypart", "")
            week = "weekend" if moment.get("weekend") == "yes" else "weekday"
            slot = self._names["slot"].number(f"{week}-{daypart}" if daypart else "")
            channel = self._names["channel"].number(moment.get("channel", ""))
            known = self._moments[markers] = slot, channel, daypart in _AT_HOME
        return known


def _fits(name: str) -> bool:
    try:
        split(f"{NAMESPACE}:channel-{name}")
    except InvalidMarker:
        return False
    return True


def _held(value: int) -> int:
    """A number that sums of many do not overflow with."""
    return max(-(1 << 42), min(value, 1 << 42))
