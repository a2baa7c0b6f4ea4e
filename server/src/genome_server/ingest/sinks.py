"""Where checked rows go: one sink per kind, which prepares rows one by one and writes many."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from genome_server.derived import NAMESPACE
from genome_server.dna_file import add_profile_namespaces, load_schema, read_schema
from genome_server.documents import PRODUCTS
from genome_server.genomes.dna import known_thing
from genome_server.genomes.events import FUTURE_MS
from genome_server.ingest import reference_rows
from genome_server.ingest.arms import impossible
from genome_server.ingest.audiences import refresh
from genome_server.ingest.check import RowError
from genome_server.ingest.dna import check_names, namespaces, profile_dna
from genome_server.ingest.interactions import Event, EventMaker, LogSink
from genome_server.ingest.nearest import KnownIds
from genome_server.ingest.times import local_time
from genome_server.store.rows import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
    CustomerRow,
    PutCount,
)

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

Row = Mapping[str, Any]

#: Kinds whose sinks lie in `sinks_sources`.
SOURCE_KINDS = ("loyalty", "links", "signals", "browsing", "visits")

_CONSENTS = {
    "none": 0,
    "personalisation": CONSENT_PERSONALISATION,
    "learning": CONSENT_LEARNING,
    "location": CONSENT_LOCATION,
}


class Written(NamedTuple):
    """What came of writing: counts, and what had to be refused, by position."""

    put: PutCount
    refused: Sequence[tuple[int, RowError]] = ()


class Sink(Protocol):
    """Takes the rows of one file."""

    def key(self, row: Row) -> str:
        """What makes a row another one than the others of its file."""
        ...

    def prepare(self, row: Row) -> Any:
        """Check everything that one row can tell. Raises RowError."""
        ...

    def write(self, prepared: Sequence[Any]) -> Written:
        """Write rows durably; what was written already is counted as unchanged."""
        ...

    def close(self) -> Sequence[str]:
        """Do what is due when all rows are written; returns what there is to say about them."""
        ...


class DocumentSink:
    """Products, offers, placements and places go to the store as documents."""

    def __init__(
        self,
        store: Store,
        kind: str,
        convert: Callable[[Row], tuple[dict[str, Any], list[str]]],
    ) -> None:
        self._store = store
        self._kind = kind
        self._convert = convert

    def key(self, row: Row) -> str:
        """The id."""
        return str(row["id"])

    def prepare(self, row: Row) -> tuple[dict[str, Any], list[str]]:
        """The document, and the markers that it needs."""
        document, names = self._convert(row)
        check_names(document)
        return document, names

    def write(self, prepared: Sequence[tuple[dict[str, Any], list[str]]]) -> Written:
        """Put the documents and the new markers."""
        with self._store.transaction():
            self._store.extend_vocabulary(name for _, names in prepared for name in names)
            count = self._store.put_documents(
                self._kind, ((document["id"], document) for document, _ in prepared)
            )
        return Written(count)

    def close(self) -> Sequence[str]:
        """Nothing is due."""
        return ()


class PlacementSink(DocumentSink):
    """Placements; arms must be there, or be written with them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "placement", reference_rows.placement)

    def write(self, prepared: Sequence[tuple[dict[str, Any], list[str]]]) -> Written:
        """Put the documents but those with arms that cannot be."""
        refused = impossible(self._store, [document for document, _ in prepared])
        good = [one for at, one in enumerate(prepared) if at not in refused]
        return Written(super().write(good).put, sorted(refused.items(), key=lambda one: one[0]))


class OfferSink(DocumentSink):
    """Offers; says what became of their areas."""

    def __init__(self, store: Store, folder: Path, parts: Path) -> None:
        convert = functools.partial(reference_rows.offer, folder=folder, parts=parts)
        super().__init__(store, "offer", convert)
        self._cells = [0, 0]
        self._products: KnownIds | None = None

    def prepare(self, row: Row) -> tuple[dict[str, Any], list[str]]:
        """The document, and the markers that it needs."""
        document, names = super().prepare(row)
        for at, product in enumerate(document.get(PRODUCTS, ())):
            if not known_thing(self._store, product):
                raise RowError(f"{PRODUCTS}[{at}]", self._unknown(product))
        for at, one in enumerate((row, document)):
            self._cells[at] += reference_rows.count_cells(one)
        return document, names

    def _unknown(self, product: str) -> str:
        if self._products is None:
            known = (name for name, _ in self._store.documents("product"))
            self._products = KnownIds("product", known)
        return self._products.unknown(product)

    def close(self) -> Sequence[str]:
        """Say how many cells became how many."""
        before, after = self._cells
        return [f"{before:,} cells of areas became {after:,}"] if after < before else ()


class CustomerSink:
    """Customers go to the store; audiences follow."""

    def __init__(self, store: Store, dna_path: Path) -> None:
        self._store = store
        schema, _ = read_schema(dna_path)
        self._fading = {rule.name for rule in schema.namespaces if rule.half_life_hours}

    def key(self, row: Row) -> str:
        """Source and id."""
        return f"{row.get('source', 'app')}\0{row['id']}"

    def prepare(self, row: Row) -> tuple[str, str, CustomerRow]:
        """Source, id and the row, which has no subject yet."""
        markers = tuple(profile_dna(row))
        check_names(row)
        if NAMESPACE in namespaces(name for name, _ in markers):
            raise RowError(
                f"attributes.{NAMESPACE}" if NAMESPACE in row.get("attributes", {}) else "markers",
                f"{NAMESPACE!r} is for what builds derive; call it otherwise",
            )
        fading = sorted(namespaces(name for name, _ in markers) & self._fading)
        if fading:
            field = "attributes" if fading[0] in row.get("attributes", {}) else "markers"
            raise RowError(
                f"{field}.{fading[0]}" if field == "attributes" else field,
                f"dna.yaml says that {fading[0]!r} fades, and facts of a profile never do; "
                f"call it otherwise, such as 'favourite-{fading[0]}'",
            )
        consents = None
        if "consent" in row:
            consents = 0
            for name in row["consent"]:
                consents |= _CONSENTS[name]
            if consents and "none" in row["consent"]:
                raise RowError("consent", "'none' and something else exclude each other")
        updated_ms = milliseconds("updated", row["updated"]) if "updated" in row else 0
        return (
            row.get("source", "app"),
            row["id"],
            CustomerRow(b"", markers, consents, updated_ms),
        )

    def write(self, prepared: Sequence[tuple[str, str, CustomerRow]]) -> Written:
        """Put the customers, their subjects and the new markers."""
        from genome_server.genomes.live import follow_consents  # brings what genomes are made with

        names = {name for _, _, row in prepared for name, _ in row.markers}
        with self._store.transaction():
            add_profile_namespaces(self._store, namespaces(names))
            self._store.extend_vocabulary(sorted(names))
            subjects = subjects_of(self._store, ((s, i) for s, i, _ in prepared), create=True)
            rows = [
                CustomerRow(subjects[source, name], row.markers, row.consents, row.updated_ms)
                for source, name, row in prepared
            ]
            said = {row.subject: row.consents for row in rows if row.consents is not None}
            before = {old.subject: old for old in self._store.customers(said)}
            count = self._store.put_customers(rows)
            # What one id agrees to decides what those that it is linked to have of it.
            follow_consents(
                self._store,
                (
                    one
                    for one, consents in said.items()
                    # Who had said nothing went by the others: a first word changes that, too.
                    if (old := before.get(one)) is None or old.silent or old.consents != consents
                ),
            )
        return Written(count)

    def close(self) -> Sequence[str]:
        """Let audiences follow."""
        refresh(self._store)
        return ()


class InteractionSink:
    """Interactions go to the log."""

    def __init__(self, tenant: Tenant, store: Store, file: Path, *, create: bool) -> None:
        self._store = store
        self._create = create
        self._created = False
        self._customers: KnownIds | None = None
        self._maker = EventMaker(store, load_schema(tenant.dna_path, store))
        self._log = LogSink(store, tenant.log_path, file)

    def key(self, row: Row) -> str:
        """The interaction id; rows without one are never the same."""
        return str(row.get("interaction_id", ""))

    def prepare(self, row: Row) -> Event:
        """The event."""
        return self._maker.make(row)

    def write(self, prepared: Sequence[Event]) -> Written:
        """Append the events of known customers that the log does not hold yet."""
        wanted = [event.customer for event in prepared]
        subjects = subjects_of(self._store, wanted, create=False)
        missing = sorted(set(wanted) - subjects.keys())
        if missing and self._create:
            # Before the events, and whatever becomes of them: an event whose
            # subject nobody knows would be lost for good.
            with self._store.transaction():
                subjects |= subjects_of(self._store, missing, create=True)
                self._store.put_customers(CustomerRow(subjects[one]) for one in missing)
            self._created = True
        refused = [
            (at, RowError("customer", self._unknown(event.customer)))
            for at, event in enumerate(prepared)
            if event.customer not in subjects
        ]
        taken = [event for event in prepared if event.customer in subjects]
        self._store.extend_vocabulary(name for event in taken for name in event.markers)
        new = self._log.append([(subjects[event.customer], event) for event in taken])
        return Written(PutCount(new, 0, len(taken) - new), refused)

    def _unknown(self, customer: tuple[str, str]) -> str:
        source, name = customer
        if self._customers is None:
            known = (n for _, s, n in self._store.external_ids() if s == source)
            self._customers = KnownIds("customer", known)
        return f"{self._customers.unknown(name)} (--create-customers makes those that are missing)"

    def close(self) -> Sequence[str]:
        """Close the log, and let audiences follow where customers were made."""
        self._log.close()
        if self._created:
            refresh(self._store)
        return ()


def open_sink(tenant: Tenant, store: Store, kind: str, file: Path, *, create: bool) -> Sink:
    """The sink for a file of a kind. Raises SchemaFileError."""
    if kind in SOURCE_KINDS:
        from genome_server.ingest.sinks_sources import source_sink  # builds on this file

        return source_sink(tenant, store, kind, file, create=create)
    match kind:
        case "customers":
            return CustomerSink(store, tenant.dna_path)
        case "interactions":
            return InteractionSink(tenant, store, file, create=create)
        case "products":
            return DocumentSink(store, "product", reference_rows.product_row(tenant, store))
        case "contents":
            return DocumentSink(store, "content", reference_rows.content_row(store))
        case "offers":
            return OfferSink(store, file.parent, tenant.parts_dir)
        case "placements":
            return PlacementSink(store)
        case _:
            return DocumentSink(store, "place", reference_rows.place)


def subjects_of(
    store: Store, customers: Iterable[tuple[str, str]], *, create: bool
) -> dict[tuple[str, str], bytes]:
    """The subjects of (source, id); those that are not known are missing unless `create`."""
    by_source: dict[str, list[str]] = {}
    for source, name in customers:
        by_source.setdefault(source, []).append(name)
    return {
        (source, name): subject
        for source, names in by_source.items()
        for name, subject in store.subjects_of(source, names, create).items()
    }


def milliseconds(column: str, text: str) -> int:
    """A time in a column in Unix milliseconds. Raises RowError, also for what is yet to come."""
    at = local_time(column, text)
    if at.timestamp() * 1000 > time.time() * 1000 + FUTURE_MS:
        # Nothing would be newer: the customer could not take a consent back any more.
        raise RowError(column, f"{text!r} lies in the future")
    return int(at.timestamp() * 1000)
