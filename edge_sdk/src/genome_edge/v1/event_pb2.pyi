from genome_edge.v1 import dna_pb2 as _dna_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("time", "interaction", "decision", "outcome", "consent", "link", "evicted")
    time: EventTime
    interaction: Interaction
    decision: DecisionRecord
    outcome: Outcome
    consent: ConsentChange
    link: SubjectLink
    evicted: Evicted
    def __init__(self, time: _Optional[_Union[EventTime, _Mapping]] = ..., interaction: _Optional[_Union[Interaction, _Mapping]] = ..., decision: _Optional[_Union[DecisionRecord, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., consent: _Optional[_Union[ConsentChange, _Mapping]] = ..., link: _Optional[_Union[SubjectLink, _Mapping]] = ..., evicted: _Optional[_Union[Evicted, _Mapping]] = ...) -> None: ...

class EventTime(_message.Message):
    __slots__ = ("wall_ms", "monotonic_ms", "boot_id", "server_offset_ms", "offset_known")
    wall_ms: int
    monotonic_ms: int
    boot_id: bytes
    server_offset_ms: int
    offset_known: bool
    def __init__(self, wall_ms: _Optional[int] = ..., monotonic_ms: _Optional[int] = ..., boot_id: _Optional[bytes] = ..., server_offset_ms: _Optional[int] = ..., offset_known: _Optional[bool] = ...) -> None: ...

class Interaction(_message.Message):
    __slots__ = ("interaction_id", "kind", "product", "offer", "dna", "amount_micros", "currency", "quantity_milli", "tender", "dwell_ms", "context_markers", "region")
    interaction_id: str
    kind: str
    product: str
    offer: str
    dna: _containers.RepeatedCompositeFieldContainer[_dna_pb2.WeightedMarker]
    amount_micros: int
    currency: str
    quantity_milli: int
    tender: str
    dwell_ms: int
    context_markers: _containers.RepeatedScalarFieldContainer[str]
    region: str
    def __init__(self, interaction_id: _Optional[str] = ..., kind: _Optional[str] = ..., product: _Optional[str] = ..., offer: _Optional[str] = ..., dna: _Optional[_Iterable[_Union[_dna_pb2.WeightedMarker, _Mapping]]] = ..., amount_micros: _Optional[int] = ..., currency: _Optional[str] = ..., quantity_milli: _Optional[int] = ..., tender: _Optional[str] = ..., dwell_ms: _Optional[int] = ..., context_markers: _Optional[_Iterable[str]] = ..., region: _Optional[str] = ...) -> None: ...

class DecisionRecord(_message.Message):
    __slots__ = ("decision_id", "placement", "release_version", "seed", "context_markers", "region", "slots", "candidate_runs", "genome_used", "explorer", "gamma", "floor", "tier", "stop_list_version", "held_out", "instead", "context_saliences_q8", "experiment", "regions", "local_weekday", "local_hour", "decided_ms", "genome_indices", "genome_weights", "scores", "capped", "consents", "channel", "context_indices", "context_weights", "withheld", "capped_reasons", "capped_until_ms", "scored_by", "rooms")
    decision_id: bytes
    placement: str
    release_version: int
    seed: int
    context_markers: _containers.RepeatedScalarFieldContainer[str]
    region: str
    slots: _containers.RepeatedCompositeFieldContainer[SlotRecord]
    candidate_runs: _containers.RepeatedScalarFieldContainer[int]
    genome_used: bool
    explorer: str
    gamma: float
    floor: float
    tier: str
    stop_list_version: int
    held_out: bool
    instead: _containers.RepeatedCompositeFieldContainer[SlotRecord]
    context_saliences_q8: _containers.RepeatedScalarFieldContainer[int]
    experiment: str
    regions: _containers.RepeatedScalarFieldContainer[int]
    local_weekday: int
    local_hour: int
    decided_ms: int
    genome_indices: _containers.RepeatedScalarFieldContainer[int]
    genome_weights: _containers.RepeatedScalarFieldContainer[float]
    scores: bytes
    capped: _containers.RepeatedScalarFieldContainer[str]
    consents: int
    channel: str
    context_indices: _containers.RepeatedScalarFieldContainer[int]
    context_weights: _containers.RepeatedScalarFieldContainer[float]
    withheld: _containers.RepeatedCompositeFieldContainer[WithheldOffers]
    capped_reasons: _containers.RepeatedScalarFieldContainer[str]
    capped_until_ms: _containers.RepeatedScalarFieldContainer[int]
    scored_by: str
    rooms: _containers.RepeatedCompositeFieldContainer[CampaignRoom]
    def __init__(self, decision_id: _Optional[bytes] = ..., placement: _Optional[str] = ..., release_version: _Optional[int] = ..., seed: _Optional[int] = ..., context_markers: _Optional[_Iterable[str]] = ..., region: _Optional[str] = ..., slots: _Optional[_Iterable[_Union[SlotRecord, _Mapping]]] = ..., candidate_runs: _Optional[_Iterable[int]] = ..., genome_used: _Optional[bool] = ..., explorer: _Optional[str] = ..., gamma: _Optional[float] = ..., floor: _Optional[float] = ..., tier: _Optional[str] = ..., stop_list_version: _Optional[int] = ..., held_out: _Optional[bool] = ..., instead: _Optional[_Iterable[_Union[SlotRecord, _Mapping]]] = ..., context_saliences_q8: _Optional[_Iterable[int]] = ..., experiment: _Optional[str] = ..., regions: _Optional[_Iterable[int]] = ..., local_weekday: _Optional[int] = ..., local_hour: _Optional[int] = ..., decided_ms: _Optional[int] = ..., genome_indices: _Optional[_Iterable[int]] = ..., genome_weights: _Optional[_Iterable[float]] = ..., scores: _Optional[bytes] = ..., capped: _Optional[_Iterable[str]] = ..., consents: _Optional[int] = ..., channel: _Optional[str] = ..., context_indices: _Optional[_Iterable[int]] = ..., context_weights: _Optional[_Iterable[float]] = ..., withheld: _Optional[_Iterable[_Union[WithheldOffers, _Mapping]]] = ..., capped_reasons: _Optional[_Iterable[str]] = ..., capped_until_ms: _Optional[_Iterable[int]] = ..., scored_by: _Optional[str] = ..., rooms: _Optional[_Iterable[_Union[CampaignRoom, _Mapping]]] = ...) -> None: ...

class CampaignRoom(_message.Message):
    __slots__ = ("room", "runs")
    room: int
    runs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, room: _Optional[int] = ..., runs: _Optional[_Iterable[int]] = ...) -> None: ...

class WithheldOffers(_message.Message):
    __slots__ = ("reason", "runs")
    reason: str
    runs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, reason: _Optional[str] = ..., runs: _Optional[_Iterable[int]] = ...) -> None: ...

class SlotRecord(_message.Message):
    __slots__ = ("offer", "reason", "score", "propensity")
    offer: str
    reason: str
    score: int
    propensity: float
    def __init__(self, offer: _Optional[str] = ..., reason: _Optional[str] = ..., score: _Optional[int] = ..., propensity: _Optional[float] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("decision_id", "slot", "kind", "offer", "value_micros", "event_id", "placement")
    decision_id: bytes
    slot: int
    kind: str
    offer: str
    value_micros: int
    event_id: str
    placement: str
    def __init__(self, decision_id: _Optional[bytes] = ..., slot: _Optional[int] = ..., kind: _Optional[str] = ..., offer: _Optional[str] = ..., value_micros: _Optional[int] = ..., event_id: _Optional[str] = ..., placement: _Optional[str] = ...) -> None: ...

class ConsentChange(_message.Message):
    __slots__ = ("purpose", "granted")
    purpose: _dna_pb2.ConsentPurpose
    granted: bool
    def __init__(self, purpose: _Optional[_Union[_dna_pb2.ConsentPurpose, str]] = ..., granted: _Optional[bool] = ...) -> None: ...

class SubjectLink(_message.Message):
    __slots__ = ("other_subject", "linked")
    other_subject: bytes
    linked: bool
    def __init__(self, other_subject: _Optional[bytes] = ..., linked: _Optional[bool] = ...) -> None: ...

class Evicted(_message.Message):
    __slots__ = ("first_sequence", "last_sequence", "reason", "events", "probability_ppm")
    first_sequence: int
    last_sequence: int
    reason: str
    events: int
    probability_ppm: int
    def __init__(self, first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., reason: _Optional[str] = ..., events: _Optional[int] = ..., probability_ppm: _Optional[int] = ...) -> None: ...
