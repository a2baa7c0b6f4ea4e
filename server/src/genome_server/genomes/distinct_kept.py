"""Which markers tell customers apart, as a store keeps it for the epochs to come.

An epoch's own is in its schema (`DnaSchema.distinct`); what is kept is in that of the next.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

_KEY: Final = "distinct"


class Kept(NamedTuple):
    """Of how many interactions the table was made, and the table, as `DnaSchema.distinct` is."""

    interactions: int
    table: bytes


NOTHING: Final = Kept(0, b"")
"""What is kept where nobody counted: the strongest markers stay."""


def kept(store: Store) -> Kept:
    """What was kept last."""
    text = store.meta(_KEY)
    if not text:
        return NOTHING
    data = json.loads(text)
    return Kept(data["interactions"], b64decode(data["table"]))


def keep(store: Store, one: Kept) -> None:
    """Keep it; the schema has it from the next `load_schema` on."""
    data = {"interactions": one.interactions, "table": b64encode(one.table).decode()}
    store.set_meta(_KEY, "" if one == NOTHING else json.dumps(data))
