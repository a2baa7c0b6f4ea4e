"""Messages to devices as bytes: what all are sent is written once.

Within a stream every message names its transaction by the stream's own nonce. A
message without it is written once for all devices; for each one the nonce is put
in front, which the encoding of the contract allows: fields have no order.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.message import Message

from genome_edge.v1 import sync_pb2

_FIELDS: Final = {
    name: field.number for name, field in sync_pb2.SyncResponse.DESCRIPTOR.fields_by_name.items()
}
_BYTES: Final = 2
_NONCE: Final = b"\x08"  # field 1, a number: of every message that names a transaction

Piece = tuple[str, bytes]
"""A field of SyncResponse, and its message without the nonce."""


def framed(piece: Piece, nonce: int) -> bytes:
    """A serialised SyncResponse that carries the message with this nonce."""
    name, body = piece
    head = _NONCE + varint(nonce)
    size = varint(len(head) + len(body))
    return b"".join((varint(_FIELDS[name] << 3 | _BYTES), size, head, body))


def piece(name: str, message: Message) -> Piece:
    """A message for many devices; its nonce is not set."""
    return name, message.SerializeToString()


def varint(value: int) -> bytes:
    """A number as the wire has it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode(message: bytes | Message) -> bytes:
    """What gRPC is given to send: bytes as they are."""
    return message if isinstance(message, bytes) else message.SerializeToString()
