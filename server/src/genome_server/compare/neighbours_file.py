"""The index of neighbours as a file beside the store, made anew when the genomes changed.

The file is derived: it may be deleted at any time. It holds the genomes of those who agreed to
personalisation, under their random subjects, and is readable by its owner alone. Beside them lies
how many have each marker, by which rarity is worked out; for a page or a comparison that count may
be some days old, and it is said as of when it is. The store deletes the file when somebody is
erased or takes a consent back: nobody is in it, or counted by it, who does not agree.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from genome_server.compare.matrix import (
    SUBJECT,
    Floats,
    Genomes,
    Ints,
    carriers,
    chosen,
    rarity_of,
    weigh,
)
from genome_server.compare.neighbours import Columns, Neighbours
from genome_server.compare.reading import genomes_version, read_genomes
from genome_server.files import write_whole
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

FILE: Final = "neighbours.npz"
_FORMAT: Final = 2

Advance = Callable[..., None]


@dataclass(frozen=True, eq=False)
class Known:
    """How many of `people` who agreed to learning have each marker, as of `hour` (Unix)."""

    hour: int
    people: int
    carried: Ints

    def rarity(self, size: int) -> Floats:
        """What each of `size` markers counts; one that is newer than this counts as unheard of."""
        return rarity_of(self.people, self.counts(size))

    def counts(self, size: int) -> Ints:
        """How many have each of `size` markers."""
        counts = np.zeros(size, np.int64)
        counts[: min(size, len(self.carried))] = self.carried[:size]
        return counts


class Index:
    """Everybody who agreed to personalisation, and who is near whom."""

    def __init__(self, known: Known, genomes: Genomes, neighbours: Neighbours, size: int) -> None:
        self.known = known
        self._genomes = genomes
        self._neighbours = neighbours
        self._rarity = known.rarity(size)

    def __len__(self) -> int:
        return len(self._genomes)

    def row_of(self, subject: bytes) -> int | None:
        """The row of the person that this subject is; None where it is not in the index."""
        return self._genomes.row_of(subject)

    def subject(self, row: int) -> bytes:
        """The subject that stands for the person of a row."""
        return bytes(self._genomes.subjects[row])

    def genome(self, row: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Markers and strengths of a row."""
        return self._genomes.row(row)

    def similar(self, row: int, count: int) -> list[tuple[int, float]]:
        """(row, similarity) of those most like this one, itself left out."""
        markers, strengths = self.genome(row)
        if not len(markers):
            return []
        weights = weigh(np.array([0, len(markers)]), markers, strengths, self._rarity)
        rows, similarities = self._neighbours.search(markers, weights, count + 1)
        found = zip(rows.tolist(), similarities.tolist(), strict=True)
        return [(one, similarity) for one, similarity in found if one != row][:count]


def open_index(tenant: Tenant, store: Store, *, advance: Advance | None = None) -> Index:
    """The index of the genomes as they are now, from its file or made anew.

    `advance(steps, total=…)` is told of genomes read and taken in. Raises Refused before the first
    build, StoreError, OSError.
    """
    path = tenant.dir / FILE
    saved = _read(path)
    if saved is None or _text(saved["version"]) != _version(store):
        saved = _make(path, store, advance)
    known = _known(saved)
    genomes = Genomes(
        hour=known.hour,
        subjects=saved["subjects"].view(SUBJECT).reshape(-1),
        consents=saved["consents"],
        starts=saved["starts"],
        markers=saved["markers"],
        strengths=saved["strengths"],
        others={
            bytes(one): int(row)
            for one, row in zip(
                saved["others"].view(SUBJECT).reshape(-1), saved["rows_of_others"], strict=True
            )
        },
    )
    size = len(known.carried)
    neighbours = Neighbours.load(_columns(genomes, known.rarity(size)), size, saved)
    return Index(known, genomes, neighbours, size)


def open_rarity(tenant: Tenant, store: Store, *, advance: Advance | None = None) -> Known:
    """How many have each marker, as the index's file says; made where there is none.

    It may be older than the genomes; `hour` says how old. Raises as `open_index`.
    """
    path = tenant.dir / FILE
    saved = _read(path, ("lineage", "hour", "people", "carried"))
    lineage = store.vocabulary().lineage.hex()
    if saved is None or _text(saved["lineage"]) != lineage:
        saved = _make(path, store, advance)
    return _known(saved)


def _make(path: Path, store: Store, advance: Advance | None) -> dict[str, Any]:
    with store.snapshot():
        vocabulary = store.vocabulary()
        version = _version(store)
        everybody = read_genomes(store, advance=advance)
    learners = everybody.agreed(CONSENT_LEARNING)
    carried = carriers(everybody, learners, len(vocabulary))
    rows = everybody.agreed(CONSENT_PERSONALISATION)
    starts, places = chosen(everybody.starts, rows)
    at = {int(row): i for i, row in enumerate(rows)}
    others = {one: at[row] for one, row in everybody.others.items() if row in at}
    genomes = Genomes(
        hour=everybody.hour,
        subjects=everybody.subjects[rows],
        consents=everybody.consents[rows],
        starts=starts,
        markers=everybody.markers[places],
        strengths=everybody.strengths[places],
        others=others,
    )
    rarity = rarity_of(len(learners), carried)
    neighbours = Neighbours.build(_columns(genomes, rarity), len(vocabulary), advance=advance)
    saved: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "version": _bytes(version),
        "lineage": _bytes(vocabulary.lineage.hex()),
        "hour": np.array(genomes.hour),
        "people": np.array(len(learners)),
        "carried": carried,
        "subjects": np.frombuffer(genomes.subjects.tobytes(), np.uint8),
        "consents": genomes.consents,
        "starts": genomes.starts,
        "markers": genomes.markers,
        "strengths": genomes.strengths,
        "others": np.frombuffer(b"".join(others), np.uint8),
        "rows_of_others": np.array(list(others.values()), np.int64),
        **neighbours.saved(),
    }
    saved["names"] = _bytes(",".join(sorted(saved)))
    content = io.BytesIO()
    np.savez(content, **saved)
    write_whole(path, content.getvalue())
    # Who was erased or withdrew meanwhile is in what was read before that.
    if _version(store) != version:
        path.unlink(missing_ok=True)
    return saved


def _version(store: Store) -> str:
    """Of which genomes, and how many markers, an index is made now."""
    return f"{genomes_version(store)}:{len(store.vocabulary())}"


def _read(path: Path, names: Sequence[str] = ()) -> dict[str, Any] | None:
    """What the file says (under these names); None where there is none that can be read."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if int(file["format"]) != _FORMAT:
                return None
            if _text(file["names"]) != ",".join(sorted({*file.files} - {"names"})):
                return None
            return {name: file[name] for name in names or file.files}
    # zipfile raises RuntimeError for flags that it does not know, numpy TypeError for no archive.
    except (
        FileNotFoundError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
    ):
        return None


def _known(saved: dict[str, Any]) -> Known:
    return Known(int(saved["hour"]), int(saved["people"]), saved["carried"])


def _columns(genomes: Genomes, rarity: Floats) -> Columns:
    weights = weigh(genomes.starts, genomes.markers, genomes.strengths, rarity)
    return Columns(genomes.starts, genomes.markers, weights)


def _bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _text(array: npt.NDArray[np.uint8]) -> str:
    return array.tobytes().decode()
