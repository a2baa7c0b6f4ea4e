"""What the server needs to keep for one tenant, as a typed protocol.

The embedded default is `genome_server.store.sqlite.SqliteStore`; another
implementation is plugged in by the same protocol. All methods are synchronous
and thread-safe; each is atomic on its own, several are together inside
`transaction()`.

Theory of operation
-------------------
*Subjects.* Outside ingest a customer is a random 16-byte subject. One table
maps (source, external id) to it and can be erased.

*Genome stamps.* Every change that a device may have to hear of takes the next
value of one counter, inside the transaction that makes the change; so stamps
become visible in ascending order, and "everything after stamp n" never misses
one. A member of an audience carries the stamp of whatever happened last to it:
a new row, joining, leaving, a consent given or withdrawn, erasure.

*Consent.* The customer's row is the truth; genome rows follow it, at once and
in the same transaction. What an import states about consent counts when it is
stated anew: importing the same file again does not undo a withdrawal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from genome_server.store.counted_protocol import CountedStore
from genome_server.store.fleet_protocol import FleetStore
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
    DEFAULT_CHANNEL,
    DOCUMENT_KINDS,
    AudienceRow,
    CustomerRow,
    DeleteReason,
    DeviceRow,
    Document,
    GenomeChange,
    GenomeRecord,
    Grant,
    Mark,
    PutCount,
    ReleaseRow,
    Tally,
    ThinRow,
)
from genome_server.store.sources_protocol import SourcesStore
from genome_server.store.words import Word

if TYPE_CHECKING:
    from edge_sdk.dna.markers import Vocabulary

__all__ = [
    "CONSENT_LEARNING",
    "CONSENT_LOCATION",
    "CONSENT_PERSONALISATION",
    "DEFAULT_CHANNEL",
    "DOCUMENT_KINDS",
    "AudienceRow",
    "CustomerRow",
    "DeleteReason",
    "DeviceRow",
    "Document",
    "GenomeChange",
    "GenomeRecord",
    "Grant",
    "Mark",
    "PutCount",
    "ReleaseRow",
    "Store",
    "Tally",
    "ThinRow",
]


class Store(CountedStore, FleetStore, SourcesStore, Protocol):
    """Everything of one tenant except the log."""

    def transaction(self) -> AbstractContextManager[None]:
        """Make what is done inside one atomic change; may be nested."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all reads inside see one state, without holding up who writes."""
        ...

    def close(self) -> None:
        """Release the connections of all threads."""
        ...

    # -- meta
    def meta(self, key: str) -> str | None:
        """A small setting, or None."""
        ...

    def set_meta(self, key: str, value: str) -> None:
        """Keep a small setting."""
        ...

    def next_counter(self, name: str) -> int:
        """1, 2, 3 …: the next value of a counter, never given twice."""
        ...

    def skip_counter(self, name: str, by: int) -> None:
        """Let a counter go on above its value by more than `by`, also where it has none yet."""
        ...

    # -- subjects
    def subject_of(self, source: str, external_id: str, create: bool = False) -> bytes | None:
        """The subject of a customer id of a source, or None (never None with `create`)."""
        ...

    def subjects_of(
        self, source: str, ids: Sequence[str], create: bool = False
    ) -> dict[str, bytes]:
        """The subjects of many ids; unknown ids are missing unless `create`."""
        ...

    def external_ids(
        self, subjects: Sequence[bytes] | None = None
    ) -> Iterator[tuple[bytes, str, str]]:
        """(subject, source, external id) of all customers, or of these subjects."""
        ...

    def erase_subject(self, subject: bytes) -> bool:
        """Forget a customer: ids, profile, genome, what counts for caps, memberships; False where
        nothing was known.

        Audiences keep the random subject alone, to tell devices to forget it.
        """
        ...

    # -- reference data
    def put_documents(self, kind: str, rows: Iterable[tuple[str, Document]]) -> PutCount:
        """Insert or replace documents of a kind by id. The last of equal ids wins."""
        ...

    def documents(self, kind: str) -> Iterator[tuple[str, Document]]:
        """(id, document) of a kind, by id."""
        ...

    def document(self, kind: str, document_id: str) -> Document | None:
        """One document, or None."""
        ...

    def documents_version(self) -> int:
        """A number that is another one after any change of documents."""
        ...

    def document_count(self, kind: str) -> int:
        """How many documents of a kind there are."""
        ...

    # -- customers
    def put_customers(self, rows: Iterable[CustomerRow]) -> PutCount:
        """Insert or replace customers; genome rows follow a changed consent."""
        ...

    def customers(self, subjects: Iterable[bytes] | None = None) -> Iterator[CustomerRow]:
        """All customers by subject, or those of these subjects; `consents` is always a number."""
        ...

    def customer(self, subject: bytes) -> CustomerRow | None:
        """One customer, or None."""
        ...

    def customer_count(self) -> int:
        """How many customers there are."""
        ...

    def set_consents(self, subject: bytes, consents: int, at_ms: int = 0) -> None:
        """Hear what a customer agreed to, all purposes, said at `at_ms` (Unix; 0: now, and so after
        all that was heard)."""
        ...

    def hear_consents(self, subject: bytes, said: Mapping[int, Word]) -> None:
        """Hear (Unix ms, granted) on some purposes; makes the customer if new.

        Of two words on a purpose the later counts, the more careful one at a tie.
        """
        ...

    # -- vocabulary
    def vocabulary(self) -> Vocabulary:
        """The markers known so far, in the order of their indices."""
        ...

    def extend_vocabulary(self, markers: Iterable[str]) -> Vocabulary:
        """Append the markers that are new, in the order given; returns all."""
        ...

    # -- interaction ids
    def seen_interactions(self, ids: Sequence[bytes], scope: str = "genomes") -> set[bytes]:
        """Those of the 16-byte ids that were added before in this scope."""
        ...

    def add_interactions(self, ids: Iterable[bytes], scope: str = "genomes") -> set[bytes]:
        """Remember ids in this scope; returns the ones that are new.

        Each reader of interactions that must take each once has a scope of its
        own: the genomes' and, for what the log holds, the importer's.
        """
        ...

    # -- genomes
    def genome(self, subject: bytes) -> GenomeRecord | None:
        """One genome, or None."""
        ...

    def genomes(self, subjects: Iterable[bytes] | None = None) -> Iterator[GenomeRecord]:
        """All genomes by subject, or those of these subjects."""
        ...

    def genome_states(self, subjects: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """(subject, state) of those of these subjects that have a genome."""
        ...

    def genome_count(self) -> int:
        """How many genomes there are."""
        ...

    def put_genomes(self, rows: Iterable[GenomeRecord], epoch: int) -> int:
        """Insert or replace genomes under `epoch`; returns the newest stamp given to any row.

        Only rows whose row bytes or consents differ from what is stored get a
        new stamp. Consents are those of the customer where there is one.
        """
        ...

    def genome_changes(self, audience: str, after: int, limit: int) -> list[GenomeChange]:
        """What happened to the audience's genomes after a stamp, in order of stamp.

        At most `limit` changes; ask again after the last one's stamp. Puts are
        for members who agreed to PERSONALISATION and have a genome; deletions
        for those who left, were erased or withdrew.
        """
        ...

    def genome_change_count(self, audience: str, after: int) -> int:
        """At least as many as the changes after a stamp; cheap."""
        ...

    def anyone_gone(self, audience: str, after: int) -> bool:
        """Whether devices had to forget anybody of the audience after a stamp."""
        ...

    def departures(self, audience: str, after: int) -> list[tuple[bytes, DeleteReason]]:
        """Whom a device must let go after a stamp that gets no rows meanwhile, and why.

        Those who left, were erased or withdrew; and who came back since or agrees to less, whose
        row is not the one that the device holds: as withdrawn.
        """
        ...

    def stayed(self, audience: str, stamp: int) -> int | None:
        """How many of the rows that a device had at a stamp are there to this day without a break.

        None where it is not known: the stamp is older than what was noted down. Reads every member.
        """
        ...

    def erased(self, audience: str) -> list[bytes]:
        """Who was erased while devices with this audience may have held a genome."""
        ...

    def genome_rows(self, audience: str) -> Iterator[bytes]:
        """The rows that a device with this audience holds once it has everything, by subject.

        Serialised GenomeBlocks of one row each.
        """
        ...

    def crowded(self, audience: str, subjects: Iterable[bytes]) -> set[bytes]:
        """Those of these members whose first 8 bytes another row of the audience shares."""
        ...

    def joined_members(self, audience: str, after: int, limit: int) -> list[tuple[bytes, int]]:
        """(subject, stamp) of members who joined after a stamp, whatever their consent.

        In order of stamp, at most `limit`: whose lookups a device does not have yet.
        """
        ...

    def audience_rows(self, audience: str) -> int:
        """How many genomes a device with this audience holds once it has everything."""
        ...

    def tally(self, audience: str) -> Tally:
        """How many genomes the audience has, and what their row sums come to modulo 2^64.

        Kept with every change, so that asking costs nothing.
        """
        ...

    def audience_stamps(self) -> dict[str, int]:
        """The stamp of what happened last in each audience, by name."""
        ...

    def newest_stamp(self) -> int:
        """The newest genome stamp given so far; 0: none."""
        ...

    def consumer_offset(self, consumer: str, epoch: int) -> int:
        """How far a consumer of the log has got under a schema epoch; 0: nothing yet."""
        ...

    def set_consumer_offset(self, consumer: str, epoch: int, offset: int) -> None:
        """Remember how far a consumer of the log has got."""
        ...

    def applied_marks(self, device: str) -> list[Mark]:
        """(epoch, lane, sequence) up to which a device's own events are in the genomes."""
        ...

    def marks_of(self, devices: Iterable[str] | None = None) -> dict[str, list[Mark]]:
        """The applied marks of these devices, or of all; those without any are missing."""
        ...

    def set_applied_marks(self, marks: Iterable[tuple[str, bytes, int, int]]) -> None:
        """Remember (device, epoch, lane, sequence); a mark never falls."""
        ...

    # -- audiences
    def put_audience(self, audience: AudienceRow) -> None:
        """Insert or replace an audience's rule; its members stay as they are."""
        ...

    def audiences(self) -> list[AudienceRow]:
        """All audiences, by name."""
        ...

    def audience(self, name: str) -> AudienceRow | None:
        """One audience, or None."""
        ...

    def set_members(self, audience: str, subjects: Iterable[bytes]) -> tuple[int, int]:
        """Make exactly these the members; returns how many were (added, removed)."""
        ...

    def is_member(self, audience: str, subject: bytes) -> bool:
        """Whether a subject is a member, whatever the consent."""
        ...

    def audience_size(self, audience: str) -> int:
        """How many members there are."""
        ...

    def members(self, audience: str) -> Iterator[bytes]:
        """The members, by subject."""
        ...
