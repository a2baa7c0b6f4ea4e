"""Further sources: loyalty, keys that ids share, and what builds derive."""

from __future__ import annotations

import json
from collections.abc import Iterable

from genome_server.store.connection import Connections, chunked
from genome_server.store.rows import PutCount


class Sources(Connections):
    """The room of a store that knows what comes beside profiles."""

    def put_loyalty(
        self, rows: Iterable[tuple[bytes, tuple[tuple[str, int], ...], int]]
    ) -> PutCount:
        """Put (subject, markers, Unix ms) beside profiles; makes customers that are not known."""
        inserted = changed = unchanged = 0
        with self.transaction():
            for subject, markers, at_ms in rows:
                text = json.dumps([list(pair) for pair in markers], ensure_ascii=False)
                old = self.one(
                    "SELECT loyalty, loyalty_ms FROM customers WHERE subject = ?", [subject]
                )
                if old is not None and (at_ms < old[1] or (text, at_ms) == (old[0], old[1])):
                    unchanged += 1
                    continue
                if old is None:
                    self.run(
                        "INSERT INTO customers (subject, markers, consents, stated, consents_ms, "
                        "updated_ms) VALUES (?, '[]', 0, NULL, 0, 0)",
                        [subject],
                    )
                self.run(
                    "UPDATE customers SET loyalty = ?, loyalty_ms = ? WHERE subject = ?",
                    [text, at_ms, subject],
                )
                if old is None or not old[1]:
                    inserted += 1
                else:
                    changed += 1
        return PutCount(inserted, changed, unchanged)

    # -- keys that ids share

    def put_key_holder(self, key: bytes, subject: bytes, at_ms: int, held: bool) -> PutCount:
        """Note that a subject has a key, or has it no longer, since `at_ms`."""
        with self.transaction():
            old = self.one(
                "SELECT at_ms, held FROM link_keys WHERE key = ? AND subject = ?", [key, subject]
            )
            # Of two words at one moment the more careful one counts, as with links.
            if old is not None and (old[0], not old[1]) >= (at_ms, not held):
                return PutCount(0, 0, 1)
            self.run(
                "INSERT OR REPLACE INTO link_keys (key, subject, at_ms, held) VALUES (?, ?, ?, ?)",
                [key, subject, at_ms, held],
            )
        return PutCount(1, 0, 0) if old is None else PutCount(0, 1, 0)

    def key_holders(self, key: bytes) -> list[tuple[bytes, int, bool]]:
        """(subject, since when, whether it still has it) of a key, by subject."""
        query = "SELECT subject, at_ms, held FROM link_keys WHERE key IN ({keys}) ORDER BY subject"
        return [(bytes(s), int(at), bool(held)) for s, at, held in self.among(query, [key])]

    def link_key_count(self) -> int:
        """How many pairs of a key and a subject are known."""
        return self.number("SELECT count(*) FROM link_keys")

    # -- what builds derive

    def put_insights(self, rows: Iterable[tuple[bytes, str]]) -> int:
        """Replace what is derived of all customers by these; returns how many changed."""
        changed = 0
        with self.transaction():
            known = {
                bytes(subject): str(text)
                for _, subject, text in self.pages(
                    "SELECT subject, subject, insight FROM customers "
                    "WHERE subject > ? AND insight <> '' ORDER BY subject LIMIT ?",
                    b"",
                )
            }
            update = "UPDATE customers SET insight = ? WHERE subject = ?"
            for chunk in chunked(rows):
                new = [(text, s) for s, text in chunk if known.pop(s, "") != text]
                self.run_many(update, new)
                changed += len(new)
            self.run_many(update, [("", subject) for subject in known])
        return changed + len(known)
