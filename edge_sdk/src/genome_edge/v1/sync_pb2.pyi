from genome_edge.v1 import authorisation_pb2 as _authorisation_pb2
from genome_edge.v1 import dna_pb2 as _dna_pb2
from genome_edge.v1 import release_pb2 as _release_pb2
from genome_edge.v1 import stop_pb2 as _stop_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SyncRequest(_message.Message):
    __slots__ = ("hello", "ack", "nack", "heartbeat")
    hello: Hello
    ack: Ack
    nack: Nack
    heartbeat: DeviceHeartbeat
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., heartbeat: _Optional[_Union[DeviceHeartbeat, _Mapping]] = ...) -> None: ...

class SyncResponse(_message.Message):
    __slots__ = ("begin", "put", "delete", "chunk", "commit", "heartbeat", "goodbye", "trust")
    begin: Begin
    put: Put
    delete: Delete
    chunk: Chunk
    commit: Commit
    heartbeat: ServerHeartbeat
    goodbye: Goodbye
    trust: Trust
    def __init__(self, begin: _Optional[_Union[Begin, _Mapping]] = ..., put: _Optional[_Union[Put, _Mapping]] = ..., delete: _Optional[_Union[Delete, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., heartbeat: _Optional[_Union[ServerHeartbeat, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., trust: _Optional[_Union[Trust, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("sdk_version", "features", "active_release", "highest_release", "held_parts", "genome_cursor", "lineage", "epoch", "wants_genomes", "root_version", "timestamp_version", "stop_list_version", "partials", "nonce")
    sdk_version: str
    features: _containers.RepeatedScalarFieldContainer[str]
    active_release: int
    highest_release: int
    held_parts: _containers.RepeatedScalarFieldContainer[bytes]
    genome_cursor: bytes
    lineage: _dna_pb2.Lineage
    epoch: bytes
    wants_genomes: bool
    root_version: int
    timestamp_version: int
    stop_list_version: int
    partials: _containers.RepeatedCompositeFieldContainer[Partial]
    nonce: bytes
    def __init__(self, sdk_version: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., active_release: _Optional[int] = ..., highest_release: _Optional[int] = ..., held_parts: _Optional[_Iterable[bytes]] = ..., genome_cursor: _Optional[bytes] = ..., lineage: _Optional[_Union[_dna_pb2.Lineage, _Mapping]] = ..., epoch: _Optional[bytes] = ..., wants_genomes: _Optional[bool] = ..., root_version: _Optional[int] = ..., timestamp_version: _Optional[int] = ..., stop_list_version: _Optional[int] = ..., partials: _Optional[_Iterable[_Union[Partial, _Mapping]]] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Partial(_message.Message):
    __slots__ = ("sha256", "size")
    sha256: bytes
    size: int
    def __init__(self, sha256: _Optional[bytes] = ..., size: _Optional[int] = ...) -> None: ...

class Trust(_message.Message):
    __slots__ = ("roots", "timestamp", "stop_list")
    roots: _containers.RepeatedCompositeFieldContainer[_release_pb2.SignedRoot]
    timestamp: _release_pb2.SignedTimestamp
    stop_list: _stop_pb2.SignedStopList
    def __init__(self, roots: _Optional[_Iterable[_Union[_release_pb2.SignedRoot, _Mapping]]] = ..., timestamp: _Optional[_Union[_release_pb2.SignedTimestamp, _Mapping]] = ..., stop_list: _Optional[_Union[_stop_pb2.SignedStopList, _Mapping]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("nonce",)
    nonce: int
    def __init__(self, nonce: _Optional[int] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("nonce", "reason", "detail")
    nonce: int
    reason: str
    detail: str
    def __init__(self, nonce: _Optional[int] = ..., reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class DeviceHeartbeat(_message.Message):
    __slots__ = ("active_release", "tier", "outbox_events", "last_nack", "reasons", "root_version", "timestamp_version", "stop_list_version", "genomes", "cause", "counters", "outbox_age_ms", "wall_ms")
    class ReasonsEntry(_message.Message):
        __slots__ = ("key", "value")
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class CountersEntry(_message.Message):
        __slots__ = ("key", "value")
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    active_release: int
    tier: str
    outbox_events: int
    last_nack: str
    reasons: _containers.ScalarMap[str, int]
    root_version: int
    timestamp_version: int
    stop_list_version: int
    genomes: int
    cause: str
    counters: _containers.ScalarMap[str, int]
    outbox_age_ms: int
    wall_ms: int
    def __init__(self, active_release: _Optional[int] = ..., tier: _Optional[str] = ..., outbox_events: _Optional[int] = ..., last_nack: _Optional[str] = ..., reasons: _Optional[_Mapping[str, int]] = ..., root_version: _Optional[int] = ..., timestamp_version: _Optional[int] = ..., stop_list_version: _Optional[int] = ..., genomes: _Optional[int] = ..., cause: _Optional[str] = ..., counters: _Optional[_Mapping[str, int]] = ..., outbox_age_ms: _Optional[int] = ..., wall_ms: _Optional[int] = ...) -> None: ...

class Begin(_message.Message):
    __slots__ = ("nonce", "kind", "manifest", "root", "full", "lineage", "rows", "lookup_key", "content")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Begin.Kind]
        KIND_RELEASE: _ClassVar[Begin.Kind]
        KIND_GENOMES: _ClassVar[Begin.Kind]
        KIND_ASSETS: _ClassVar[Begin.Kind]
    KIND_UNSPECIFIED: Begin.Kind
    KIND_RELEASE: Begin.Kind
    KIND_GENOMES: Begin.Kind
    KIND_ASSETS: Begin.Kind
    nonce: int
    kind: Begin.Kind
    manifest: _release_pb2.SignedManifest
    root: _release_pb2.TrustRoot
    full: bool
    lineage: _dna_pb2.Lineage
    rows: int
    lookup_key: bytes
    content: _release_pb2.Part
    def __init__(self, nonce: _Optional[int] = ..., kind: _Optional[_Union[Begin.Kind, str]] = ..., manifest: _Optional[_Union[_release_pb2.SignedManifest, _Mapping]] = ..., root: _Optional[_Union[_release_pb2.TrustRoot, _Mapping]] = ..., full: _Optional[bool] = ..., lineage: _Optional[_Union[_dna_pb2.Lineage, _Mapping]] = ..., rows: _Optional[int] = ..., lookup_key: _Optional[bytes] = ..., content: _Optional[_Union[_release_pb2.Part, _Mapping]] = ...) -> None: ...

class Put(_message.Message):
    __slots__ = ("nonce", "block", "lookup_hashes", "lookup_subjects", "patch", "cap_events")
    nonce: int
    block: _dna_pb2.GenomeBlock
    lookup_hashes: bytes
    lookup_subjects: bytes
    patch: GenomePatch
    cap_events: _containers.RepeatedCompositeFieldContainer[CapEvent]
    def __init__(self, nonce: _Optional[int] = ..., block: _Optional[_Union[_dna_pb2.GenomeBlock, _Mapping]] = ..., lookup_hashes: _Optional[bytes] = ..., lookup_subjects: _Optional[bytes] = ..., patch: _Optional[_Union[GenomePatch, _Mapping]] = ..., cap_events: _Optional[_Iterable[_Union[CapEvent, _Mapping]]] = ...) -> None: ...

class CapEvent(_message.Message):
    __slots__ = ("subject", "claim", "kind", "offer", "campaign", "group", "at_ms")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[CapEvent.Kind]
        KIND_VIEW: _ClassVar[CapEvent.Kind]
        KIND_REDEEM: _ClassVar[CapEvent.Kind]
        KIND_DISMISS: _ClassVar[CapEvent.Kind]
        KIND_CONVERT: _ClassVar[CapEvent.Kind]
    KIND_UNSPECIFIED: CapEvent.Kind
    KIND_VIEW: CapEvent.Kind
    KIND_REDEEM: CapEvent.Kind
    KIND_DISMISS: CapEvent.Kind
    KIND_CONVERT: CapEvent.Kind
    subject: bytes
    claim: bytes
    kind: CapEvent.Kind
    offer: str
    campaign: str
    group: str
    at_ms: int
    def __init__(self, subject: _Optional[bytes] = ..., claim: _Optional[bytes] = ..., kind: _Optional[_Union[CapEvent.Kind, str]] = ..., offer: _Optional[str] = ..., campaign: _Optional[str] = ..., group: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class GenomePatch(_message.Message):
    __slots__ = ("subject_prefixes", "counts", "index_deltas", "strengths", "consents")
    subject_prefixes: bytes
    counts: _containers.RepeatedScalarFieldContainer[int]
    index_deltas: _containers.RepeatedScalarFieldContainer[int]
    strengths: bytes
    consents: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, subject_prefixes: _Optional[bytes] = ..., counts: _Optional[_Iterable[int]] = ..., index_deltas: _Optional[_Iterable[int]] = ..., strengths: _Optional[bytes] = ..., consents: _Optional[_Iterable[int]] = ...) -> None: ...

class Delete(_message.Message):
    __slots__ = ("nonce", "subject", "reason")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Delete.Reason]
        REASON_ERASED: _ClassVar[Delete.Reason]
        REASON_LEFT_AUDIENCE: _ClassVar[Delete.Reason]
        REASON_CONSENT_WITHDRAWN: _ClassVar[Delete.Reason]
    REASON_UNSPECIFIED: Delete.Reason
    REASON_ERASED: Delete.Reason
    REASON_LEFT_AUDIENCE: Delete.Reason
    REASON_CONSENT_WITHDRAWN: Delete.Reason
    nonce: int
    subject: bytes
    reason: Delete.Reason
    def __init__(self, nonce: _Optional[int] = ..., subject: _Optional[bytes] = ..., reason: _Optional[_Union[Delete.Reason, str]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("nonce", "sha256", "offset", "data")
    nonce: int
    sha256: bytes
    offset: int
    data: bytes
    def __init__(self, nonce: _Optional[int] = ..., sha256: _Optional[bytes] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("nonce", "genome_cursor", "included", "total_rows", "row_sum")
    nonce: int
    genome_cursor: bytes
    included: _containers.RepeatedCompositeFieldContainer[LaneMark]
    total_rows: int
    row_sum: int
    def __init__(self, nonce: _Optional[int] = ..., genome_cursor: _Optional[bytes] = ..., included: _Optional[_Iterable[_Union[LaneMark, _Mapping]]] = ..., total_rows: _Optional[int] = ..., row_sum: _Optional[int] = ...) -> None: ...

class LaneMark(_message.Message):
    __slots__ = ("epoch", "lane", "sequence")
    epoch: bytes
    lane: int
    sequence: int
    def __init__(self, epoch: _Optional[bytes] = ..., lane: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class ServerHeartbeat(_message.Message):
    __slots__ = ("server_time_ms", "signature", "incarnation")
    server_time_ms: int
    signature: _release_pb2.ManifestSignature
    incarnation: bytes
    def __init__(self, server_time_ms: _Optional[int] = ..., signature: _Optional[_Union[_release_pb2.ManifestSignature, _Mapping]] = ..., incarnation: _Optional[bytes] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("retry_after_ms",)
    retry_after_ms: int
    def __init__(self, retry_after_ms: _Optional[int] = ...) -> None: ...
