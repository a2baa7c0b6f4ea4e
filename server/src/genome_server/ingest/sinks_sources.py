"""Where checked rows of further sources go: loyalty to the store, the others to the log."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.dna_file import add_profile_namespaces, read_schema
from genome_server.errors import Refused
from genome_server.ingest.audiences import refresh
from genome_server.ingest.check import RowError
from genome_server.ingest.dna import namespaces
from genome_server.ingest.interactions import Event, LogSink, link_key
from genome_server.ingest.sinks import (
    InteractionSink,
    Sink,
    Written,
    milliseconds,
    subjects_of,
)
from genome_server.ingest.sources import (
    CRITICISE,
    ENDORSE,
    Holder,
    LinkWord,
    key_hash,
    loyalty_markers,
    page_interaction,
    signal_interaction,
    words_of_key,
)
from genome_server.ingest.visits import PATH, VISIT, visit_interaction
from genome_server.store.rows import CustomerRow, PutCount

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

Row = Mapping[str, Any]
_Id = tuple[str, str]

#: More ids than this have no key in common that tells a person.
MOST_HOLDERS: Final = 8
_SECRET_BYTES: Final = 32


class SignalSink(InteractionSink):
    """Signals go to the log as interactions."""

    def key(self, row: Row) -> str:
        """The signal's id; rows without one are never the same."""
        return str(row.get("signal_id", ""))

    def prepare(self, row: Row) -> Event:
        """The event. Raises RowError."""
        made = signal_interaction(row)
        try:
            return super().prepare(made)
        except RowError as error:
            if error.column == "kind":
                raise RowError(
                    "",
                    f"dna.yaml has no kind {made['kind']!r}; add under `kinds:` such as "
                    f'`{ENDORSE}: 0.5` and `{CRITICISE}: {{weight: 0.5, prefix: "not-"}}`',
                ) from error
            raise RowError({"context.channel": "platform"}.get(error.column, error.column),
                           error.cause) from error  # fmt: skip


class BrowsingSink(InteractionSink):
    """Pages go to the log as interactions."""

    def key(self, row: Row) -> str:
        """Source, visit and step."""
        return f"{row.get('source', 'app')}\0{row['session']}\0{row['step']}"

    def prepare(self, row: Row) -> Event:
        """The event. Raises RowError."""
        try:
            return super().prepare(page_interaction(row))
        except RowError as error:
            column = {"context.channel": "channel", "kind": "action"}.get(error.column)
            raise RowError(column or error.column, error.cause) from error


class VisitSink(InteractionSink):
    """Visits go to the log as interactions."""

    def key(self, row: Row) -> str:
        """Source and visit."""
        return f"{row.get('source', 'app')}\0{row['session']}"

    def prepare(self, row: Row) -> Event:
        """The event. Raises RowError."""
        try:
            return super().prepare(visit_interaction(row))
        except RowError as error:
            if error.column == "kind":
                raise RowError(
                    "",
                    f"dna.yaml has no kind {VISIT!r}; add under `kinds:` such as "
                    f"`{VISIT}: {{weight: 0.125, dwell: 0.0625}}`, and under `namespaces:` such as "
                    f"`{PATH}: {{half_life: 60d, max_markers: 8}}`",
                ) from error
            raise RowError({"context.channel": "channel"}.get(error.column, error.column),
                           error.cause) from error  # fmt: skip


class LoyaltySink:
    """Loyalty goes to the store, beside the customer's profile."""

    def __init__(self, store: Store, dna_path: Path) -> None:
        self._store = store
        schema, _ = read_schema(dna_path)
        self._fading = {rule.name for rule in schema.namespaces if rule.half_life_hours}

    def key(self, row: Row) -> str:
        """Source, customer and time."""
        return f"{row.get('source', 'app')}\0{row['customer']}\0{row['at']}"

    def prepare(self, row: Row) -> tuple[_Id, tuple[tuple[str, int], ...], int]:
        """Source and id, markers, Unix milliseconds. Raises RowError."""
        markers = loyalty_markers(row)
        for field in namespaces(name for name, _ in markers) & self._fading:
            raise RowError(
                field, f"dna.yaml says that {field!r} fades, and what is said here never does"
            )
        at_ms = milliseconds("at", row["at"])
        return (row.get("source", "app"), row["customer"]), tuple(markers), at_ms

    def write(self, prepared: Sequence[Any]) -> Written:
        """Put what is newer than what is known; makes the customers that are not."""
        names = {name for _, markers, _ in prepared for name, _ in markers}
        with self._store.transaction():
            add_profile_namespaces(self._store, namespaces(names))
            self._store.extend_vocabulary(sorted(names))
            subjects = subjects_of(self._store, (who for who, _, _ in prepared), create=True)
            count = self._store.put_loyalty(
                (subjects[who], markers, at_ms) for who, markers, at_ms in prepared
            )
        return Written(count)

    def close(self) -> Sequence[str]:
        """Let audiences follow."""
        refresh(self._store)
        return ()


class _Link(NamedTuple):
    """A row of `links`: of `other` and `key` there is one."""

    who: _Id
    other: _Id | None
    key: bytes
    linked: bool
    at_ms: int


class LinkSink:
    """Links go to the log as events, each once; what ids share stays here as a keyed hash."""

    def __init__(self, tenant: Tenant, store: Store, file: Path) -> None:
        self._tenant = tenant
        self._store = store
        self._secret: bytes | None = None
        self._log = LogSink(store, tenant.log_path, file)

    def key(self, row: Row) -> str:
        """Nothing: the same word said again changes nothing."""
        del row
        return ""

    def prepare(self, row: Row) -> _Link:
        """The link. Raises RowError."""
        who = (row.get("source", "app"), row["customer"])
        linked, at_ms = row.get("linked", True), milliseconds("at", row["at"])
        if ("other" in row) == ("key" in row):
            raise RowError("other", "or key: one of the two says who is the same person")
        if "other" in row:
            other = (row.get("other_source", "app"), row["other"])
            if other == who:
                raise RowError("other", "is the same id")
            return _Link(who, other, b"", linked, at_ms)
        if self._secret is None:
            self._secret = link_secret(self._tenant, self._store)
        key = key_hash(self._secret, row.get("key_kind", ""), row["key"])
        return _Link(who, None, key, linked, at_ms)

    def write(self, prepared: Sequence[_Link]) -> Written:
        """Note the keys, and append what follows; makes the customers that are not known."""
        refused: list[tuple[int, RowError]] = []
        done: list[tuple[PutCount, list[tuple[bytes, Event]]]] = []
        with self._store.transaction():
            ids = {who for row in prepared for who in (row.who, row.other) if who is not None}
            subjects = self._known(ids)
            for at, row in enumerate(prepared):
                try:
                    noted, words = self._said(row, subjects)
                except RowError as error:
                    refused.append((at, error))
                else:
                    done.append((noted, [(word.subject, link_event(word)) for word in words]))
            taken = self._log.seen([event for _, events in done for _, event in events])
            new = changed = 0
            fresh: list[tuple[bytes, Event]] = []
            for noted, events in done:
                before = len(fresh)
                for subject, event in events:
                    if event.key not in taken:
                        taken.add(event.key)
                        fresh.append((subject, event))
                new += noted.inserted or (not noted.changed and len(fresh) > before)
                changed += noted.changed
            self._log.append(fresh)
        return Written(PutCount(new, changed, len(done) - new - changed), refused)

    def _said(self, row: _Link, subjects: Mapping[_Id, bytes]) -> tuple[PutCount, list[LinkWord]]:
        """Note what a row says of keys; what it says of links. Raises RowError."""
        subject = subjects[row.who]
        if row.other is not None:
            word = LinkWord(subject, subjects[row.other], row.linked, row.at_ms)
            return PutCount(0, 0, 1), [word]
        others = [Holder(*one) for one in self._store.key_holders(row.key) if one[0] != subject]
        if row.linked and sum(one.held for one in others) >= MOST_HOLDERS:
            raise RowError("key", f"is shared by more than {MOST_HOLDERS} ids; it tells no person")
        noted = self._store.put_key_holder(row.key, subject, row.at_ms, row.linked)
        own = next(Holder(*one) for one in self._store.key_holders(row.key) if one[0] == subject)
        return noted, words_of_key(own, others)

    def _known(self, ids: Iterable[_Id]) -> dict[_Id, bytes]:
        wanted = sorted(set(ids))
        found = subjects_of(self._store, wanted, create=False)
        missing = [one for one in wanted if one not in found]
        if missing:
            found |= subjects_of(self._store, missing, create=True)
            self._store.put_customers(CustomerRow(found[one]) for one in missing)
        return found

    def close(self) -> Sequence[str]:
        """Close the log, and let audiences follow."""
        self._log.close()
        refresh(self._store)
        return ()


def source_sink(tenant: Tenant, store: Store, kind: str, file: Path, *, create: bool) -> Sink:
    """The sink for a file of one of the kinds of this room. Raises SchemaFileError."""
    match kind:
        case "loyalty":
            return LoyaltySink(store, tenant.dna_path)
        case "links":
            return LinkSink(tenant, store, file)
        case "signals":
            return SignalSink(tenant, store, file, create=create)
        case "visits":
            return VisitSink(tenant, store, file, create=create)
        case _:
            return BrowsingSink(tenant, store, file, create=create)


def link_event(word: LinkWord) -> Event:
    """The event that says a word."""
    said = event_pb2.SubjectLink(other_subject=word.other, linked=word.linked)
    time = event_pb2.EventTime(wall_ms=word.at_ms, offset_known=True)
    body = event_pb2.Event(time=time, link=said).SerializeToString()
    key = link_key(word.subject, word.other, word.linked, word.at_ms)
    return Event(("", ""), key, word.at_ms, body, (), FrameKind.LINK)


def link_secret(tenant: Tenant, store: Store) -> bytes:
    """What keys are hashed with: 32 random bytes in a file of their own, made when first needed.

    Raises Refused where it is gone and keys were hashed with it.
    """
    path = tenant.link_key_path
    with store.transaction():  # one process at a time
        if not path.exists():
            if store.link_key_count():
                raise Refused(
                    f"{path} is missing, and the keys of links are known by it alone; "
                    "restore it from your backup"
                )
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
                file.flush()
                os.fsync(file.fileno())
        found = path.read_bytes()
    if len(found) != _SECRET_BYTES:
        raise Refused(f"{path} is damaged; restore it from your backup")
    return found
