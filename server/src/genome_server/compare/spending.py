"""What customers are worth, as far as the log says: money paid, and what of it remains.

Rules.
- Money counts that was paid in an interaction whose kind has a money weight in the DNA schema (buy,
  redeem). A negative amount is a refund and is taken off. An interaction id counts once.
- Amounts of several currencies cannot be added: the currency of most purchases counts, the others
  are left out and said to be.
- Profit is the amount less what the product costs: its document's `cost` times the quantity (one,
  where none is said), or all but its `margin` of the amount. Where cost is known for at least
  `ENOUGH` of the money, worth is profit, and a purchase whose cost is not known is taken to leave
  what the others leave; else worth is spend.
- A customer is at home in the region that the genome says (see `homes`), else where most of what
  they did with a region took place, of equals in the one whose name comes first; only where they
  agreed to location.
- What an id did counts only where that id agreed to learning, and where it was only where it agreed
  to location (see `genomes.consents`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from edge_sdk.dna.genome import NOBODY
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.compare.homes import home_of, region_at, tells_home
from genome_server.compare.matrix import Floats, Genomes, Ints
from genome_server.genomes.events import interaction_key

if TYPE_CHECKING:
    from edge_sdk.dna.schema import DnaSchema
    from genome_server.log.reader import LoggedFrame, LogReader
    from genome_server.store.protocol import Store

ENOUGH: Final = 0.8
"""Share of the money whose cost must be known for worth to be profit."""

_MICROS: Final = 1e6
_MILLI: Final = 1e3
_KINDS: Final = frozenset({FrameKind.INTERACTION})
_AT_ONCE: Final = 100_000

Advance = Callable[..., None]


@dataclass(frozen=True, eq=False)
class Worth:
    """What the persons of some genomes are worth, float64[n]; NaN for who bought nothing.

    `spend` is what they paid. `basis` says what `worth` is: "profit" or "spend"; cost is known for
    `cost_known` (0 to 1) of the money. `left_out` purchases were in another currency than
    `currency`. `regions` are the H3 cells, as text, where each is at home; "" for not known.
    """

    worth: Floats
    spend: Floats
    basis: str
    cost_known: float
    currency: str
    left_out: int
    purchases: int
    regions: list[str]


class Costs:
    """What products cost, by their documents."""

    def __init__(self, store: Store) -> None:
        self._known = {
            name: (document.get("cost"), document.get("margin"))
            for name, document in store.documents("product")
            if "cost" in document or "margin" in document
        }

    def profit(self, product: str, amount: float, quantity: float) -> float:
        """What remains of an amount that was paid for so many of a product; NaN if not known."""
        cost, margin = self._known.get(product, (None, None))
        if cost is not None:
            # A refund brings the goods back.
            pieces = abs(quantity) or 1.0
            return amount - float(cost) * (pieces if amount >= 0 else -pieces)
        if margin is not None:
            return amount * float(margin)
        return float("nan")


class Purchases:
    """Takes interactions one by one; what they come to is asked at the end."""

    def __init__(self, schema: DnaSchema, genomes: Genomes, costs: Costs) -> None:
        self._money = {kind.name for kind in schema.kinds if kind.money_weight_q24 > 0}
        self._genomes = genomes
        self._costs = costs
        self._currencies: dict[str, int] = {}
        self._lines: list[tuple[int, int, float, float, int]] = []
        self._pages: list[npt.NDArray[np.void]] = []
        self._regions: dict[int, Counter[str]] = {}

    def take(self, frame: LoggedFrame) -> None:
        """Take an event of the log; what cannot be read is passed over, as by the build."""
        if frame.subject == NOBODY:
            return
        # Worth is a statistic: of who agreed to learning, by the ids that did.
        row = self._genomes.row_learnt(frame.subject)
        if row is None:
            return
        try:
            event = event_pb2.Event.FromString(frame.body)
        except DecodeError:
            return
        if event.WhichOneof("payload") == "interaction":
            self._take(frame.subject, row, event.interaction)

    def _take(self, subject: bytes, row: int, said: event_pb2.Interaction) -> None:
        if said.region and self._genomes.located(subject, row):
            region = region_at(said.region)
            if region:
                self._regions.setdefault(row, Counter())[region] += 1
        if said.kind not in self._money or not said.amount_micros:
            return
        once = 0
        if said.interaction_id:
            once = int.from_bytes(interaction_key(said.interaction_id)[:8]) | 1
        amount = said.amount_micros / _MICROS
        profit = self._costs.profit(said.product, amount, said.quantity_milli / _MILLI)
        currency = self._currencies.setdefault(said.currency, len(self._currencies))
        self._lines.append((once, row, amount, profit, currency))
        if len(self._lines) == _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._pages.append(np.array(self._lines, _LINE))
        self._lines = []

    def worth(self, names: Sequence[str], basis: str | None = None) -> Worth:
        """What everything comes to; `names` are the markers by index.

        `basis` "profit" or "spend" is taken instead of what the rules say.
        """
        self._flush()
        lines = _first_only(np.concatenate(self._pages))
        counts = np.bincount(lines["currency"], minlength=max(len(self._currencies), 1))
        counted = int(counts.argmax())
        kept = lines[lines["currency"] == counted]
        n = len(self._genomes)
        spend, bought = _sum(kept["row"], kept["amount"], n), np.bincount(kept["row"], minlength=n)
        known = ~np.isnan(kept["profit"])
        money = float(np.abs(kept["amount"]).sum())
        share = float(np.abs(kept["amount"][known]).sum()) / money if money else 0.0
        basis = basis or ("profit" if share >= ENOUGH else "spend")
        worth = spend
        if basis == "profit":
            total = float(kept["amount"][known].sum())
            remains = float(kept["profit"][known].sum()) / total if total else 0.0
            profit = np.where(known, kept["profit"], kept["amount"] * remains)
            worth = _sum(kept["row"], profit, n)
        currencies = {number: name for name, number in self._currencies.items()}
        return Worth(
            worth=np.where(bought > 0, worth, np.nan),
            spend=np.where(bought > 0, spend, np.nan),
            basis=basis,
            cost_known=share,
            currency=currencies.get(counted, ""),
            left_out=len(lines) - len(kept),
            purchases=len(kept),
            regions=self._homes(names),
        )

    def _homes(self, names: Sequence[str]) -> list[str]:
        genomes = self._genomes
        telling = set(np.flatnonzero(tells_home(names)).tolist())
        homes = []
        for row in range(len(genomes)):
            told = telling.intersection(genomes.row(row)[0].tolist()) if telling else ()
            home = home_of([names[marker] for marker in told]) if told else ""
            homes.append(home or self._seen(row))
        return homes

    def _seen(self, row: int) -> str:
        seen = self._regions.get(row)
        return min(seen, key=lambda name: (-seen[name], name)) if seen else ""


_LINE: Final = np.dtype(
    [("once", "<u8"), ("row", "<i8"), ("amount", "<f8"), ("profit", "<f8"), ("currency", "<i8")]
)


def read_worth(
    store: Store,
    log: LogReader | None,
    schema: DnaSchema,
    genomes: Genomes,
    *,
    basis: str | None = None,
    advance: Advance | None = None,
) -> Worth:
    """What the persons of these genomes are worth by the log (None: there is none yet).

    `advance(steps)` is told of events read. Raises LogFormatError.
    """
    purchases = Purchases(schema, genomes, Costs(store))
    if log is not None:
        end = log.end()
        for batch in log.batches(stop=end):
            for frame in batch.frames(_KINDS):
                purchases.take(frame)
            if advance is not None:
                advance(batch.count, total=end)
    return purchases.worth(store.vocabulary().markers, basis)


def regions_of(regions: list[str]) -> Mapping[str, Ints]:
    """The rows that are at home in each region, by region."""
    found: dict[str, list[int]] = {}
    for row, name in enumerate(regions):
        if name:
            found.setdefault(name, []).append(row)
    return {name: np.array(found[name], np.int64) for name in sorted(found)}


def _first_only(lines: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Without those whose id an earlier one has; 0 is no id."""
    named = np.flatnonzero(lines["once"])
    _, first = np.unique(lines["once"][named], return_index=True)
    kept = lines["once"] == 0
    kept[named[first]] = True
    firsts: npt.NDArray[Any] = lines[kept]
    return firsts


def _sum(rows: Ints, values: npt.NDArray[Any], n: int) -> Floats:
    sums: Floats = np.bincount(rows, values, minlength=n).astype(np.float64)
    return sums
