from genome_edge.v1 import authorisation_pb2 as _authorisation_pb2
from genome_edge.v1 import release_pb2 as _release_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnrolRequest(_message.Message):
    __slots__ = ("code", "public_key", "name", "sdk_version", "proof")
    code: str
    public_key: bytes
    name: str
    sdk_version: str
    proof: bytes
    def __init__(self, code: _Optional[str] = ..., public_key: _Optional[bytes] = ..., name: _Optional[str] = ..., sdk_version: _Optional[str] = ..., proof: _Optional[bytes] = ...) -> None: ...

class EnrolResponse(_message.Message):
    __slots__ = ("device_id", "tenant", "audience", "credential", "root", "server_time_ms")
    device_id: str
    tenant: str
    audience: str
    credential: bytes
    root: _release_pb2.TrustRoot
    server_time_ms: int
    def __init__(self, device_id: _Optional[str] = ..., tenant: _Optional[str] = ..., audience: _Optional[str] = ..., credential: _Optional[bytes] = ..., root: _Optional[_Union[_release_pb2.TrustRoot, _Mapping]] = ..., server_time_ms: _Optional[int] = ...) -> None: ...

class Credential(_message.Message):
    __slots__ = ("tenant", "device_id", "public_key", "issued_ms")
    tenant: str
    device_id: str
    public_key: bytes
    issued_ms: int
    def __init__(self, tenant: _Optional[str] = ..., device_id: _Optional[str] = ..., public_key: _Optional[bytes] = ..., issued_ms: _Optional[int] = ...) -> None: ...

class SignedCredential(_message.Message):
    __slots__ = ("credential", "signature")
    credential: bytes
    signature: bytes
    def __init__(self, credential: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
