from genome_edge.v1 import authorisation_pb2 as _authorisation_pb2
from genome_edge.v1 import dna_pb2 as _dna_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Moment(_message.Message):
    __slots__ = ("cell", "place", "activity", "time", "channel", "basket", "stage", "attributes", "language", "recent")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    cell: str
    place: str
    activity: str
    time: str
    channel: str
    basket: _containers.RepeatedScalarFieldContainer[str]
    stage: str
    attributes: _containers.ScalarMap[str, str]
    language: str
    recent: _containers.RepeatedCompositeFieldContainer[RecentActivity]
    def __init__(self, cell: _Optional[str] = ..., place: _Optional[str] = ..., activity: _Optional[str] = ..., time: _Optional[str] = ..., channel: _Optional[str] = ..., basket: _Optional[_Iterable[str]] = ..., stage: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ..., language: _Optional[str] = ..., recent: _Optional[_Iterable[_Union[RecentActivity, _Mapping]]] = ...) -> None: ...

class RecentActivity(_message.Message):
    __slots__ = ("activity", "ago_s")
    activity: str
    ago_s: int
    def __init__(self, activity: _Optional[str] = ..., ago_s: _Optional[int] = ...) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("placement", "slots", "moment", "customer", "request_id", "durable")
    placement: str
    slots: int
    moment: Moment
    customer: str
    request_id: str
    durable: bool
    def __init__(self, placement: _Optional[str] = ..., slots: _Optional[int] = ..., moment: _Optional[_Union[Moment, _Mapping]] = ..., customer: _Optional[str] = ..., request_id: _Optional[str] = ..., durable: _Optional[bool] = ...) -> None: ...

class DecideResponse(_message.Message):
    __slots__ = ("decision_id", "slots", "reason", "release_version", "unknown")
    decision_id: str
    slots: _containers.RepeatedCompositeFieldContainer[DecidedSlot]
    reason: str
    release_version: int
    unknown: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, decision_id: _Optional[str] = ..., slots: _Optional[_Iterable[_Union[DecidedSlot, _Mapping]]] = ..., reason: _Optional[str] = ..., release_version: _Optional[int] = ..., unknown: _Optional[_Iterable[str]] = ...) -> None: ...

class DecidedSlot(_message.Message):
    __slots__ = ("offer", "reason", "score", "propensity", "content", "assets")
    class ContentEntry(_message.Message):
        __slots__ = ("key", "value")
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class AssetsEntry(_message.Message):
        __slots__ = ("key", "value")
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    offer: str
    reason: str
    score: float
    propensity: float
    content: _containers.ScalarMap[str, str]
    assets: _containers.ScalarMap[str, str]
    def __init__(self, offer: _Optional[str] = ..., reason: _Optional[str] = ..., score: _Optional[float] = ..., propensity: _Optional[float] = ..., content: _Optional[_Mapping[str, str]] = ..., assets: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ReportOutcomeRequest(_message.Message):
    __slots__ = ("decision_id", "slot", "kind", "value_micros", "event_id")
    decision_id: str
    slot: int
    kind: str
    value_micros: int
    event_id: str
    def __init__(self, decision_id: _Optional[str] = ..., slot: _Optional[int] = ..., kind: _Optional[str] = ..., value_micros: _Optional[int] = ..., event_id: _Optional[str] = ...) -> None: ...

class ReportOutcomeResponse(_message.Message):
    __slots__ = ("event_id",)
    event_id: str
    def __init__(self, event_id: _Optional[str] = ...) -> None: ...

class ImprintRequest(_message.Message):
    __slots__ = ("customer", "kind", "product", "dna", "interaction_id", "amount_micros", "currency")
    customer: str
    kind: str
    product: str
    dna: _containers.RepeatedCompositeFieldContainer[_dna_pb2.WeightedMarker]
    interaction_id: str
    amount_micros: int
    currency: str
    def __init__(self, customer: _Optional[str] = ..., kind: _Optional[str] = ..., product: _Optional[str] = ..., dna: _Optional[_Iterable[_Union[_dna_pb2.WeightedMarker, _Mapping]]] = ..., interaction_id: _Optional[str] = ..., amount_micros: _Optional[int] = ..., currency: _Optional[str] = ...) -> None: ...

class ImprintResponse(_message.Message):
    __slots__ = ("interaction_id",)
    interaction_id: str
    def __init__(self, interaction_id: _Optional[str] = ...) -> None: ...

class RedeemRequest(_message.Message):
    __slots__ = ("decision_id", "slot")
    decision_id: str
    slot: int
    def __init__(self, decision_id: _Optional[str] = ..., slot: _Optional[int] = ...) -> None: ...

class RedeemResponse(_message.Message):
    __slots__ = ("granted", "reason", "offer", "event_id")
    granted: bool
    reason: str
    offer: str
    event_id: str
    def __init__(self, granted: _Optional[bool] = ..., reason: _Optional[str] = ..., offer: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class SetConsentRequest(_message.Message):
    __slots__ = ("customer", "purpose", "granted")
    customer: str
    purpose: _dna_pb2.ConsentPurpose
    granted: bool
    def __init__(self, customer: _Optional[str] = ..., purpose: _Optional[_Union[_dna_pb2.ConsentPurpose, str]] = ..., granted: _Optional[bool] = ...) -> None: ...

class SetConsentResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("decision_id",)
    decision_id: str
    def __init__(self, decision_id: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("explanation", "text")
    explanation: _struct_pb2.Struct
    text: str
    def __init__(self, explanation: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...
