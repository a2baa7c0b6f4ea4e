from genome_edge.v1 import authorisation_pb2 as _authorisation_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ReportRequest(_message.Message):
    __slots__ = ("epoch", "lane", "first_sequence", "last_sequence", "frames", "digest", "incarnation")
    epoch: bytes
    lane: int
    first_sequence: int
    last_sequence: int
    frames: bytes
    digest: bytes
    incarnation: bytes
    def __init__(self, epoch: _Optional[bytes] = ..., lane: _Optional[int] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., frames: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., incarnation: _Optional[bytes] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("incarnation", "received_through", "safe_through", "server_time_ms")
    incarnation: bytes
    received_through: int
    safe_through: int
    server_time_ms: int
    def __init__(self, incarnation: _Optional[bytes] = ..., received_through: _Optional[int] = ..., safe_through: _Optional[int] = ..., server_time_ms: _Optional[int] = ...) -> None: ...
