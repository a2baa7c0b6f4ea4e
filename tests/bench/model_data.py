"""UCI coupon as the model's contenders see it: examples for ours, the raw table for the others.

Rules.
- Everybody is given the same rows, and of a person the same answers.
- The others get the table in its best form: ordered answers as numbers, the rest as codes.
"""

from __future__ import annotations

import copyreg
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema
from examples.adapters import coupon
from examples.datasets import find
from genome_server.home import Home
from genome_server.learning import job
from genome_server.learning.dataset import _Life, _Loader, _Moment
from genome_server.learning.examples import Examples, ExamplesBuilder
from genome_server.learning.history import History, PastImprint
from genome_server.learning.survey import survey
from genome_server.log import LogReader
from tests.e2e.house import House

#: Own answers that are known where the same later ones are asked.
AFTER: Final = (0, 2, 5, 10, 20)
ASKED: Final = 2
#: What answers of the past are summed up by, beside the coupon.
_ALIKE: Final = ("coupon", "destination", "passanger", "expiration", "time", "weather")
#: The same of the moment, as it stands in markers.
REMEMBERED: Final = ("destination", "company", "coupon-expires", "survey-time", "weather")

Array = npt.NDArray[Any]
Row = Mapping[str, str]
Query = Sequence[tuple[int, float, float]]


@dataclass(frozen=True)
class Data:
    """All examples, and for each of them its row of the survey.

    `before` holds for each example those of the same person before it, in order of time. `asked`
    are examples of two later answers of each person by how many own ones are known before them;
    `asked_of` says which examples those are.
    """

    examples: Examples
    raw: Sequence[Row]
    before: Sequence[Array]
    asked: Mapping[int, Examples]
    asked_of: Array
    pasts: Pasts


class Asked(_Loader):
    """Of each person the two answers after the 20th, as they look after `known` of those before.

    What is known are the newest ones before the first of the two. Who gave fewer than 21 answers is
    asked nothing. So all numbers of own answers are measured by the same questions.
    """

    known = 0

    def _learn(self, life: _Life) -> None:
        told = sorted(life.told, key=lambda one: one.at_ms)
        asked = told[max(AFTER) : max(AFTER) + ASKED]
        if not asked:
            self._number += 1  # persons keep their numbers
            return
        imprints = sorted(life.imprints, key=lambda one: one[1].visible_ms)
        first_ms = asked[0].at_ms // 3_600_000 * 3_600_000
        before = [one for one in imprints if one[1].visible_ms < first_ms]
        if len(before) < max(AFTER):
            raise ValueError("an answer that left no imprint, or two in one hour")
        super()._learn(_Life(before[len(before) - self.known :], asked, life.ids))


class Recorder(_Loader):
    """Examples as usual, and what is needed to make them anew with more history."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept: list[Past] = []

    def _add(self, moment: _Moment, history: History) -> None:
        self.kept.append(Past(self._number, moment, history._profile, history._imprints))
        super()._add(moment, history)


def _schema_again(values: Mapping[str, Any]) -> DnaSchema:
    return DnaSchema(**values)


def _schema_parts(schema: DnaSchema) -> tuple[Any, tuple[dict[str, Any]]]:
    values = {one.name: getattr(schema, one.name) for one in fields(schema) if one.init}
    return _schema_again, (values,)


# What it remembers of vocabularies stays here; workers need the rest.
copyreg.pickle(DnaSchema, _schema_parts)


class Past(NamedTuple):
    """A moment, and all that its person ever did."""

    person: int
    moment: _Moment
    profile: Mapping[int, int]
    imprints: Sequence[PastImprint]

    def add_to(self, builder: ExamplesBuilder, query: Query, vocabulary: Vocabulary) -> None:
        """Add the moment as one example; `query` says of its person (marker, warm, cold)."""
        when = [vocabulary.index(name) for name in self.moment.context]
        known = [(index, 1.0, 1.0) for index in when if index is not None]
        ((row, label, propensity, _),) = self.moment.offered
        builder.add(
            [*query, *known],
            offer=row,
            label=label,
            propensity=propensity,
            person=self.person,
            time_ms=self.moment.time_ms,
            of_person=len(query),
        )


@dataclass(frozen=True)
class Pasts:
    """What genomes of any set of answers are made of."""

    kept: Sequence[Past]
    schema: DnaSchema
    vocabulary: Vocabulary

    def everything(self, examples: Examples, known: Array) -> Examples:
        """Return the examples with genomes of all answers that are `known`, later ones, too.

        Never of its own: bool (n,), in the order of the examples.
        """
        pairs = zip(examples.person[known].tolist(), examples.time_ms[known].tolist(), strict=True)
        may, builder = set(pairs), ExamplesBuilder()
        last_ms = int(examples.time_ms.max())
        for past in self.kept:
            own_ms = past.moment.time_ms
            imprints = [
                one
                for one in past.imprints
                if one.visible_ms != own_ms and (past.person, one.visible_ms) in may
            ]
            now = History(past.profile, imprints, self.schema, self.vocabulary)
            query = now.features(last_ms, before_ms=last_ms + 1)
            past.add_to(builder, query, self.vocabulary)
        return builder.build(examples.offers, examples.fields, examples.kin)


def remember_moments(dna: Path) -> None:
    """Let answers imprint their moment, too, as LightGBM's table of answers has it.

    What was taken gets a prefix, so that "home, now" and "took it at home" are two markers.
    """
    document = yaml.safe_load(dna.read_text(encoding="utf-8"))
    for kind, more in (("redeem", {"prefix": "took-"}), ("dismiss", {})):
        document["kinds"][kind].update(beside=list(REMEMBERED), **more)
    document["max_markers"] = 128  # a profile of this survey alone has up to 44
    dna.write_text(yaml.safe_dump(document), encoding="utf-8")


def load(root: Path) -> tuple[Data, House]:
    """Import, build and read the survey as a person would. Raises DataSetMissing."""
    house = House(root)
    written = coupon.write(house.root / "coupon")
    house.server("init")
    remember_moments(Home(house.home).tenant().dna_path)
    for kind, file in written.in_import_order():
        house.server("import", kind, file)
    house.server("build")
    tenant = Home(house.home).tenant()
    now_ms = time.time_ns() // 1_000_000
    with closing(tenant.open_store()) as store:
        _, _, vocabulary = job._gather(tenant, store, now_ms, job._silence)
        asked = {}
        with LogReader(tenant.log_path) as log:
            sources = job.sources_of(store, log)
            found = survey(sources)
            recorder = Recorder(sources, found, vocabulary, now_ms)
            examples, _ = recorder.run(None)
            pasts = Pasts(recorder.kept, sources.schema, vocabulary)
            for known in AFTER:
                loader = Asked(sources, found, vocabulary, now_ms)
                loader.known = known
                asked[known], _ = loader.run(None)
    raw = _raw(examples)
    order = np.lexsort((examples.time_ms, examples.person))
    before: list[Array] = [order[:0]] * len(order)
    first = 0
    for place, example in enumerate(order.tolist()):
        if place and examples.person[order[place - 1]] != examples.person[example]:
            first = place
        before[example] = order[first:place]
    place_of = {
        key: i
        for i, key in enumerate(
            zip(examples.person.tolist(), examples.time_ms.tolist(), strict=True)
        )
    }
    some = asked[0]
    asked_of = np.array(
        [place_of[key] for key in zip(some.person.tolist(), some.time_ms.tolist(), strict=True)]
    )
    return Data(examples, raw, before, asked, asked_of, pasts), house


def _raw(examples: Examples) -> list[Row]:
    """The row of the survey behind each example, found by person, time and offer."""
    nth: dict[str, int] = {}
    by_key: defaultdict[tuple[int, str, float], list[Row]] = defaultdict(list)
    for number, row in enumerate(coupon.read(find("uci_coupon")), start=1):
        day = nth[row["person"]] = nth.get(row["person"], -1) + 1
        at = coupon.FIRST_DAY + timedelta(
            days=day, hours=coupon._hour(row["time"]), seconds=number % 3600
        )
        key = (round(at.timestamp() * 1000), coupon.COUPONS[row["coupon"]][0], float(row["Y"]))
        by_key[key].append(row)
    ids = examples.offers.ids
    keys = [
        (int(at), ids[offer], float(label))
        for at, offer, label in zip(examples.time_ms, examples.offer, examples.label, strict=True)
    ]
    # Who is who follows from the rows that are alone with their time.
    name_of = {
        int(person): by_key[key][0]["person"]
        for person, key in zip(examples.person, keys, strict=True)
        if len(by_key[key]) == 1
    }
    return [
        next(row for row in by_key[key] if row["person"] == name_of[int(person)])
        for person, key in zip(examples.person, keys, strict=True)
    ]


def table(raw: Sequence[Row], *, one_hot: bool) -> tuple[Array, list[int]]:
    """The survey as numbers, float64 (n, c), and which columns are codes; none with `one_hot`."""
    columns: list[Array] = []
    codes: list[int] = []

    def coded(name: str) -> None:
        values, code = np.unique([row[name] for row in raw], return_inverse=True)
        if one_hot:
            columns.extend((code == one).astype(float) for one in range(len(values)))
            return
        codes.append(len(columns))
        columns.append(code.astype(float))

    for name, (_, scale) in coupon._ORDINALS.items():
        steps = [coupon._step(name, row[name]) for row in raw]
        columns.append(np.array([scale.index(s) if s else np.nan for s in steps], float))
    columns.append(np.array([float(row["temperature"]) for row in raw]))
    columns.append(np.array([float(coupon._hour(row["time"])) for row in raw]))
    far = [float(row["toCoupon_GEQ15min"]) + float(row["toCoupon_GEQ25min"]) for row in raw]
    columns.append(np.array(far))
    for name in ("expiration", "gender", "has_children", "direction_same"):
        _, code = np.unique([row[name] for row in raw], return_inverse=True)
        columns.append(code.astype(float))
    for name in ("maritalStatus", "occupation", "car", "destination", "passanger", "weather"):
        coded(name)
    coded("coupon")
    return np.stack(columns, axis=1), codes


def summed_up(data: Data, rows: Array, known: Sequence[Array]) -> Array:
    """What answers of the past say of each of the examples `rows`, float64 (n, c).

    How many there are and how many of them were yes; so, too, of those that are alike in one
    way, and of each coupon. NaN where there is none.
    """
    label, raw = data.examples.label, data.raw
    kinds = sorted({row["coupon"] for row in raw})
    found = np.full((len(rows), 2 + 2 * len(_ALIKE) + 2 * len(kinds)), np.nan)
    for at, (row, past) in enumerate(zip(rows.tolist(), known, strict=True)):
        groups: list[list[int]] = [past.tolist()]
        groups += [[p for p in past.tolist() if raw[p][n] == raw[row][n]] for n in _ALIKE]
        groups += [[p for p in past.tolist() if raw[p]["coupon"] == kind] for kind in kinds]
        for number, group in enumerate(groups):
            found[at, 2 * number] = len(group)
            if group:
                found[at, 2 * number + 1] = label[group].mean()
    return found
