"""Reference data, the vocabulary, and the ids of interactions that were taken."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from genome_server.store.connection import Connections, chunked
from genome_server.store.migrations import LINEAGE_KEY
from genome_server.store.rows import DOCUMENT_KINDS, Document, PutCount

if TYPE_CHECKING:
    from edge_sdk.dna.markers import Vocabulary

# Ids that are added together: the more, the more of them share a page.
_IDS_AT_ONCE = 50_000
# Ids of 16 bytes each, one after the other, in one statement: each step of a statement gives the
# interpreter away, and threads that want it, too, hand it back late. (INSERT comes first: Python
# counts no rows of a statement that begins with WITH.)
_ADD_IDS = (
    "INSERT OR IGNORE INTO interaction_ids (scope, id) "
    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?3 - 1) "
    "SELECT ?1, substr(?2, 16 * i + 1, 16) FROM n"
)
DOCUMENTS = "documents"
"""Counter that moves with every change of a document."""


class Reference(Connections):
    """The rooms of a store that know products, offers, placements, places and markers."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self._vocabulary: Vocabulary | None = None

    def put_documents(self, kind: str, rows: Iterable[tuple[str, Document]]) -> PutCount:
        """Insert or replace documents of a kind by id. The last of equal ids wins."""
        if kind not in DOCUMENT_KINDS:
            raise ValueError(f"{kind!r} is no kind of document: {', '.join(DOCUMENT_KINDS)}")
        inserted = changed = unchanged = 0
        with self.transaction():
            for chunk in chunked(rows):
                query = "SELECT id, document FROM documents WHERE kind = ? AND id IN ({keys})"
                stored: dict[str, str] = dict(self.among(query, [name for name, _ in chunk], kind))
                writes: dict[str, str] = {}
                for name, document in chunk:
                    text = json.dumps(document, ensure_ascii=False, sort_keys=True)
                    old = stored.get(name)
                    if old is None:
                        inserted += 1
                    elif old == text:
                        unchanged += 1
                    else:
                        changed += 1
                    if old != text:
                        stored[name] = writes[name] = text
                self.run_many(
                    "INSERT OR REPLACE INTO documents (kind, id, document) VALUES (?, ?, ?)",
                    ((kind, name, text) for name, text in writes.items()),
                )
            if inserted or changed:
                self.next_counter(DOCUMENTS)
        return PutCount(inserted, changed, unchanged)

    def documents(self, kind: str) -> Iterator[tuple[str, Document]]:
        """(id, document) of a kind, by id."""
        query = "SELECT id, document FROM documents WHERE kind = ? AND id > ? ORDER BY id LIMIT ?"
        for name, text in self.pages(query, "", kind):
            yield str(name), json.loads(text)

    def document(self, kind: str, document_id: str) -> Document | None:
        """One document, or None."""
        query = "SELECT document FROM documents WHERE kind = ? AND id = ?"
        row = self.one(query, [kind, document_id])
        if row is None:
            return None
        document: Document = json.loads(row[0])
        return document

    def documents_version(self) -> int:
        """A number that is another one after any change of documents."""
        return self.number("SELECT value FROM counters WHERE name = ?", [DOCUMENTS])

    def document_count(self, kind: str) -> int:
        """How many documents of a kind there are."""
        return self.number("SELECT count(*) FROM documents WHERE kind = ?", [kind])

    # -- vocabulary

    def vocabulary(self) -> Vocabulary:
        """The markers known so far, in the order of their indices."""
        from edge_sdk.dna.markers import Vocabulary

        size = self.number("SELECT count(*) FROM vocabulary")
        known = self._vocabulary
        # Append-only: of equal length is equal.
        if known is not None and len(known) == size:
            return known
        lineage = bytes.fromhex(self.meta(LINEAGE_KEY) or "")
        rows = self.all("SELECT marker FROM vocabulary ORDER BY idx")
        self._vocabulary = Vocabulary(lineage, [marker for (marker,) in rows])
        return self._vocabulary

    def extend_vocabulary(self, markers: Iterable[str]) -> Vocabulary:
        """Append the markers that are new, in the order given; returns all."""
        wanted = list(dict.fromkeys(markers))
        known = self.vocabulary()
        if all(known.index(marker) is not None for marker in wanted):
            return known
        with self.transaction():
            known = self.vocabulary()  # as it is now that nobody else writes
            new = [marker for marker in wanted if known.index(marker) is None]
            self.run_many(
                "INSERT INTO vocabulary (idx, marker) VALUES (?, ?)",
                ((len(known) + i, marker) for i, marker in enumerate(new)),
            )
        return self.vocabulary()

    # -- interaction ids

    def seen_interactions(self, ids: Sequence[bytes], scope: str = "genomes") -> set[bytes]:
        """Those of the 16-byte ids that were added before in this scope."""
        return self._seen(ids, self._scope(scope))

    def _seen(self, ids: Sequence[bytes], scope: int) -> set[bytes]:
        query = "SELECT id FROM interaction_ids WHERE scope = ? AND id IN ({keys})"
        return {bytes(found) for (found,) in self.among(query, ids, scope)}

    def _scope(self, name: str) -> int:
        """The number of a scope; 0: nothing was added in it."""
        return self.number("SELECT number FROM id_scopes WHERE name = ?", [name])

    def add_interactions(self, ids: Iterable[bytes], scope: str = "genomes") -> set[bytes]:
        """Remember 16-byte ids in this scope; returns the ones that are new."""
        added: set[bytes] = set()
        with self.transaction():
            self.run("INSERT OR IGNORE INTO id_scopes (name) VALUES (?)", [scope])
            number = self._scope(scope)
            for chunk in chunked(ids, _IDS_AT_ONCE):
                # In order, because neighbours share a page.
                new = sorted(set(chunk))
                if not self._add_all_new(new, number):
                    known = self._seen(new, number)
                    new = [one for one in new if one not in known]
                    self._add(new, number)
                added.update(new)
        return added

    def _add_all_new(self, ids: list[bytes], scope: int) -> bool:
        """Add ids that are all new, which is nearly always so; else add none and return False."""
        try:
            with self.transaction():
                if self._add(ids, scope) < len(ids):
                    raise _NotAllNew
        except _NotAllNew:
            return False
        return True

    def _add(self, ids: list[bytes], scope: int) -> int:
        return self.run(_ADD_IDS, [scope, b"".join(ids), len(ids)]) if ids else 0


class _NotAllNew(Exception):
    """Some id was known."""
