"""What customers are worth, as far as the log says: money paid, and what of it remains.

Rules.
- Money is what `genome_server.doings.money` says: amounts of interactions and values of outcomes of
  the kinds in which money counts, less refunds, each once, in the currency of most payments.
- Profit is the amount less what the product costs: its document's `cost` times the quantity (one,
  where none is said), or all but its `margin` of the amount. Where cost is known for at least
  `ENOUGH` of the money, worth is profit, and a payment whose cost is not known is taken to leave
  what the others leave; else worth is spend.
- A customer is at home where `genome_server.regions.places` says, in the region with the greatest
  share of them.
- What an id did counts only where that id agreed to learning, and where it was only where it agreed
  to location (see `genomes.consents`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from genome_server.compare.matrix import Floats, Genomes, Ints
from genome_server.derived.renew import insights_of
from genome_server.doings.money import money_kinds, that_counts, usual_currency
from genome_server.doings.reading import DONE, PLACED, Doing, doings, frames_of
from genome_server.regions.crowd import Whereabouts, home_first
from genome_server.regions.places import Seen, homes, main_regions

if TYPE_CHECKING:
    from edge_sdk.dna.schema import DnaSchema
    from genome_server.log.reader import LogReader
    from genome_server.store.protocol import Store

ENOUGH: Final = 0.8
"""Share of the money whose cost must be known for worth to be profit."""

_MICROS: Final = 1e6
_MILLI: Final = 1e3
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
    """Takes doings one by one; what they come to is asked at the end."""

    def __init__(self, schema: DnaSchema, genomes: Genomes, costs: Costs) -> None:
        self.kinds = money_kinds(schema)
        self._genomes = genomes
        self._costs = costs
        self._currencies: dict[str, int] = {}
        self._lines: list[tuple[int, float, float, int]] = []
        self._pages: list[npt.NDArray[np.void]] = []

    def take(self, doing: Doing) -> None:
        """Take what somebody did who agreed to learning."""
        said = doing.said
        if said.kind not in self.kinds or not said.amount_micros:
            return
        row = self._genomes.row_learnt(doing.frame.subject)
        if row is None:
            return
        amount = said.amount_micros / _MICROS
        profit = self._costs.profit(said.product, amount, said.quantity_milli / _MILLI)
        currency = -1
        if said.currency:
            currency = self._currencies.setdefault(said.currency, len(self._currencies))
        self._lines.append((row, amount, profit, currency))
        if len(self._lines) == _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self._pages.append(np.array(self._lines, _LINE))
        self._lines = []

    def worth(self, where: Whereabouts, basis: str | None = None) -> Worth:
        """What everything comes to; `where` says in which rows of genomes who is at home.

        `basis` "profit" or "spend" is taken instead of what the rules say.
        """
        self._flush()
        lines = np.concatenate(self._pages)
        payments = np.ones(len(lines), bool)
        names = list(self._currencies)
        counted = usual_currency(lines["currency"], payments, names)
        kept = lines[that_counts(lines["currency"], payments, counted)]
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
        return Worth(
            worth=np.where(bought > 0, worth, np.nan),
            spend=np.where(bought > 0, spend, np.nan),
            basis=basis,
            cost_known=share,
            currency=names[counted] if counted >= 0 else "",
            left_out=len(lines) - len(kept),
            regions=main_regions(where, n),
        )


_LINE: Final = np.dtype([("row", "<i8"), ("amount", "<f8"), ("profit", "<f8"), ("currency", "<i8")])


def read_worth(
    store: Store,
    log: LogReader | None,
    schema: DnaSchema,
    genomes: Genomes,
    *,
    basis: str | None = None,
    since_ms: int = 0,
    advance: Advance | None = None,
) -> Worth:
    """What the persons of these genomes are worth by the log (None: there is none yet).

    Where somebody was seen before `since_ms` (Unix) tells no home; money counts from the first
    event on. `advance(steps)` is told of events read. Raises LogFormatError.
    """
    purchases, seen = Purchases(schema, genomes, Costs(store)), Seen(genomes, since_ms)
    if log is not None:
        end = log.end()

        def heard(count: int) -> None:
            if advance is not None:
                advance(count, total=end)

        def learnt(subject: bytes) -> bool:
            return genomes.row_learnt(subject) is not None

        frames = frames_of(log, DONE | PLACED, stop=end, heard=heard)
        for doing in doings(frames, learnt, once=purchases.kinds.__contains__):
            purchases.take(doing)
            seen.take(doing)
    where = home_first(homes(store.customers(), genomes, insights_of(store)), seen.whereabouts())
    return purchases.worth(where, basis)


def regions_of(regions: list[str]) -> Mapping[str, Ints]:
    """The rows that are at home in each region, by region."""
    found: dict[str, list[int]] = {}
    for row, name in enumerate(regions):
        if name:
            found.setdefault(name, []).append(row)
    return {name: np.array(found[name], np.int64) for name in sorted(found)}


def _sum(rows: Ints, values: npt.NDArray[Any], n: int) -> Floats:
    sums: Floats = np.bincount(rows, values, minlength=n).astype(np.float64)
    return sums
