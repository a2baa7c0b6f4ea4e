from genome_edge.v1 import authorisation_pb2 as _authorisation_pb2
from genome_edge.v1 import dna_pb2 as _dna_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class IdentifyRequest(_message.Message):
    __slots__ = ("presence_token", "lineage")
    presence_token: str
    lineage: _dna_pb2.Lineage
    def __init__(self, presence_token: _Optional[str] = ..., lineage: _Optional[_Union[_dna_pb2.Lineage, _Mapping]] = ...) -> None: ...

class IdentifyResponse(_message.Message):
    __slots__ = ("subject", "genome", "ttl_s")
    subject: bytes
    genome: _dna_pb2.GenomeBlock
    ttl_s: int
    def __init__(self, subject: _Optional[bytes] = ..., genome: _Optional[_Union[_dna_pb2.GenomeBlock, _Mapping]] = ..., ttl_s: _Optional[int] = ...) -> None: ...
