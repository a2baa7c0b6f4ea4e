"""What a decision looked at and what came of it, kept so that it can be made again.

A `Record` is made on the hot path and is little more than references; `to_proto` encodes it later
and elsewhere. The full form stays on the device. What leaves it is coarse: no cell below
resolution 5, no genome, no scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_sdk.context import region_of
from edge_sdk.decision import Reason, Slot, Tier
from edge_sdk.engine.cap_views import NO_ROOMS, Rooms
from edge_sdk.engine.policy import ONE, Explorer, Floats, Indices, Scores
from edge_sdk.engine.rooms import told
from edge_sdk.engine.runs import rows_of_runs, runs_of
from edge_sdk.engine.scored_by import scored_by
from edge_sdk.engine.withheld import NOTHING, Withheld
from edge_sdk.errors import EdgeError, UsageError
from edge_sdk.messages import event_pb2

if TYPE_CHECKING:
    from edge_sdk.engine.catalogue import Where
    from edge_sdk.engine.moments import Moment
    from edge_sdk.engine.release import Release

NO_INDICES: Final[Indices] = np.zeros(0, np.int64)
NO_WEIGHTS: Final[Floats] = np.zeros(0, np.float32)
NO_REASONS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType({})
_FULL_FORM_FROM: Final = 20
_CAPPED: Final = (Reason.CAPPED.value, 0)


class Inputs(NamedTuple):
    """Everything that a decision is a function of, besides the release.

    `parents` are the cells that stand for `cell` at the resolutions of the catalogue's areas;
    `blocked` the offers that caps keep away and `why_blocked` by offer the reason and until when
    (Unix milliseconds; 2^63 - 1: for ever); `language` the one that offers are shown in, as BCP 47
    in lower case (empty: none was said); `rooms` what caps over campaigns leave, where that is less
    than there are slots; `genome_indices` int64[n] and `genome_weights`
    float32[n] are empty where no genome was read; `held_out`: nothing of what is chosen is shown;
    `experiment` is the placement that was asked for, where it has arms.
    """

    decision_id: bytes
    placement: str
    slots: int
    seed: int
    tier: Tier
    moment: Moment
    where: Where
    parents: tuple[int, ...]
    cell: int | None
    genome_indices: Indices
    genome_weights: Floats
    genome_used: bool
    consents: int
    blocked: frozenset[str]
    withheld: Withheld = NOTHING
    language: str = ""
    why_blocked: Mapping[str, tuple[str, int]] = NO_REASONS
    held_out: bool = False
    rooms: Rooms = NO_ROOMS
    experiment: str = ""


class Record(NamedTuple):
    """A decision's record before it is encoded.

    `rows` int32[k] are the candidates in the release's catalogue and `scores` int32[k] theirs;
    `capped` int32[j] those that caps took away; None stands for none. `instead` is what a decision
    that is held out would have shown (empty: it is not).
    """

    release: Release | None
    inputs: Inputs
    slots: tuple[Slot, ...]
    explorer: Explorer
    rows: npt.NDArray[np.int32] | None
    scores: Scores | None
    capped: npt.NDArray[np.int32] | None
    instead: tuple[Slot, ...] = ()

    def to_proto(self) -> event_pb2.DecisionRecord:
        """The full form."""
        given = self.inputs
        moment, where = given.moment, given.where
        capped = self._ids(self.capped)
        why = [given.why_blocked.get(name, _CAPPED) for name in capped]
        return event_pb2.DecisionRecord(
            decision_id=given.decision_id,
            placement=given.placement,
            release_version=self.release.version if self.release is not None else 0,
            seed=given.seed,
            context_markers=moment.names,
            context_saliences_q8=moment.saliences_q8,
            region=region_of(given.cell),
            slots=[_slot(slot) for slot in self.slots],
            candidate_runs=runs_of(self.rows),
            genome_used=given.genome_used,
            explorer=self.explorer.name,
            gamma=self.explorer.gamma,
            floor=self.explorer.floor,
            tier=given.tier.value,
            regions=given.parents,
            local_weekday=where.weekday,
            local_hour=where.hour,
            decided_ms=where.ms,
            genome_indices=given.genome_indices.tolist(),
            genome_weights=given.genome_weights.tolist(),
            scores=self.scores.astype("<i4").tobytes() if self.scores is not None else b"",
            capped=capped,
            capped_reasons=[reason for reason, _ in why],
            capped_until_ms=[until_ms for _, until_ms in why],
            consents=given.consents,
            channel=where.channel,
            context_indices=moment.indices.tolist(),
            context_weights=moment.weights.tolist(),
            stop_list_version=given.withheld.stop_list_version,
            withheld=given.withheld.proto,
            held_out=bool(self.instead),
            instead=[_slot(slot) for slot in self.instead],
            scored_by=self._scored_by(),
            rooms=self.rooms(),
            experiment=given.experiment,
        )

    def rooms(self) -> list[event_pb2.CampaignRoom]:
        """What caps over campaigns left the candidates."""
        if self.release is None or not self.inputs.rooms:
            return []
        return told(self.release.catalogue, self.inputs.rooms, self.rows)

    def _scored_by(self) -> str:
        if self.release is None or self.scores is None:
            return ""
        try:
            return scored_by(self.release.scorer)
        except EdgeError:
            return ""  # the model cannot be opened: nobody scored

    def _ids(self, rows: npt.NDArray[np.int32] | None) -> list[str]:
        if self.release is None or rows is None:
            return []
        ids = self.release.catalogue.ids
        return [ids[row] for row in rows.tolist()]


def coarse(record: event_pb2.DecisionRecord) -> event_pb2.DecisionRecord:
    """What of a record leaves the device: a copy without the fields from 20 on."""
    kept = event_pb2.DecisionRecord()
    kept.CopyFrom(record)
    for described in record.DESCRIPTOR.fields:
        if described.number >= _FULL_FORM_FROM:
            kept.ClearField(described.name)
    return kept


def candidate_rows(record: event_pb2.DecisionRecord) -> npt.NDArray[np.int32]:
    """The candidates of an encoded record, int32[k]: rows of its release's catalogue, ascending.

    Raises UsageError for runs that are not whole.
    """
    return rows_of_runs(record.candidate_runs)


def recorded_scores(record: event_pb2.DecisionRecord) -> Scores:
    """The candidates' scores in an encoded record of the full form, int32[k].

    Raises UsageError where they are not whole numbers of four bytes.
    """
    if len(record.scores) % 4:
        raise UsageError("the record's scores are not whole")
    return np.frombuffer(record.scores, "<i4").astype(np.int32)


def _slot(slot: Slot) -> event_pb2.SlotRecord:
    return event_pb2.SlotRecord(
        offer=slot.offer.id if slot.offer is not None else "",
        reason=slot.reason.value,
        score=round(slot.score * ONE),
        propensity=slot.propensity,
    )
