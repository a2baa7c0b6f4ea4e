"""Lists to decide for: the rows of a file, or the customers of a segment; in parts, in order.

A list always gives the same rows under the same numbers, so that a run that was stopped goes on
where it was. Its digest says whether it is still the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from edge_sdk.dna.genome import SUBJECT_BYTES
from genome_server.bulk.kind import MOMENTS
from genome_server.bulk.moments import Asked, MomentMaker
from genome_server.errors import ImportRefused, Refused, UsageError
from genome_server.ingest.audiences import members_by_rule
from genome_server.ingest.check import RowError
from genome_server.ingest.readers import RawRow, format_of, read_rows
from genome_server.ingest.rejects import Reject, reject_of
from genome_server.store.protocol import AudienceRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genome_server.store.protocol import Store

#: Rows of a part: what a run that is killed does again at most, and what is logged at once.
PART_ROWS: Final = 2_000
_BLOCK_BYTES: Final = 1 << 20


class SetAside(NamedTuple):
    """A row that is not decided for: what is wrong, and the line that is kept of it."""

    reject: Reject
    said: str


class Part(NamedTuple):
    """The next rows of a list: `rows` in all, of which some are set aside."""

    rows: int
    asked: Sequence[Asked]
    aside: Sequence[SetAside]


class List(Protocol):
    """What is decided for."""

    @property
    def digest(self) -> bytes:
        """What the list is, 32 bytes."""
        ...

    @property
    def total(self) -> int | None:
        """About how many rows there are, for people; None: nobody knows."""
        ...

    def parts(self, store: Store, maker: MomentMaker, skip: int) -> Iterator[Part]:
        """The parts of it but the first `skip` rows.

        Raises ImportRefused where it can be read no further.
        """
        ...


class FileList:
    """The rows of a file. Raises UsageError, ImportRefused."""

    def __init__(self, path: Path, format_: str | None) -> None:
        self._path = path
        self._format = format_of(path, format_)
        # Also says whether it can be read at all, before anything is decided.
        next(read_rows(path, MOMENTS, self._format), None)
        self.digest, lines = _looked_through(path)
        self.total = _rows(path, self._format, lines)

    def parts(self, store: Store, maker: MomentMaker, skip: int) -> Iterator[Part]:
        """The parts of the file, in its order."""
        rows = islice(read_rows(self._path, MOMENTS, self._format), skip, None)
        while True:
            some, error = _as_many(rows)
            if some:
                yield self._part(store, maker, some)
            if error is not None:
                raise error
            if len(some) < PART_ROWS:
                return

    def _part(self, store: Store, maker: MomentMaker, rows: Sequence[RawRow]) -> Part:
        made: list[tuple[RawRow, Asked]] = []
        aside: list[tuple[RawRow, RowError]] = []
        for raw in rows:
            try:
                made.append((raw, maker.make(raw)))
            except RowError as error:
                aside.append((raw, error))
        subjects = _subjects(store, [one for _, one in made])
        asked: list[Asked] = []
        for raw, one in made:
            subject = subjects.get((one.source, one.customer))
            if not one.customer:
                asked.append(one)
            elif subject is None:
                cause = f"there is no customer {one.customer!r} of source {one.source!r}"
                aside.append((raw, RowError("customer", cause)))
            else:
                asked.append(replace(one, subject=subject))
        aside.sort(key=lambda one: one[0].line)
        told = [SetAside(*reject_of(MOMENTS, self._path, *one)) for one in aside]
        return Part(len(rows), asked, told)


class Segment:
    """Customers, by subject: an order that says nothing of them and stays."""

    def __init__(self, subjects: Sequence[bytes], source: str) -> None:
        self.subjects = subjects
        self._source = source
        self.digest = hashlib.sha256(b"".join(subjects)).digest()
        self.total = len(subjects)

    @classmethod
    def of(
        cls, store: Store, source: str, *, audience: str | None, markers: Sequence[str]
    ) -> Segment:
        """The members of an audience; else those with any of these profile markers; else all.

        Raises Refused where there is no such audience.
        """
        if audience is not None:
            if store.audience(audience) is None:
                names = ", ".join(one.name for one in store.audiences()) or "none"
                raise Refused(f"there is no audience {audience!r}; there are: {names}")
            return cls(list(store.members(audience)), source)
        rule = AudienceRow("", {"any_of": list(markers)} if markers else {"all": True})
        return cls(sorted(members_by_rule(store, rule)), source)

    @classmethod
    def kept(cls, data: bytes, source: str) -> Segment:
        """The segment that `to_bytes` wrote."""
        size = SUBJECT_BYTES
        return cls([data[at : at + size] for at in range(0, len(data), size)], source)

    def to_bytes(self) -> bytes:
        """The segment as a run keeps it: who joins meanwhile is not in it."""
        return b"".join(self.subjects)

    def parts(self, store: Store, maker: MomentMaker, skip: int) -> Iterator[Part]:
        """The parts of the segment; one moment for all."""
        like = maker.make(RawRow(0, {}, {}))
        line = skip
        for at in range(skip, len(self.subjects), PART_ROWS):
            some = self.subjects[at : at + PART_ROWS]
            names = self._names(store, some)
            asked, aside = [], []
            for subject in some:
                line += 1
                name = names.get(subject)
                if name is None:
                    reject = Reject("segment", line, "", "is no longer known: erased meanwhile")
                    said = f'{{"file": "segment", "line": {line}, "cause": "{reject.cause}"}}'
                    aside.append(SetAside(reject, said))
                    continue
                asked.append(
                    replace(like, line=line, source=name[0], customer=name[1], subject=subject)
                )
            yield Part(len(some), asked, aside)

    def _names(self, store: Store, subjects: Sequence[bytes]) -> Mapping[bytes, tuple[str, str]]:
        """By subject: the id by which it is known, of the source that was asked for if it has
        one."""
        found: dict[bytes, tuple[bool, str, str]] = {}
        for subject, source, name in store.external_ids(subjects):
            one = (source != self._source, source, name)
            if subject not in found or one < found[subject]:
                found[subject] = one
        return {subject: (source, name) for subject, (_, source, name) in found.items()}


def _as_many(rows: Iterator[RawRow]) -> tuple[list[RawRow], ImportRefused | None]:
    """The rows of a part, and why there are no more of them where the file breaks off."""
    some: list[RawRow] = []
    try:
        some.extend(islice(rows, PART_ROWS))
    except ImportRefused as error:
        return some, error
    return some, None


def _subjects(store: Store, asked: Sequence[Asked]) -> dict[tuple[str, str], bytes]:
    by_source: dict[str, list[str]] = {}
    for one in asked:
        if one.customer:
            by_source.setdefault(one.source, []).append(one.customer)
    return {
        (source, name): subject
        for source, names in by_source.items()
        for name, subject in store.subjects_of(source, names).items()
    }


def _looked_through(path: Path) -> tuple[bytes, int]:
    """The SHA-256 of a file, and its lines."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            lines += block.count(b"\n")
            last = block[-1:]
    return digest.digest(), lines + (last != b"\n")


def _rows(path: Path, format_: str, lines: int) -> int | None:
    if format_ == "parquet":
        import pyarrow.parquet as pq

        return int(pq.read_metadata(path).num_rows)
    if format_ == "yaml":
        return None
    return max(0, lines - (format_ == "csv"))


def the_list(
    store: Store,
    file: Path | None,
    *,
    format_: str | None,
    source: str,
    audience: str | None,
    markers: Sequence[str],
    everybody: bool,
) -> FileList | Segment:
    """What a command names. Raises UsageError unless it is one thing."""
    if sum((file is not None, audience is not None, bool(markers), everybody)) != 1:
        raise UsageError("name one list: a FILE, --audience, --marker, or --all")
    if file is not None:
        return FileList(file, format_)
    return Segment.of(store, source, audience=audience, markers=markers)
