"""What the server keeps of further sources: the part of `Store` that is about them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from genome_server.store.rows import PutCount


class SourcesStore(Protocol):
    """Loyalty, keys that ids share, and what builds derive."""

    def put_loyalty(
        self, rows: Iterable[tuple[bytes, tuple[tuple[str, int], ...], int]]
    ) -> PutCount:
        """Put (subject, markers, Unix ms) beside profiles; makes customers that are not known.

        A row older than what is known changes nothing.
        """
        ...

    def put_key_holder(self, key: bytes, subject: bytes, at_ms: int, held: bool) -> PutCount:
        """Note that a subject has a key (by its hash), or has it no longer, since `at_ms`.

        What is older than what is known, or as old and has it, changes nothing.
        """
        ...

    def key_holders(self, key: bytes) -> list[tuple[bytes, int, bool]]:
        """(subject, since when, whether it still has it) of a key, by subject."""
        ...

    def link_key_count(self) -> int:
        """How many pairs of a key and a subject are known."""
        ...

    def put_insights(self, rows: Iterable[tuple[bytes, str]]) -> int:
        """Replace what is derived of all customers by these; returns how many changed."""
        ...
