from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConsentPurpose(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSENT_PURPOSE_UNSPECIFIED: _ClassVar[ConsentPurpose]
    CONSENT_PURPOSE_PERSONALISATION: _ClassVar[ConsentPurpose]
    CONSENT_PURPOSE_LEARNING: _ClassVar[ConsentPurpose]
    CONSENT_PURPOSE_LOCATION: _ClassVar[ConsentPurpose]
CONSENT_PURPOSE_UNSPECIFIED: ConsentPurpose
CONSENT_PURPOSE_PERSONALISATION: ConsentPurpose
CONSENT_PURPOSE_LEARNING: ConsentPurpose
CONSENT_PURPOSE_LOCATION: ConsentPurpose

class WeightedMarker(_message.Message):
    __slots__ = ("marker", "salience_q8")
    marker: str
    salience_q8: int
    def __init__(self, marker: _Optional[str] = ..., salience_q8: _Optional[int] = ...) -> None: ...

class Vocabulary(_message.Message):
    __slots__ = ("lineage", "markers")
    lineage: bytes
    markers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, lineage: _Optional[bytes] = ..., markers: _Optional[_Iterable[str]] = ...) -> None: ...

class Lineage(_message.Message):
    __slots__ = ("vocabulary_lineage", "vocabulary_size", "schema_epoch", "landmark_hour", "quantiser")
    vocabulary_lineage: bytes
    vocabulary_size: int
    schema_epoch: int
    landmark_hour: int
    quantiser: int
    def __init__(self, vocabulary_lineage: _Optional[bytes] = ..., vocabulary_size: _Optional[int] = ..., schema_epoch: _Optional[int] = ..., landmark_hour: _Optional[int] = ..., quantiser: _Optional[int] = ...) -> None: ...

class NamespaceRule(_message.Message):
    __slots__ = ("name", "half_life_hours", "profile_weight_q24", "moment_half_life_s", "max_markers")
    name: str
    half_life_hours: int
    profile_weight_q24: int
    moment_half_life_s: int
    max_markers: int
    def __init__(self, name: _Optional[str] = ..., half_life_hours: _Optional[int] = ..., profile_weight_q24: _Optional[int] = ..., moment_half_life_s: _Optional[int] = ..., max_markers: _Optional[int] = ...) -> None: ...

class KindRule(_message.Message):
    __slots__ = ("name", "weight_q24", "money_weight_q24", "marker_prefix", "label", "dwell_weight_q24", "beside")
    name: str
    weight_q24: int
    money_weight_q24: int
    marker_prefix: str
    label: int
    dwell_weight_q24: int
    beside: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., weight_q24: _Optional[int] = ..., money_weight_q24: _Optional[int] = ..., marker_prefix: _Optional[str] = ..., label: _Optional[int] = ..., dwell_weight_q24: _Optional[int] = ..., beside: _Optional[_Iterable[str]] = ...) -> None: ...

class DnaSchema(_message.Message):
    __slots__ = ("epoch", "landmark_hour", "quantiser", "max_markers", "namespaces", "kinds", "default_half_life_hours", "distinct")
    epoch: int
    landmark_hour: int
    quantiser: int
    max_markers: int
    namespaces: _containers.RepeatedCompositeFieldContainer[NamespaceRule]
    kinds: _containers.RepeatedCompositeFieldContainer[KindRule]
    default_half_life_hours: int
    distinct: bytes
    def __init__(self, epoch: _Optional[int] = ..., landmark_hour: _Optional[int] = ..., quantiser: _Optional[int] = ..., max_markers: _Optional[int] = ..., namespaces: _Optional[_Iterable[_Union[NamespaceRule, _Mapping]]] = ..., kinds: _Optional[_Iterable[_Union[KindRule, _Mapping]]] = ..., default_half_life_hours: _Optional[int] = ..., distinct: _Optional[bytes] = ...) -> None: ...

class GenomeBlock(_message.Message):
    __slots__ = ("lineage", "subjects", "consents", "as_of_hours", "counts", "index_deltas", "strengths")
    lineage: Lineage
    subjects: bytes
    consents: _containers.RepeatedScalarFieldContainer[int]
    as_of_hours: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    index_deltas: _containers.RepeatedScalarFieldContainer[int]
    strengths: bytes
    def __init__(self, lineage: _Optional[_Union[Lineage, _Mapping]] = ..., subjects: _Optional[bytes] = ..., consents: _Optional[_Iterable[int]] = ..., as_of_hours: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ..., index_deltas: _Optional[_Iterable[int]] = ..., strengths: _Optional[bytes] = ...) -> None: ...
