from genome_edge.v1 import release_pb2 as _release_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignedStopList(_message.Message):
    __slots__ = ("stop_list", "signatures")
    stop_list: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[_release_pb2.ManifestSignature]
    def __init__(self, stop_list: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[_release_pb2.ManifestSignature, _Mapping]]] = ...) -> None: ...

class StopList(_message.Message):
    __slots__ = ("tenant", "version", "offers", "created_ms")
    tenant: str
    version: int
    offers: _containers.RepeatedScalarFieldContainer[str]
    created_ms: int
    def __init__(self, tenant: _Optional[str] = ..., version: _Optional[int] = ..., offers: _Optional[_Iterable[str]] = ..., created_ms: _Optional[int] = ...) -> None: ...
