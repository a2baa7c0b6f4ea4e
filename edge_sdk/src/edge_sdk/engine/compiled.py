"""A release as it is in memory, as bytes: what a process starts from instead of compiling it anew.

Theory of operation. Everything that was worked out from the parts (indexes, vectors, names) is
written with pickle, and read by a reader that makes only the types of the engine, so that no bytes
can make it run anything else. Arrays lie behind the rest, at multiples of 64 bytes, and are used
where they are mapped. A model's large tables stay in its part: only where they lie is written.
Offers stay the messages that they were and are read one at a time, when more is asked of them than
what an app shows; so a first decision needs no library that reads messages.

What is remembered of contexts and cells is left out: a position is in no file.

Who reads must know that the bytes are those that were written, by the same code, for the same
manifest; see `edge_sdk.store.compiled`.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.areas import AreaIndex
from edge_sdk.engine.catalogue import Catalogue
from edge_sdk.engine.places import PlaceLayer
from edge_sdk.engine.release import Release, Scoring
from edge_sdk.engine.scoring_towers import TowerScorer
from edge_sdk.engine.zones import UTC_ZONE, Zone
from edge_sdk.errors import TrustError
from edge_sdk.lazy import later
from edge_sdk.messages import lineage_of, partly
from edge_sdk.slices import rest

if TYPE_CHECKING:
    from edge_sdk.engine import scoring as scorers
else:
    scorers = later("edge_sdk.engine.scoring")

_HEAD: Final = struct.Struct("<QQ")
_LENGTH: Final = struct.Struct("<Q")
_ALIGN: Final = 64
#: Types of other packages that the reader makes, too.
_OTHERS: Final = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("types", "SimpleNamespace"),
}
_OURS: Final = ("edge_sdk.engine.", "edge_sdk.dna.", "edge_sdk.decision")
_EMPTIED: Final[dict[type, dict[str, Any]]] = {
    Catalogue: {"_blocks": {}, "_rows_known": 0, "_selections": {}},
    AreaIndex: {"_known": {}},
    PlaceLayer: {"_known": {}},
}


class Specs(Sequence[Any]):
    """The offers of a part: what is shown of each, and its message, read when it is asked for.

    Both lie end to end, uint8[n]; row i is `starts[i]` to `starts[i + 1]`. What is shown is JSON:
    content, texts as (language, content), assets as (name, language, part).
    """

    def __init__(
        self,
        ids: Sequence[str],
        messages: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]],
        shown: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]],
    ) -> None:
        self._ids, self._messages, self._shown = ids, messages, shown

    @classmethod
    def of(cls, offers: Sequence[Any]) -> Specs:
        """From messages."""
        messages, shown = [], []
        for offer in offers:
            rest()
            messages.append(offer.SerializeToString())
            texts = [(one.language, dict(one.content)) for one in offer.texts]
            assets = [(one.name, one.language, one.part) for one in offer.assets]
            shown.append(json.dumps((dict(offer.content), texts, assets)).encode())
        return cls([offer.id for offer in offers], _end_to_end(messages), _end_to_end(shown))

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        row = range(len(self))[at]
        content, texts, assets = json.loads(_piece(self._shown, row))
        return partly(
            "release_pb2", "OfferSpec", _piece(self._messages, row), id=self._ids[row],
            content=content,
            texts=[SimpleNamespace(language=tag, content=text) for tag, text in texts],
            assets=[SimpleNamespace(name=n, language=tag, part=part) for n, tag, part in assets],
        )  # fmt: skip

    def __iter__(self) -> Iterator[Any]:
        return (self[row] for row in range(len(self)))


def _end_to_end(pieces: list[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    starts = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(one) for one in pieces], out=starts[1:])
    return starts, np.frombuffer(b"".join(pieces), np.uint8)


def _piece(of: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]], row: int) -> bytes:
    starts, data = of
    begin, end = starts[row : row + 2].tolist()
    return data[begin:end].tobytes()


def freeze(release: Release, write: Callable[[Any], object]) -> None:
    """Write a release that was built from its parts; what a reader must know is in the rest."""
    buffers: list[pickle.PickleBuffer] = []
    text = io.BytesIO()
    pickler = _Writer(text, release.model, buffers)
    manifest = release.manifest
    pickler.dump(
        (
            manifest.SerializeToString(),
            tuple(
                SimpleNamespace(name=p.name, size=p.size, sha256=p.sha256, asset=p.asset)
                for p in manifest.parts
            ),
            (int(manifest.version), int(manifest.created_ms), int(manifest.expires_ms)),
            manifest.lineage.SerializeToString(),
        )
    )
    scoring = release._scoring
    pickler.dump(
        {
            "schema": release.schema,
            "vocabulary": release.vocabulary,
            "catalogue": release.catalogue,
            "placements": release.placements,
            "products": release.products,
            "places": release.places,
            "_golden": SimpleNamespace(vectors=_golden(release)),
            "proof": [],
            # What the runtime has opened is opened again.
            "_scoring": scoring if _is_ours(scoring) else None,
        }
    )
    raw = [buffer.raw() for buffer in buffers]
    write(_HEAD.pack(text.tell(), len(raw)))
    for buffer in raw:
        write(_LENGTH.pack(buffer.nbytes))
    at = _HEAD.size + _LENGTH.size * len(raw)
    for piece in (text.getbuffer(), *raw):
        write(bytes(-at % _ALIGN))
        write(piece)
        at += -at % _ALIGN + piece.nbytes


class Frozen:
    """What `freeze` wrote, in a buffer that stays: first its manifest, then the release."""

    def __init__(self, data: memoryview) -> None:
        """Raises whatever bytes that `freeze` did not write lead to."""
        size, number = _HEAD.unpack_from(data)
        lengths = [
            _LENGTH.unpack_from(data, _HEAD.size + _LENGTH.size * n)[0] for n in range(number)
        ]
        at = _HEAD.size + _LENGTH.size * number
        pieces = []
        for length in (size, *lengths):
            at += -at % _ALIGN
            pieces.append(data[at : at + length])
            at += length
        self._reader = _Reader(io.BytesIO(pieces[0]), buffers=pieces[1:])
        message, parts, (version, created_ms, expires_ms), lineage = self._reader.load()
        self.manifest = partly(
            "release_pb2", "Manifest", message, parts=parts, version=version,
            created_ms=created_ms, expires_ms=expires_ms, lineage=lineage_of(lineage),
        )  # fmt: skip

    def release(self, parts: Mapping[str, bytes], assets: Mapping[str, Path]) -> Release:
        """The release. `parts` are those of the manifest, verified. Once only."""
        model = self._reader.model = parts["model"]
        state = self._reader.load()
        release = object.__new__(Release)
        vocabulary = state["vocabulary"]
        vars(release).update(
            state,
            manifest=self.manifest,
            version=self.manifest.version,
            model=model,
            assets=dict(assets),
            moments={},
            shown={},
            _make_scorer=lambda: scorers.open_scorer(model, vocabulary),
            _lock=threading.Lock(),
            _nearest={},
        )
        return release


class _Writer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, model: bytes, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, 5, buffer_callback=buffers.append)
        self._model = model
        #: The large ones, of which a decision reads copies: they need not be aligned.
        self._tables: set[int] = set()

    def persistent_id(self, thing: Any) -> Any:
        """Where one of the model's tables lies in its part; None: it is none of them."""
        if type(thing) is not np.ndarray or id(thing) not in self._tables:
            return None
        at = self._model.find(thing.tobytes())
        return None if at < 0 else (at, thing.dtype.str, thing.shape)

    def reducer_override(self, thing: Any) -> Any:
        kind = type(thing)
        if kind in _EMPTIED:
            state = {**vars(thing), **_EMPTIED[kind]}
            if kind is Catalogue:
                assets = {row: _assets(some) for row, some in thing.assets.items()}
                state |= {"offers": Specs.of(thing.offers), "assets": assets}
            return _blank, (kind,), state
        if kind is DnaSchema:
            return DnaSchema, (
                thing.epoch, thing.landmark_hour, thing.namespaces, thing.kinds,
                thing.default_half_life_hours, thing.quantiser, thing.max_markers, thing.distinct,
            )  # fmt: skip
        if thing is UTC_ZONE:  # of which there is one
            return _utc, ()
        if kind is TowerScorer:
            towers = thing._offers
            self._tables = {id(towers.query_table), id(towers.offer_table)}
            return TowerScorer, (towers,)
        return NotImplemented


class _Reader(pickle.Unpickler):
    model: bytes = b""

    def find_class(self, module: str, name: str) -> Any:
        """The types of the engine, and what arrays are made by."""
        if module.startswith(_OURS):
            found = super().find_class(module, name)
            # Made there, and not only known there.
            if found in (_blank, _utc) or (isinstance(found, type) and found.__module__ == module):
                return found
        elif (module, name) in _OTHERS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not of a release")

    def persistent_load(self, where: Any) -> npt.NDArray[Any]:
        """A table of the model's part."""
        at, kind, shape = where
        count = int(np.prod(shape))
        return np.frombuffer(self.model, np.dtype(kind), count, at).reshape(shape)


def _golden(release: Release) -> tuple[SimpleNamespace, ...]:
    """The golden vectors; of a release without any, what the runtime has given here."""
    vectors = release._golden.vectors
    given: list[tuple[Any, ...]] = [(v.indices, v.weights, v.offers, v.values) for v in vectors]
    ids = release.catalogue.ids
    for indices, weights, rows, values in () if given else release.proof:
        given.append((indices, weights, [ids[row] for row in rows.tolist()], values))
    return tuple(
        SimpleNamespace(
            indices=np.array(indices, np.int64),
            weights=np.array(weights, np.float32),
            offers=tuple(offers),
            values=np.array(values, np.float32),
        )
        for indices, weights, offers, values in given
    )


def _is_ours(scoring: Scoring | TrustError | None) -> bool:
    return isinstance(scoring, Scoring) and isinstance(scoring.scorer, TowerScorer)


def _utc() -> Zone:
    return UTC_ZONE


def _blank(kind: type) -> Any:
    """An object without what its constructor would work out."""
    return object.__new__(kind)


def _assets(assets: Sequence[Any]) -> tuple[SimpleNamespace, ...]:
    return tuple(
        SimpleNamespace(name=one.name, language=one.language, part=one.part) for one in assets
    )
