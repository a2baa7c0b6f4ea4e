from genome_edge.v1 import dna_pb2 as _dna_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignedManifest(_message.Message):
    __slots__ = ("manifest", "signatures")
    manifest: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[ManifestSignature]
    def __init__(self, manifest: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[ManifestSignature, _Mapping]]] = ...) -> None: ...

class ManifestSignature(_message.Message):
    __slots__ = ("key_id", "signature")
    key_id: str
    signature: bytes
    def __init__(self, key_id: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class TrustRoot(_message.Message):
    __slots__ = ("tenant", "version", "release_keys", "threshold", "root_keys", "root_threshold", "timestamp_keys", "timestamp_threshold", "created_ms", "expires_ms")
    tenant: str
    version: int
    release_keys: _containers.RepeatedScalarFieldContainer[bytes]
    threshold: int
    root_keys: _containers.RepeatedScalarFieldContainer[bytes]
    root_threshold: int
    timestamp_keys: _containers.RepeatedScalarFieldContainer[bytes]
    timestamp_threshold: int
    created_ms: int
    expires_ms: int
    def __init__(self, tenant: _Optional[str] = ..., version: _Optional[int] = ..., release_keys: _Optional[_Iterable[bytes]] = ..., threshold: _Optional[int] = ..., root_keys: _Optional[_Iterable[bytes]] = ..., root_threshold: _Optional[int] = ..., timestamp_keys: _Optional[_Iterable[bytes]] = ..., timestamp_threshold: _Optional[int] = ..., created_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ...) -> None: ...

class SignedRoot(_message.Message):
    __slots__ = ("root", "signatures")
    root: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[ManifestSignature]
    def __init__(self, root: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[ManifestSignature, _Mapping]]] = ...) -> None: ...

class SignedTimestamp(_message.Message):
    __slots__ = ("timestamp", "signatures")
    timestamp: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[ManifestSignature]
    def __init__(self, timestamp: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[ManifestSignature, _Mapping]]] = ...) -> None: ...

class Timestamp(_message.Message):
    __slots__ = ("tenant", "version", "created_ms", "expires_ms", "releases", "stop_list_version", "stop_list_sha256")
    tenant: str
    version: int
    created_ms: int
    expires_ms: int
    releases: _containers.RepeatedCompositeFieldContainer[CurrentRelease]
    stop_list_version: int
    stop_list_sha256: bytes
    def __init__(self, tenant: _Optional[str] = ..., version: _Optional[int] = ..., created_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ..., releases: _Optional[_Iterable[_Union[CurrentRelease, _Mapping]]] = ..., stop_list_version: _Optional[int] = ..., stop_list_sha256: _Optional[bytes] = ...) -> None: ...

class CurrentRelease(_message.Message):
    __slots__ = ("version", "manifest_sha256")
    version: int
    manifest_sha256: bytes
    def __init__(self, version: _Optional[int] = ..., manifest_sha256: _Optional[bytes] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("format", "tenant", "version", "created_ms", "expires_ms", "channel", "required_features", "lineage", "parts", "content_of")
    format: int
    tenant: str
    version: int
    created_ms: int
    expires_ms: int
    channel: str
    required_features: _containers.RepeatedScalarFieldContainer[str]
    lineage: _dna_pb2.Lineage
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    content_of: int
    def __init__(self, format: _Optional[int] = ..., tenant: _Optional[str] = ..., version: _Optional[int] = ..., created_ms: _Optional[int] = ..., expires_ms: _Optional[int] = ..., channel: _Optional[str] = ..., required_features: _Optional[_Iterable[str]] = ..., lineage: _Optional[_Union[_dna_pb2.Lineage, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., content_of: _Optional[int] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("name", "size", "sha256", "asset")
    name: str
    size: int
    sha256: bytes
    asset: bool
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ..., asset: _Optional[bool] = ...) -> None: ...

class Bundle(_message.Message):
    __slots__ = ("manifest", "root", "parts", "genomes", "timestamp")
    manifest: SignedManifest
    root: TrustRoot
    parts: _containers.RepeatedCompositeFieldContainer[PartContent]
    genomes: _containers.RepeatedCompositeFieldContainer[_dna_pb2.GenomeBlock]
    timestamp: SignedTimestamp
    def __init__(self, manifest: _Optional[_Union[SignedManifest, _Mapping]] = ..., root: _Optional[_Union[TrustRoot, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[PartContent, _Mapping]]] = ..., genomes: _Optional[_Iterable[_Union[_dna_pb2.GenomeBlock, _Mapping]]] = ..., timestamp: _Optional[_Union[SignedTimestamp, _Mapping]] = ...) -> None: ...

class PartContent(_message.Message):
    __slots__ = ("name", "content")
    name: str
    content: bytes
    def __init__(self, name: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class OfferCatalogue(_message.Message):
    __slots__ = ("offers", "zones")
    offers: _containers.RepeatedCompositeFieldContainer[OfferSpec]
    zones: _containers.RepeatedCompositeFieldContainer[TimeZone]
    def __init__(self, offers: _Optional[_Iterable[_Union[OfferSpec, _Mapping]]] = ..., zones: _Optional[_Iterable[_Union[TimeZone, _Mapping]]] = ...) -> None: ...

class TimeZone(_message.Message):
    __slots__ = ("name", "from_ms", "offsets_s")
    name: str
    from_ms: _containers.RepeatedScalarFieldContainer[int]
    offsets_s: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., from_ms: _Optional[_Iterable[int]] = ..., offsets_s: _Optional[_Iterable[int]] = ...) -> None: ...

class OfferSpec(_message.Message):
    __slots__ = ("id", "campaign", "content", "dna", "value_micros", "priority", "targeting", "caps", "exclusivity_group", "purpose", "required_features", "stop_after_redeem", "stop_after_dismiss", "max_offline_age_hours", "texts", "assets", "cost_micros", "cool_down_hours", "stop_after_convert", "category", "sizes")
    class ContentEntry(_message.Message):
        __slots__ = ("key", "value")
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    id: str
    campaign: str
    content: _containers.ScalarMap[str, str]
    dna: _containers.RepeatedCompositeFieldContainer[_dna_pb2.WeightedMarker]
    value_micros: int
    priority: int
    targeting: Targeting
    caps: _containers.RepeatedCompositeFieldContainer[Cap]
    exclusivity_group: str
    purpose: _dna_pb2.ConsentPurpose
    required_features: _containers.RepeatedScalarFieldContainer[str]
    stop_after_redeem: bool
    stop_after_dismiss: bool
    max_offline_age_hours: int
    texts: _containers.RepeatedCompositeFieldContainer[OfferText]
    assets: _containers.RepeatedCompositeFieldContainer[OfferAsset]
    cost_micros: int
    cool_down_hours: int
    stop_after_convert: bool
    category: str
    sizes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., campaign: _Optional[str] = ..., content: _Optional[_Mapping[str, str]] = ..., dna: _Optional[_Iterable[_Union[_dna_pb2.WeightedMarker, _Mapping]]] = ..., value_micros: _Optional[int] = ..., priority: _Optional[int] = ..., targeting: _Optional[_Union[Targeting, _Mapping]] = ..., caps: _Optional[_Iterable[_Union[Cap, _Mapping]]] = ..., exclusivity_group: _Optional[str] = ..., purpose: _Optional[_Union[_dna_pb2.ConsentPurpose, str]] = ..., required_features: _Optional[_Iterable[str]] = ..., stop_after_redeem: _Optional[bool] = ..., stop_after_dismiss: _Optional[bool] = ..., max_offline_age_hours: _Optional[int] = ..., texts: _Optional[_Iterable[_Union[OfferText, _Mapping]]] = ..., assets: _Optional[_Iterable[_Union[OfferAsset, _Mapping]]] = ..., cost_micros: _Optional[int] = ..., cool_down_hours: _Optional[int] = ..., stop_after_convert: _Optional[bool] = ..., category: _Optional[str] = ..., sizes: _Optional[_Iterable[str]] = ...) -> None: ...

class OfferText(_message.Message):
    __slots__ = ("language", "content")
    class ContentEntry(_message.Message):
        __slots__ = ("key", "value")
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    language: str
    content: _containers.ScalarMap[str, str]
    def __init__(self, language: _Optional[str] = ..., content: _Optional[_Mapping[str, str]] = ...) -> None: ...

class OfferAsset(_message.Message):
    __slots__ = ("name", "language", "part")
    name: str
    language: str
    part: str
    def __init__(self, name: _Optional[str] = ..., language: _Optional[str] = ..., part: _Optional[str] = ...) -> None: ...

class Targeting(_message.Message):
    __slots__ = ("cells", "near_places", "valid_from_ms", "valid_until_ms", "days", "hours", "any_of", "all_of", "none_of", "channels", "placements", "windows", "zone")
    cells: _containers.RepeatedScalarFieldContainer[str]
    near_places: _containers.RepeatedScalarFieldContainer[str]
    valid_from_ms: int
    valid_until_ms: int
    days: _containers.RepeatedScalarFieldContainer[int]
    hours: _containers.RepeatedScalarFieldContainer[int]
    any_of: _containers.RepeatedScalarFieldContainer[str]
    all_of: _containers.RepeatedScalarFieldContainer[str]
    none_of: _containers.RepeatedScalarFieldContainer[str]
    channels: _containers.RepeatedScalarFieldContainer[str]
    placements: _containers.RepeatedScalarFieldContainer[str]
    windows: _containers.RepeatedCompositeFieldContainer[Window]
    zone: str
    def __init__(self, cells: _Optional[_Iterable[str]] = ..., near_places: _Optional[_Iterable[str]] = ..., valid_from_ms: _Optional[int] = ..., valid_until_ms: _Optional[int] = ..., days: _Optional[_Iterable[int]] = ..., hours: _Optional[_Iterable[int]] = ..., any_of: _Optional[_Iterable[str]] = ..., all_of: _Optional[_Iterable[str]] = ..., none_of: _Optional[_Iterable[str]] = ..., channels: _Optional[_Iterable[str]] = ..., placements: _Optional[_Iterable[str]] = ..., windows: _Optional[_Iterable[_Union[Window, _Mapping]]] = ..., zone: _Optional[str] = ...) -> None: ...

class Window(_message.Message):
    __slots__ = ("from_ms", "until_ms")
    from_ms: int
    until_ms: int
    def __init__(self, from_ms: _Optional[int] = ..., until_ms: _Optional[int] = ...) -> None: ...

class Cap(_message.Message):
    __slots__ = ("scope", "count", "limit", "window_hours", "over", "calendar", "paced")
    class Count(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        COUNT_UNSPECIFIED: _ClassVar[Cap.Count]
        COUNT_VIEW: _ClassVar[Cap.Count]
        COUNT_REDEEM: _ClassVar[Cap.Count]
    COUNT_UNSPECIFIED: Cap.Count
    COUNT_VIEW: Cap.Count
    COUNT_REDEEM: Cap.Count
    class Scope(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SCOPE_UNSPECIFIED: _ClassVar[Cap.Scope]
        SCOPE_CUSTOMER: _ClassVar[Cap.Scope]
        SCOPE_DEVICE: _ClassVar[Cap.Scope]
    SCOPE_UNSPECIFIED: Cap.Scope
    SCOPE_CUSTOMER: Cap.Scope
    SCOPE_DEVICE: Cap.Scope
    class Over(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OVER_UNSPECIFIED: _ClassVar[Cap.Over]
        OVER_OFFER: _ClassVar[Cap.Over]
        OVER_CAMPAIGN: _ClassVar[Cap.Over]
        OVER_GROUP: _ClassVar[Cap.Over]
    OVER_UNSPECIFIED: Cap.Over
    OVER_OFFER: Cap.Over
    OVER_CAMPAIGN: Cap.Over
    OVER_GROUP: Cap.Over
    class Calendar(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CALENDAR_UNSPECIFIED: _ClassVar[Cap.Calendar]
        CALENDAR_HOUR: _ClassVar[Cap.Calendar]
        CALENDAR_DAY: _ClassVar[Cap.Calendar]
        CALENDAR_WEEK: _ClassVar[Cap.Calendar]
        CALENDAR_MONTH: _ClassVar[Cap.Calendar]
    CALENDAR_UNSPECIFIED: Cap.Calendar
    CALENDAR_HOUR: Cap.Calendar
    CALENDAR_DAY: Cap.Calendar
    CALENDAR_WEEK: Cap.Calendar
    CALENDAR_MONTH: Cap.Calendar
    scope: Cap.Scope
    count: Cap.Count
    limit: int
    window_hours: int
    over: Cap.Over
    calendar: Cap.Calendar
    paced: bool
    def __init__(self, scope: _Optional[_Union[Cap.Scope, str]] = ..., count: _Optional[_Union[Cap.Count, str]] = ..., limit: _Optional[int] = ..., window_hours: _Optional[int] = ..., over: _Optional[_Union[Cap.Over, str]] = ..., calendar: _Optional[_Union[Cap.Calendar, str]] = ..., paced: _Optional[bool] = ...) -> None: ...

class PlacementList(_message.Message):
    __slots__ = ("placements",)
    placements: _containers.RepeatedCompositeFieldContainer[PlacementSpec]
    def __init__(self, placements: _Optional[_Iterable[_Union[PlacementSpec, _Mapping]]] = ...) -> None: ...

class PlacementSpec(_message.Message):
    __slots__ = ("id", "max_slots", "channel", "shown", "house_offer", "explorer", "gamma", "floor", "outcome_window_hours", "holdout_ppm", "holdout_seed", "most_per_category", "least_worth_micros", "sizes", "arms", "experiment_seed")
    class Shown(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SHOWN_UNSPECIFIED: _ClassVar[PlacementSpec.Shown]
        SHOWN_ON_DECIDE: _ClassVar[PlacementSpec.Shown]
        SHOWN_ON_VIEW: _ClassVar[PlacementSpec.Shown]
    SHOWN_UNSPECIFIED: PlacementSpec.Shown
    SHOWN_ON_DECIDE: PlacementSpec.Shown
    SHOWN_ON_VIEW: PlacementSpec.Shown
    id: str
    max_slots: int
    channel: str
    shown: PlacementSpec.Shown
    house_offer: str
    explorer: str
    gamma: float
    floor: float
    outcome_window_hours: int
    holdout_ppm: int
    holdout_seed: str
    most_per_category: int
    least_worth_micros: int
    sizes: _containers.RepeatedScalarFieldContainer[str]
    arms: _containers.RepeatedCompositeFieldContainer[Arm]
    experiment_seed: str
    def __init__(self, id: _Optional[str] = ..., max_slots: _Optional[int] = ..., channel: _Optional[str] = ..., shown: _Optional[_Union[PlacementSpec.Shown, str]] = ..., house_offer: _Optional[str] = ..., explorer: _Optional[str] = ..., gamma: _Optional[float] = ..., floor: _Optional[float] = ..., outcome_window_hours: _Optional[int] = ..., holdout_ppm: _Optional[int] = ..., holdout_seed: _Optional[str] = ..., most_per_category: _Optional[int] = ..., least_worth_micros: _Optional[int] = ..., sizes: _Optional[_Iterable[str]] = ..., arms: _Optional[_Iterable[_Union[Arm, _Mapping]]] = ..., experiment_seed: _Optional[str] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("placement", "share_ppm")
    placement: str
    share_ppm: int
    def __init__(self, placement: _Optional[str] = ..., share_ppm: _Optional[int] = ...) -> None: ...

class ProductTable(_message.Message):
    __slots__ = ("ids", "counts", "indices", "saliences_q8")
    ids: _containers.RepeatedScalarFieldContainer[str]
    counts: _containers.RepeatedScalarFieldContainer[int]
    indices: _containers.RepeatedScalarFieldContainer[int]
    saliences_q8: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[str]] = ..., counts: _Optional[_Iterable[int]] = ..., indices: _Optional[_Iterable[int]] = ..., saliences_q8: _Optional[_Iterable[int]] = ...) -> None: ...

class PlaceTable(_message.Message):
    __slots__ = ("cells", "kinds", "saliences_q8", "markers", "resolutions")
    cells: _containers.RepeatedScalarFieldContainer[int]
    kinds: _containers.RepeatedScalarFieldContainer[int]
    saliences_q8: _containers.RepeatedScalarFieldContainer[int]
    markers: _containers.RepeatedScalarFieldContainer[str]
    resolutions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, cells: _Optional[_Iterable[int]] = ..., kinds: _Optional[_Iterable[int]] = ..., saliences_q8: _Optional[_Iterable[int]] = ..., markers: _Optional[_Iterable[str]] = ..., resolutions: _Optional[_Iterable[int]] = ...) -> None: ...

class GoldenVectors(_message.Message):
    __slots__ = ("vectors",)
    vectors: _containers.RepeatedCompositeFieldContainer[GoldenVector]
    def __init__(self, vectors: _Optional[_Iterable[_Union[GoldenVector, _Mapping]]] = ...) -> None: ...

class GoldenVector(_message.Message):
    __slots__ = ("indices", "weights", "offers", "values")
    indices: _containers.RepeatedScalarFieldContainer[int]
    weights: _containers.RepeatedScalarFieldContainer[float]
    offers: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, indices: _Optional[_Iterable[int]] = ..., weights: _Optional[_Iterable[float]] = ..., offers: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[float]] = ...) -> None: ...
