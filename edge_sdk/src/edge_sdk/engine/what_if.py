"""What would have been decided in another moment, for another genome, from another release.

A decision is made again from its record with something changed, with the same seed, so that what
comes out differently follows from the change. Only what a record holds can be taken over: of the
caps those that mattered then, and of the cell what the release's areas asked for.

Changes are words such as `place=bar`, `genome.brand:acme=2` or `time=2026-06-24T18:00:00+02:00`;
docs/reasons.md lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from edge_sdk.arguments import shown
from edge_sdk.context import Context
from edge_sdk.decision import Decision, Reason, Slot
from edge_sdk.dna.markers import nearest_name, time_markers
from edge_sdk.engine.cells import resolution
from edge_sdk.engine.choosing import answer
from edge_sdk.engine.explain import again, explain_record
from edge_sdk.engine.moments import LANGUAGE, recorded_moment
from edge_sdk.engine.record import NO_INDICES, NO_WEIGHTS, Inputs, Record
from edge_sdk.engine.withheld import Withheld
from edge_sdk.errors import UsageError
from edge_sdk.explanation import Explanation
from genome_edge.v1 import dna_pb2, event_pb2

if TYPE_CHECKING:
    from edge_sdk.engine.release import Release

# Kinds of place, and what is at most some cells away from one.
_PLACES: Final = ("place:", "around-")
_WORDS: Final = ("place", "activity", "channel", "stage")
_MAX_SLOTS: Final = 64
_DIGITS: Final = 20
_YES: Final = {"yes": True, "no": False}
_PERSONALISATION: Final = dna_pb2.CONSENT_PURPOSE_PERSONALISATION
_NOT_KNOWN: Final = (
    "the cell is known only as far as the areas of the recorded release asked for it"
)


class WhatIf(NamedTuple):
    """A decision as it was, as it would have been, and the differences in sentences (none: it
    would have been the same)."""

    before: Explanation
    after: Explanation
    differences: tuple[str, ...]


def what_if(
    release: Release,
    record: Record | event_pb2.DecisionRecord,
    changes: Mapping[str, str],
    *,
    other: Release | None = None,
    offers: Collection[str] | None = None,
) -> WhatIf:
    """Make a decision again with `changes`, from `other` instead of its own release where given.

    `offers` names those whose losing is asked about; None: all. Raises UsageError for changes that
    make no sense, and as `replay` does.
    """
    coarse = False
    if isinstance(record, event_pb2.DecisionRecord):
        coarse = bool(record.region)
        decision, made = again(release, record)
    else:
        made = record
        decision, _ = answer(release, made.inputs)
    before = explain_record(made, decision, offers)
    target = release if other is None else other
    inputs = _Change(release, target, made.inputs).applied(changes)
    changed, anew = answer(target, inputs)
    after = explain_record(anew, changed, offers)
    if other is not None and coarse and "cell" not in changes:
        after = replace(after, notes=(*after.notes, _NOT_KNOWN))
    return WhatIf(before, after, tuple(_differences(before, after)))


class _Change:
    """The inputs of a decision on their way to other ones, under the release that is to decide."""

    def __init__(self, source: Release, target: Release, inputs: Inputs) -> None:
        self.release = target
        self.inputs = inputs
        self._source = source
        words = source.vocabulary
        moment = inputs.moment
        weighed = dict(zip(moment.indices.tolist(), moment.weights.tolist(), strict=True))
        #: The markers of the moment with their saliences, and those of the genome.
        self.moment = {name: weighed.get(words.index(name), 1.0) for name in moment.names}
        self.genome = {
            words.name(index): weight
            for index, weight in zip(
                inputs.genome_indices.tolist(), inputs.genome_weights.tolist(), strict=True
            )
            if index < len(words)
        }

    def applied(self, changes: Mapping[str, str]) -> Inputs:
        """The changed inputs. Raises UsageError."""
        if self.release is not self._source:
            self._to_other_release()
        # What a cell or a placement brings along gives way to what is said, whichever came first.
        for key in sorted(changes, key=lambda key: key not in ("cell", "placement")):
            self._change(key, changes[key])
        return self._made()

    def _change(self, key: str, value: str) -> None:
        if key in _WORDS:
            said = Context(**{key: value}).declared if value else ()  # type: ignore[arg-type]
            self._put(_PLACES if key == "place" else (f"{key}:",), said)
            if key == "channel":
                self._where(channel=said[0].partition(":")[2] if said else "")
        elif key == "language":
            language = (Context(language=value).language or "") if value else ""
            self._put((LANGUAGE,), [LANGUAGE + language] if language else ())
            self.inputs = self.inputs._replace(language=language)
        elif key in _FIELDS:
            _FIELDS[key](self, value)
        elif key.startswith("genome."):
            self._marker(key.removeprefix("genome."), value)
        elif key.startswith("consent."):
            self._consent(key.removeprefix("consent."), value)
        else:
            self._attribute(key.removeprefix("attr."), value, sure=key.startswith("attr."))

    # One change each ----------------------------------------------------------------------------

    def time(self, value: str) -> None:
        """Another time: its markers, weekday and hour follow."""
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            raise _wrong("time", value, "ISO 8601, 2026-03-28T18:30:00+01:00") from None
        local = Context(time=at).local_time(0)
        old = time_markers(self.inputs.where.weekday, self.inputs.where.hour)
        self._put(old, time_markers(local.weekday, local.hour))
        self._where(ms=local.ms, weekday=local.weekday, hour=local.hour)

    def cell(self, value: str) -> None:
        """Another cell, with the places that the release knows there."""
        cell = Context(cell=value).cell if value else None
        catalogue = self.release.catalogue
        parents = catalogue.parents(cell)
        self.inputs = self.inputs._replace(cell=cell, parents=parents)
        self._where(regions=catalogue.regions(cell))
        self._put(_PLACES, ())
        if cell is not None:
            self.moment.update(self.release.places.resolve(cell))

    def placement(self, value: str) -> None:
        """Another placement, and its channel where the channel was the placement's."""
        known = self.release.placements.get(value)
        if known is None:
            raise UsageError(str(self.release.nearest("placement", value)))
        before = self._source.placements.get(self.inputs.placement)
        channel = self.inputs.where.channel
        if before is not None and channel == before.channel:  # it was the placement's own
            self._put(("channel:",), [f"channel:{known.channel}"] if known.channel else ())
            channel = known.channel
        self._where(placement=value, channel=channel)
        self.inputs = self.inputs._replace(placement=value, held_out=False, experiment="")

    def slots(self, value: str) -> None:
        """So many slots."""
        number = _whole(value)
        if number is None or not 1 <= number <= _MAX_SLOTS:
            raise _wrong("slots", value, f"a whole number from 1 to {_MAX_SLOTS}")
        self.inputs = self.inputs._replace(slots=number)

    def seed(self, value: str) -> None:
        """Drawn by another seed."""
        number = _whole(value)
        if number is None or number >= 1 << 64:
            raise _wrong("seed", value, "a whole number from 0 to 2^64 - 1")
        self.inputs = self.inputs._replace(seed=number)

    def basket(self, value: str) -> None:
        """These products as well."""
        vocabulary = self.release.vocabulary
        for product in filter(None, (one.strip() for one in value.split(","))):
            dna = self.release.products.dna(product)
            if dna is None:
                raise UsageError(str(self.release.nearest("product", product)))
            for index, salience_q8 in dna:
                if index < len(vocabulary):
                    name = vocabulary.name(index)
                    self.moment[name] = max(salience_q8 / 256, self.moment.get(name, 0.0))

    def genome_of(self, value: str) -> None:
        """Nothing is known of the customer."""
        if value != "none":
            raise _wrong("genome", value, "none; for one marker say genome.MARKER=WEIGHT")
        self.genome = {}
        self.inputs = self.inputs._replace(genome_used=False)

    def holdout(self, value: str) -> None:
        """Held out, or not."""
        self.inputs = self.inputs._replace(held_out=_yes("holdout", value))

    def _marker(self, name: str, value: str) -> None:
        if self.release.vocabulary.index(name) is None:
            raise UsageError(str(self.release.nearest("marker", name)))
        try:
            weight = float(value)
        except ValueError:
            weight = -1.0
        if not 0 <= weight <= 1e6:
            raise _wrong(f"genome.{name}", value, "a weight from 0, which takes it away")
        if weight:
            self.genome[name] = weight
        else:
            self.genome.pop(name, None)
        self.inputs = self.inputs._replace(genome_used=True)

    def _consent(self, name: str, value: str) -> None:
        purposes = {
            purpose.removeprefix("CONSENT_PURPOSE_").lower(): number
            for purpose, number in dna_pb2.ConsentPurpose.items()
            if number
        }
        if name not in purposes:
            raise _wrong("consent", name, ", ".join(purposes))
        bit = 1 << purposes[name]
        agreed = _yes(f"consent.{name}", value)
        consents = self.inputs.consents | bit if agreed else self.inputs.consents & ~bit
        self.inputs = self.inputs._replace(consents=consents)
        if not agreed and purposes[name] == _PERSONALISATION:
            self.genome_of("none")  # without consent no genome is read

    def _attribute(self, name: str, value: str, *, sure: bool) -> None:
        """A free attribute: unless `sure`, one that nobody knows may be a misspelt change."""
        values = [one.strip() for one in value.split(",") if one.strip()]
        said = Context(attributes={name: values}).declared
        start = Context(attributes={name: "any"}).declared[0].partition(":")[0] + ":"
        known = (*self.moment, *self.release.vocabulary)
        near = nearest_name(name, (*_WORDS, "language", *_FIELDS))
        if near and not sure and not any(one.startswith(start) for one in known):
            raise UsageError(
                f"what if {name}: did you mean {near!r}? An attribute of that name is attr.{name}"
            )
        self._put((start,), said)

    # Putting it together ------------------------------------------------------------------------

    def _put(self, prefixes: Iterable[str], names: Iterable[str]) -> None:
        """Let the moment have `names`, and no others that start so."""
        start = tuple(prefixes)
        kept = {name: weight for name, weight in self.moment.items() if not name.startswith(start)}
        self.moment = kept | dict.fromkeys(names, 1.0)

    def _where(self, **changes: object) -> None:
        where = self.inputs.where._replace(**changes)  # type: ignore[arg-type]
        self.inputs = self.inputs._replace(where=where)

    def _to_other_release(self) -> None:
        """Take over what the inputs say in terms of their own release."""
        inputs, catalogue = self.inputs, self.release.catalogue
        # A record on disk knows the cell as far as its own release asked for it, and no finer.
        known = [*inputs.parents, *([] if inputs.cell is None else [inputs.cell])]
        parents = catalogue.parents(max(known, key=resolution, default=None))
        ids = self._source.catalogue.ids
        by_reason = {
            reason: catalogue.rows_of(frozenset(ids[row] for row in rows.tolist()))
            for reason, rows in inputs.withheld.by_reason.items()
        }
        version = inputs.withheld.stop_list_version
        withheld = Withheld(len(catalogue), by_reason, version)
        self.inputs = inputs._replace(parents=parents, withheld=withheld)
        self._where(regions=catalogue.regions_of(parents))

    def _made(self) -> Inputs:
        words, inputs = self.release.vocabulary, self.inputs
        numbered = [(words.index(name), weight) for name, weight in self.moment.items()]
        known = [(index, weight) for index, weight in numbered if index is not None]
        moment = recorded_moment(
            self.release,
            tuple(self.moment),
            np.array([index for index, _ in known], np.int64),
            np.array([weight for _, weight in known], np.float32),
            inputs.where.channel,
        )
        indices, weights = NO_INDICES, NO_WEIGHTS
        pairs = [(words.index(name), weight) for name, weight in self.genome.items()]
        own = sorted((index, weight) for index, weight in pairs if index is not None)
        if own:
            indices = np.array([index for index, _ in own], np.int64)
            weights = np.array([weight for _, weight in own], np.float32)
        return inputs._replace(
            moment=moment,
            where=inputs.where._replace(places=moment.places),
            genome_indices=indices,
            genome_weights=weights,
        )


_FIELDS: Final[Mapping[str, Callable[[_Change, str], None]]] = {
    "time": _Change.time,
    "cell": _Change.cell,
    "placement": _Change.placement,
    "slots": _Change.slots,
    "seed": _Change.seed,
    "basket": _Change.basket,
    "genome": _Change.genome_of,
    "holdout": _Change.holdout,
}


def _differences(before: Explanation, after: Explanation) -> list[str]:
    old, new = before.decision, after.decision
    found = []
    if old.reason != new.reason:
        found.append(f"the reason is {new.reason} instead of {old.reason}")
    for number, (was, now) in enumerate(zip_longest(old.slots, new.slots)):
        if was != now:
            found.append(f"slot {number}: {_said(now)} instead of {_said(was)}")
    gone = {one.offer: one for one in after.losers}
    lost = sorted(_shown(old) - _shown(new))
    return [*found, *(f"{name} is not shown: {gone[name]}" for name in lost if name in gone)]


def _shown(decision: Decision) -> set[str]:
    return {slot.offer.id for slot in decision.slots if slot.offer is not None}


def _said(slot: Slot | None) -> str:
    if slot is None:
        return "not asked for"
    if slot.reason is Reason.TOO_MANY_SLOTS:
        return f"beyond what the placement has ({slot.reason})"
    if slot.offer is None:
        return f"nothing ({slot.reason})"
    chance = "" if slot.propensity == 1.0 else f", drawn with {slot.propensity:.4f}"
    return f"{slot.offer.id} ({slot.reason}, score {slot.score:.4f}{chance})"


def _whole(value: str) -> int | None:
    """A whole number from 0; None: it is none, or one that is too long for anything here."""
    return int(value) if value.isdecimal() and len(value) <= _DIGITS else None


def _yes(key: str, value: str) -> bool:
    if value not in _YES:
        raise _wrong(key, value, "yes or no")
    return _YES[value]


def _wrong(key: str, value: str, allowed: str) -> UsageError:
    return UsageError(f"what if {key}={shown(value)} is not allowed: {allowed}")
