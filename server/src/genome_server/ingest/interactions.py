"""Interactions, and words on links, on their way to the log, each once.

The log is the truth: an id counts as taken where the log holds it. Which ids it
holds is kept beside it and caught up from it before anything is appended, also
with what devices reported; so a crash between the log and that list costs
nothing, and neither does a second import, in part or in whole.

The frames of a file stand under the epoch that is its content's hash; sequences
go on where an earlier import of the same file ended.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from edge_sdk.context import Context
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.cells import ancestors, parse_cell
from edge_sdk.errors import UsageError
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.genomes.dna import CONTENT, PLACE, StoreDna
from genome_server.genomes.events import FUTURE_MS, interaction_key
from genome_server.ingest.check import RowError
from genome_server.ingest.dna import check_free, declared_dna
from genome_server.ingest.nearest import KnownIds
from genome_server.ingest.times import local_time
from genome_server.log import Committer, LogReader
from genome_server.log.reader import LoggedFrame

if TYPE_CHECKING:
    from genome_server.store.protocol import Store
    from genome_server.things.dna import Things

#: The device under which imports stand in the log.
DEVICE: Final = "import"
LANE: Final = 0
#: The scope of the ids that the log holds; the log's incarnation follows.
SCOPE: Final = "log"

_BATCH_BYTES: Final = 1 << 20
_BATCH_EVENTS: Final = 2_000
_CATCH_UP_EVENTS: Final = 50_000
_KEYED: Final = frozenset({FrameKind.INTERACTION, FrameKind.LINK})
_FIELDS: Final = ("place", "activity", "channel", "stage")


@dataclass(frozen=True, slots=True)
class Event:
    """An event that is ready but for its customer and its place in the log."""

    customer: tuple[str, str]  # source, id
    key: bytes
    time_ms: int
    body: bytes
    markers: tuple[str, ...]
    kind: FrameKind = FrameKind.INTERACTION


class EventMaker:
    """Turns checked rows into events. Looks up what they name in the store as it was at first."""

    def __init__(self, store: Store, schema: DnaSchema) -> None:
        self._schema = schema
        self._known = {
            what: KnownIds(what, (name for name, _ in store.documents(what)))
            for what in ("product", "offer", "content", "place")
        }
        self._places = _places(store, StoreDna(store, schema).things)
        self._occurrences: Counter[str] = Counter()

    def make(self, row: Mapping[str, Any]) -> Event:
        """The event of a row. Raises RowError."""
        self._check_references(row)
        at = _time(row["time"])
        markers = self._context(row, at)
        dna = declared_dna(row.get("dna"), "dna")
        check_free("dna", (name for name, _ in dna))
        interaction_id = row.get("interaction_id") or self._derived_id(row)
        time_ms = int(at.timestamp() * 1000)
        body = event_pb2.Event(
            time=event_pb2.EventTime(wall_ms=time_ms, offset_known=True),
            interaction=event_pb2.Interaction(
                interaction_id=interaction_id,
                kind=row["kind"],
                product=_thing(row),
                offer=row.get("offer", ""),
                dna=[dna_pb2.WeightedMarker(marker=m, salience_q8=q8) for m, q8 in dna],
                amount_micros=round(row.get("amount", 0) * 1_000_000),
                currency=row.get("currency", ""),
                quantity_milli=round(row.get("quantity", 0) * 1_000),
                tender=row.get("tender", ""),
                dwell_ms=row.get("dwell_ms", 0),
                context_markers=markers,
                region=self._region(row),
            ),
        ).SerializeToString()
        return Event(
            (row.get("source", "app"), row["customer"]),
            interaction_key(interaction_id),
            time_ms,
            body,
            (*markers, *(name for name, _ in dna)),
        )

    def _check_references(self, row: Mapping[str, Any]) -> None:
        try:
            self._schema.kind(row["kind"])
        except UsageError as error:
            raise RowError("kind", str(error)) from error
        given = [field for field in (*self._known, "dna") if row.get(field)]
        if len(given) > 1:
            raise RowError(given[1], f"and {given[0]} exclude each other; give one of them")
        for what, known in self._known.items():
            name = row.get(what)
            if name is not None and name not in known:
                raise RowError(what, known.unknown(name))

    def _context(self, row: Mapping[str, Any], at: datetime) -> tuple[str, ...]:
        said = row.get("context", {})
        try:
            context = Context(
                **{field: said[field] for field in _FIELDS if field in said},
                time=at,
                attributes={k: v for k, v in said.items() if k not in _FIELDS},
            )
        except UsageError as error:
            name, equals, _ = str(error).partition("=")
            field = f"context.{name}" if equals and name in said else "context"
            raise RowError(field, str(error)) from error
        names = dict.fromkeys(name for name, _ in context.markers())
        if context.place is None and "cell" in row:
            names.update(dict.fromkeys(self._places_at(row["cell"])))
        return tuple(names)

    def _places_at(self, text: str) -> list[str]:
        found: list[str] = []
        for cell in ancestors(_cell(text)):
            found += self._places.get(cell, ())
        return found

    def _region(self, row: Mapping[str, Any]) -> str:
        return Context(cell=_cell(row["cell"])).region if "cell" in row else ""

    def _derived_id(self, row: Mapping[str, Any]) -> str:
        text = json.dumps(row, sort_keys=True, ensure_ascii=False)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        self._occurrences[digest] += 1
        return f"row-{digest}-{self._occurrences[digest]}"


class LogSink:
    """Appends events of one file to the log, those that it does not hold yet."""

    def __init__(self, store: Store, log_path: Path, file: Path) -> None:
        self._store = store
        self._committer = Committer(log_path)
        self._reader = LogReader(log_path)
        # Of this log alone: where it was lost or restored, what another one held is not here.
        self._consumer = f"import:{self._reader.incarnation.hex()}"
        self._scope = f"{SCOPE}:{self._reader.incarnation.hex()}"
        self._epoch = _content_hash(file)
        self._sequence = 0
        while self._catch_up():
            pass

    def close(self) -> None:
        """Close the log."""
        self._reader.close()
        self._committer.close()

    def seen(self, events: Sequence[Event]) -> set[bytes]:
        """The keys of those that the log holds."""
        while self._catch_up():
            pass
        return self._store.seen_interactions([event.key for event in events], self._scope)

    def append(self, events: Sequence[tuple[bytes, Event]]) -> int:
        """Append the (subject, event) pairs that are new, durably; returns how many were.

        Holds the store's write lock, so that two imports never append the same.
        """
        with self._store.transaction():
            while self._catch_up():
                pass
            # Another process may import the same file, and be further on.
            self._sequence = self._reader.through(DEVICE, self._epoch, LANE)
            keys = [event.key for _, event in events]
            seen = self._store.seen_interactions(keys, self._scope)
            new = [(subject, event) for subject, event in events if event.key not in seen]
            frames: list[bytes] = []
            size = 0
            for subject, event in new:
                sequence = self._sequence + len(frames) + 1
                frame = Frame(sequence, subject, event.kind, event.time_ms, event.body)
                frames.append(encode_frame(frame))
                size += len(frames[-1])
                if size >= _BATCH_BYTES or len(frames) >= _BATCH_EVENTS:
                    self._commit(frames)
                    frames, size = [], 0
            self._commit(frames)
            while self._catch_up():
                pass
        return len(new)

    def _commit(self, frames: list[bytes]) -> None:
        if not frames:
            return
        batch = b"".join(frames)
        first, last = self._sequence + 1, self._sequence + len(frames)
        digest = hashlib.sha256(batch).digest()
        self._committer.append_batch(DEVICE, self._epoch, LANE, first, last, batch, digest)
        self._sequence = last

    def _catch_up(self) -> bool:
        """Note some of the ids that the log holds; False where that is all of them."""
        offset = self._store.consumer_offset(self._consumer, 0)
        keys: list[bytes] = []
        after = offset
        for batch in self._reader.batches(offset, max_events=_CATCH_UP_EVENTS, kinds=_KEYED):
            for frame in batch.frames(_KEYED):
                key = _logged_key(frame)
                if key is not None:
                    keys.append(key)
            after = batch.next_offset
        if after == offset:
            return False
        with self._store.transaction():
            self._store.add_interactions(keys, self._scope)
            self._store.set_consumer_offset(self._consumer, 0, after)
        return True


def link_key(subject: bytes, other: bytes, linked: bool, at_ms: int) -> bytes:
    """The key of a word on a link: the same word said again, also from the other side, is one."""
    low, high = sorted((subject, other))
    text = b"link\0" + low + high + bytes([linked]) + at_ms.to_bytes(8, "big", signed=True)
    return hashlib.blake2b(text, digest_size=16).digest()


def _logged_key(frame: LoggedFrame) -> bytes | None:
    try:
        event = event_pb2.Event.FromString(frame.body)
    except DecodeError:
        return None
    if frame.kind == FrameKind.LINK:
        said = event.link
        return link_key(frame.subject, said.other_subject, said.linked, event.time.wall_ms)
    name = event.interaction.interaction_id
    return interaction_key(name) if name else None


def _thing(row: Mapping[str, Any]) -> str:
    """What stands for the product, the content or the place of a row."""
    for before, field in ((CONTENT, "content"), (PLACE, "place")):
        if row.get(field):
            return before + str(row[field])
    return str(row.get("product", ""))


def _time(text: str) -> datetime:
    at = local_time("time", text)
    if at.timestamp() * 1000 > time.time() * 1000 + FUTURE_MS:
        raise RowError("time", f"{text!r} lies in the future")
    if at.timestamp() < 0:
        raise RowError("time", f"{text!r} lies before 1970")
    return at


def _cell(text: str) -> int:
    try:
        return parse_cell(text)
    except UsageError as error:
        raise RowError("cell", str(error)) from error


def _places(store: Store, things: Things) -> dict[int, list[str]]:
    """Place markers by cell."""
    places: dict[int, list[str]] = {}
    for _, document in store.documents("place"):
        kinds = [name for name, _ in things.place_kinds(document)]
        for cell in document["cells"]:
            markers = places.setdefault(parse_cell(cell), [])
            markers.extend(kind for kind in kinds if kind not in markers)
    return places


def _content_hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()[:16]
