"""Transactions that bring genome rows: all of them, or what has changed.

Rules
-----
1. Rows can be read only with the release of their lineage, so rows of another one are refused.
   What has changed needs rows of the same lineage under it.
2. All rows come as one content, in chunks that go on where a line broke, or as blocks in Puts;
   changes as blocks and patches of single markers. Deletes come with either: whoever was erased is
   forgotten beyond the rows. Columns that do not fit together are refused before anything reads
   them. What customers did elsewhere that counts for caps comes with changes only.
3. Nothing counts before Commit. After it the device must hold as many rows as the server says, and
   their sum must be the server's; `store` looks at both before it lets anybody see them.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.arguments import MAX_NAME
from edge_sdk.engine.cap_rules import COUNTED, CapRow
from edge_sdk.sync import trust
from edge_sdk.sync.actions import Action, ApplyGenomes
from edge_sdk.sync.parts_transaction import Here
from edge_sdk.sync.trust import Limits, Refusal, refuse
from genome_edge.v1 import dna_pb2, sync_pb2

SUBJECT_BYTES = 16
LOOKUP_KEY_BYTES = 32
PREFIX_BYTES = 8
CLAIM_BYTES = 64


class GenomesTransaction:
    """One of KIND_GENOMES."""

    name = "genomes"

    def __init__(
        self,
        begin: sync_pb2.Begin,
        here: Here,
        release_lineage: dna_pb2.Lineage | None,
        rows_lineage: dna_pb2.Lineage | None,
    ) -> None:
        """Raises TrustError LINEAGE, TOO_LARGE, ROWS, PROTOCOL."""
        self.nonce: int = begin.nonce
        self.begun = begin
        self.committed = False
        self._here = here
        self._limits: Limits = here.limits
        self._whole = False
        self._blocks: list[dna_pb2.GenomeBlock] = []
        self._patches: list[sync_pb2.GenomePatch] = []
        self._deletes: list[tuple[bytes, int]] = []
        self._lookups: list[tuple[bytes, bytes]] = []
        self._counted: list[CapRow] = []
        self._rows = self._size = 0
        if not trust.same_lineage(begin.lineage, release_lineage):
            raise refuse(Refusal.LINEAGE, "the rows are of another lineage than the release")
        if not begin.full and not trust.same_lineage(begin.lineage, rows_lineage):
            raise refuse(Refusal.LINEAGE, "a patch without rows of its lineage under it")
        if begin.rows > self._limits.genome_rows:
            raise refuse(
                Refusal.TOO_LARGE, f"{begin.rows} rows; at most {self._limits.genome_rows}"
            )
        if len(begin.lookup_key) not in (0, LOOKUP_KEY_BYTES):
            raise refuse(Refusal.ROWS, f"a lookup key of {len(begin.lookup_key)} bytes")
        if begin.HasField("content"):
            self._check_content()

    def _check_content(self) -> None:
        content = self.begun.content
        if not self.begun.full or len(content.sha256) != 32 or not content.size:
            raise refuse(Refusal.PROTOCOL, "a content that is not one of all rows")
        self._check_size(content.size)

    def _check_size(self, size: int) -> None:
        if size > self._limits.genome_bytes:
            raise refuse(Refusal.TOO_LARGE, f"more than {self._limits.genome_bytes} bytes of rows")

    def begin(self) -> list[Action]:
        """Ask for room for a content, of which all may be here already."""
        if not self.begun.HasField("content"):
            return []
        content = self.begun.content
        self._whole = self._here.partials.get(content.sha256) == content.size
        return [self._here.room(self.nonce, [content])]

    def take(self, kind: str, message: sync_pb2.SyncResponse) -> list[Action]:
        """What to do about a message of the transaction. Raises TrustError."""
        if kind == "commit":
            return self._commit(message.commit)
        in_chunks = self.begun.HasField("content")
        if kind == "chunk" and in_chunks:
            return self._chunk(message.chunk)
        if kind == "put" and not in_chunks:
            self._put(message.put)
        elif kind == "delete":  # also beside a content: who was erased is more than a row
            self._delete(message.delete)
        else:
            raise refuse(Refusal.PROTOCOL, f"a {kind} in a transaction of the other kind")
        return []

    def _chunk(self, chunk: sync_pb2.Chunk) -> list[Action]:
        content = self.begun.content
        if chunk.sha256 != content.sha256:
            raise refuse(Refusal.PROTOCOL, "a chunk of another content than was announced")
        actions, self._whole = self._here.append(content, chunk)
        return actions

    def _put(self, put: sync_pb2.Put) -> None:
        if put.block.counts:
            _check_block(put.block, self.begun.lineage)
            self._blocks.append(put.block)
            self._rows += len(put.block.counts)
        if put.patch.counts:
            self._check_patch(put.patch)
            self._patches.append(put.patch)
            self._rows += len(put.patch.counts)
        hashes, subjects = put.lookup_hashes, put.lookup_subjects
        if len(hashes) != len(subjects) or len(hashes) % SUBJECT_BYTES:
            raise refuse(Refusal.ROWS, "lookup hashes and subjects that do not fit together")
        if hashes:
            if not self.begun.lookup_key:
                raise refuse(Refusal.ROWS, "lookup hashes without a lookup key")
            self._lookups.append((hashes, subjects))
        self._count(put.cap_events)
        self._size += put.ByteSize()
        if self._rows > self.begun.rows:
            raise refuse(Refusal.ROWS, f"more than the {self.begun.rows} rows announced")
        self._check_size(self._size)

    def _count(self, events: Sequence[sync_pb2.CapEvent]) -> None:
        if events and self.begun.full:
            raise refuse(Refusal.ROWS, "cap events where all rows are to come")
        most = self._limits.cap_events
        if len(self._counted) + len(events) > most:
            raise refuse(Refusal.TOO_LARGE, f"more than {most} cap events")
        for one in events:
            names = (one.offer, one.campaign, one.group)
            if (
                len(one.subject) != SUBJECT_BYTES
                or not 0 < len(one.claim) <= CLAIM_BYTES
                or not 0 < one.kind <= len(COUNTED)
                or not one.offer
                or max(map(len, names)) > MAX_NAME
                or one.at_ms < 0
            ):
                raise refuse(Refusal.ROWS, "a cap event that is none")
            kind = COUNTED[one.kind - 1]
            of = (one.claim, one.campaign, one.group)
            self._counted.append(CapRow(one.subject, one.offer, kind, one.at_ms, *of, True))

    def _check_patch(self, patch: sync_pb2.GenomePatch) -> None:
        if self.begun.full:
            raise refuse(Refusal.ROWS, "changed markers where all rows are to come")
        rows, markers = len(patch.counts), sum(patch.counts)
        if len(patch.subject_prefixes) != rows * PREFIX_BYTES or len(patch.consents) != rows:
            raise refuse(Refusal.ROWS, "a patch whose columns do not fit its rows")
        if not len(patch.index_deltas) == len(patch.strengths) == markers:
            raise refuse(Refusal.ROWS, "a patch whose columns do not fit its markers")

    def _delete(self, delete: sync_pb2.Delete) -> None:
        if len(delete.subject) != SUBJECT_BYTES:
            raise refuse(Refusal.ROWS, f"a subject of {len(delete.subject)} bytes")
        if len(self._deletes) >= self._limits.genome_rows:
            raise refuse(Refusal.TOO_LARGE, f"more than {self._limits.genome_rows} deletes")
        self._deletes.append((delete.subject, delete.reason))

    def _commit(self, commit: sync_pb2.Commit) -> list[Action]:
        begin = self.begun
        content = begin.content.sha256
        if content and not self._whole:
            raise refuse(Refusal.PARTS, "committed before the whole content was here")
        if not content and self._rows != begin.rows:
            raise refuse(Refusal.ROWS, f"{self._rows} rows came, {begin.rows} announced")
        self.committed = True
        self._here.forget(content)
        return [
            ApplyGenomes(
                nonce=self.nonce,
                full=begin.full,
                lineage=begin.lineage,
                lookup_key=begin.lookup_key,
                content=content,
                blocks=tuple(self._blocks),
                patches=tuple(self._patches),
                deletes=tuple(self._deletes),
                lookups=tuple(self._lookups),
                cursor=commit.genome_cursor,
                included=tuple(commit.included),
                total_rows=commit.total_rows,
                row_sum=commit.row_sum if commit.HasField("row_sum") else None,
                counted=tuple(self._counted),
            )
        ]


def _check_block(block: dna_pb2.GenomeBlock, lineage: dna_pb2.Lineage) -> None:
    rows, markers = len(block.counts), sum(block.counts)
    if block.HasField("lineage") and not trust.same_lineage(block.lineage, lineage):
        raise refuse(Refusal.LINEAGE, "a block of another lineage than its transaction")
    if len(block.subjects) != rows * SUBJECT_BYTES or not (
        len(block.consents) == len(block.as_of_hours) == rows
    ):
        raise refuse(Refusal.ROWS, "a block whose columns do not fit its rows")
    if not len(block.index_deltas) == len(block.strengths) == markers:
        raise refuse(Refusal.ROWS, "a block whose columns do not fit its markers")
