"""Which markers tell customers apart, as a store keeps it: the newest table, and of how much.

An epoch's own is in its schema (`DnaSchema.distinct`); the newest becomes that of the next.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

_KEY: Final = "distinct"


class Kept(NamedTuple):
    """How many interactions had been gathered when the table was made, and `DnaSchema.distinct`."""

    imprints: int
    table: bytes


def kept(store: Store) -> Kept:
    """What was kept last; of nothing where nothing was."""
    text = store.meta(_KEY)
    if not text:
        return Kept(0, b"")
    data = json.loads(text)
    return Kept(data["imprints"], b64decode(data["table"]))


def keep(store: Store, one: Kept) -> None:
    """Keep it; the schema has it from the next `load_schema` on."""
    data = {"imprints": one.imprints, "table": b64encode(one.table).decode()}
    store.set_meta(_KEY, json.dumps(data))
