"""What the releases in force ask to be counted of one customer, and for how long. Free of I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.cap_rulebook import Rulebook
from edge_sdk.engine.cap_rules import COUNTED, CapRow, CapRule, counters_of, rules_of
from edge_sdk.engine.zones import zones_of
from edge_sdk.errors import FormatError
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.counting.happened import happened

if TYPE_CHECKING:
    from genome_edge.v1 import event_pb2

MOST_EVENTS: Final = 256
"""Cap events that are kept of one subject."""
_NOTHING: Final = Rulebook({})


class _Placement:
    def __init__(self, spec: release_pb2.PlacementSpec) -> None:
        self.shown_on_view = spec.shown == release_pb2.PlacementSpec.SHOWN_ON_VIEW


class Counting:
    """What one release says of counting."""

    def __init__(
        self,
        rules: Mapping[str, CapRule],
        placements: Iterable[release_pb2.PlacementSpec],
        schema: DnaSchema,
    ) -> None:
        self.book = Rulebook(rules)
        self.schema = schema
        self.placements = {spec.id: _Placement(spec) for spec in placements}
        #: Offer and kind of what a limit of one customer asks for.
        self.asked = frozenset(
            (offer, kind)
            for offer, rule in rules.items()
            for kind in COUNTED
            if any(
                not limit.device
                for counter in counters_of(offer, rule.campaign, rule.group)
                for limit in self.book.limits.get((counter, kind), ())
            )
        )

    @classmethod
    def from_parts(cls, parts: Mapping[str, bytes]) -> Counting:
        """Read it from the parts offers, placements and schema of a release. Raises FormatError."""
        try:
            offers = release_pb2.OfferCatalogue.FromString(parts["offers"])
            placements = release_pb2.PlacementList.FromString(parts["placements"])
            schema = DnaSchema.from_proto(dna_pb2.DnaSchema.FromString(parts["schema"]))
        except DecodeError as error:
            raise FormatError("a part of a release cannot be read") from error
        return cls(rules_of(offers.offers, zones_of(offers.zones)), placements.placements, schema)

    def rows(self, subject: bytes, event: event_pb2.Event, at_ms: int) -> Iterator[CapRow]:
        """What an event of a subject counts as, where a limit asks for it."""
        for claim, offer, kind in happened(event, self):
            if (offer, kind) in self.asked:
                rule = self.book.rules[offer]
                of = (claim, rule.campaign, rule.group)
                yield CapRow(subject, offer, kind, at_ms, *of, elsewhere=True)


def rows_of(
    countings: Sequence[Counting], subject: bytes, event: event_pb2.Event, at_ms: int
) -> list[CapRow]:
    """What an event counts as under any of the releases in force."""
    found: dict[tuple[bytes, str], CapRow] = {}
    for counting in countings:
        for row in counting.rows(subject, event, at_ms):
            found.setdefault((row.claim, row.kind), row)
    return list(found.values())


def outdated(
    countings: Sequence[Counting], rows: Sequence[CapRow], now_ms: int, most: int
) -> list[CapRow]:
    """Which of one subject's rows are not kept: what can block nothing any more; and of what is
    more than `most` first the oldest of which limits have newer ones enough, then the oldest."""
    books = [one.book for one in countings] or [_NOTHING]
    kept: list[CapRow] = []
    dropped: list[CapRow] = []
    for row in rows:
        ends = row.at_ms + max(book.relevant_ms(row) for book in books)
        (kept if ends > now_ms else dropped).append(row)
    if len(kept) > most:
        needed = _needed(books, kept)
        kept.sort(key=lambda row: ((row.claim, row.kind) in needed, row.at_ms))
        dropped += kept[: len(kept) - most]
    return dropped


def _needed(books: Iterable[Rulebook], rows: Iterable[CapRow]) -> set[tuple[bytes, str]]:
    """Claims and kinds of the newest rows of each counter, as many as a limit can ask for."""
    found: set[tuple[bytes, str]] = set()
    newest = sorted(rows, key=lambda row: -row.at_ms)
    for book in books:
        seen: dict[object, int] = {}
        for row in newest:
            for counter in book.counters(row.offer, row.campaign, row.group):
                asked = (counter, row.kind)
                most = max((x.limit for x in book.limits.get(asked, ()) if not x.device), default=0)
                if seen.get(asked, 0) < most:
                    seen[asked] = seen.get(asked, 0) + 1
                    found.add((row.claim, row.kind))
    return found
