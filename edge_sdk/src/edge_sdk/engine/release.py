"""A release, ready to decide from: verified parts in, one immutable object out.

Nothing here verifies signatures or digests of what comes over the network; `sync.trust` has done
that before a part is parsed. A bundle, which comes as one file, is verified here with the
same rules. What a part says may still make no sense: that is a TrustError too, because a release
is used whole or not at all.

The model is opened late, on the first decision or by `warm()`: a device that starts answers its
first question after loading what it decides from, and not the runtime's whole library.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from edge_sdk.decision import Unknown
from edge_sdk.dna.markers import Vocabulary, nearest_name
from edge_sdk.dna.products import ProductLookup
from edge_sdk.dna.schema import DnaSchema
from edge_sdk.engine.arms import Experiment
from edge_sdk.engine.catalogue import Catalogue
from edge_sdk.engine.places import PlaceLayer, PlaceResolver
from edge_sdk.engine.policy import Explorer, Floats, Indices, Scorer, explorer
from edge_sdk.engine.scoring_towers import TowerScorer
from edge_sdk.engine.slates import Slate
from edge_sdk.errors import FormatError, TrustError, UsageError
from edge_sdk.lazy import later
from edge_sdk.messages import dna_pb2, release_pb2
from edge_sdk.numbers import SHOWN_ON_VIEW
from edge_sdk.slices import rest
from edge_sdk.sync.trust import Limits, Refusal, verify_manifest, verify_part
from edge_sdk.values import dataclass

if TYPE_CHECKING:
    from edge_sdk.engine import scoring as scorers
else:
    scorers = later("edge_sdk.engine.scoring")

log = logging.getLogger("edge_sdk")

GOLDEN_TOLERANCE: Final = 1e-5
_MAX_SLOTS: Final = 64
_TOGETHER: Final = 512
_TWO: Final = np.float32(2.0)
_MAX_NEAREST: Final = 1024
# Offers that are valued in two ways, to compare them.
_PROBED: Final = 256

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class Placement:
    """A placement, ready to use. `shown_on_view`: an offer counts as shown when it was viewed, not
    when it was decided. `house` is the row of the house default, `slate` what it asks beyond, and
    `experiment` has its arms."""

    id: str
    max_slots: int
    channel: str
    shown_on_view: bool
    house: int | None
    explorer: Explorer
    outcome_window_hours: int
    slate: Slate | None = None
    experiment: Experiment | None = None


class Scoring(NamedTuple):
    """The scorer and every offer's vector, float32[offers, d]."""

    scorer: Scorer
    vectors: Floats

    def doubles(self, parts: Sequence[tuple[Indices, Floats]], vectors: Floats) -> Floats:
        """Twice the probability of success, float32[k], for a query of one or more parts, in arrays
        that nobody changes: markers int64[n] and weights float32[n] of each."""
        scorer = self.scorer
        if isinstance(scorer, TowerScorer):
            return scorer.doubles_of(parts, vectors)
        indices = np.concatenate([indices for indices, _ in parts])
        weights = np.concatenate([weights for _, weights in parts])
        with np.errstate(over="ignore"):  # whatever an app's own gives
            return scorer.values(indices, weights, vectors) * _TWO


class Bundle(NamedTuple):
    """What a bundle file holds, verified."""

    signed: release_pb2.SignedManifest
    root: release_pb2.TrustRoot
    parts: dict[str, bytes]
    blocks: list[dna_pb2.GenomeBlock]
    timestamp: release_pb2.SignedTimestamp | None = None


class Release:
    """Everything that decisions are made from. Immutable but for what it remembers; thread-safe.

    `scorer` makes the scorer on first use and may raise TrustError. Build one with `from_parts`.
    """

    #: Whether an app has put something in place of ours; see `fitting`.
    is_fitted = False

    def __init__(
        self,
        manifest: release_pb2.Manifest,
        *,
        schema: DnaSchema,
        vocabulary: Vocabulary,
        offers: release_pb2.OfferCatalogue,
        placements: release_pb2.PlacementList,
        products: release_pb2.ProductTable,
        places: release_pb2.PlaceTable,
        golden: release_pb2.GoldenVectors,
        scorer: Callable[[], Scorer],
        model: bytes = b"",
        assets: Mapping[str, Path] | None = None,
    ) -> None:
        self.manifest = manifest
        self.version = int(manifest.version)
        self.schema = schema
        self.vocabulary = vocabulary
        self.catalogue = Catalogue.compile(offers, vocabulary, placements.placements)
        self.placements = {p.id: self._placement(p) for p in placements.placements}
        self.products = ProductLookup.from_proto(products)
        self.places: PlaceResolver = PlaceLayer.from_proto(places)
        self.model = model
        self.assets: Mapping[str, Path] = dict(assets or {})
        # What contexts were worked out to mean; kept here because it is only true of this release.
        self.moments: dict[Any, Any] = {}
        # And what is shown of the offers that were drawn.
        self.shown: dict[Any, Any] = {}
        self._golden = golden
        #: By which queries, rows and values the runtime has proven our own evaluation.
        self.proof: list[tuple[Any, ...]] = []
        self._make_scorer = scorer
        self._scoring: Scoring | TrustError | None = None
        self._lock = threading.Lock()
        self._nearest: dict[tuple[str, str], Unknown] = {}

    @classmethod
    def from_parts(
        cls,
        manifest: release_pb2.Manifest,
        parts: Mapping[str, bytes],
        *,
        assets: Mapping[str, Path] | None = None,
    ) -> Release:
        """Parse verified parts. `assets` says where on this device the offers' files are.

        Raises TrustError (PARTS, FORMAT, LINEAGE) where a part is missing or makes no sense. The
        model is looked at by `warm` and `check_golden` only.
        """
        try:
            schema = DnaSchema.from_proto(_part(parts, "schema", dna_pb2.DnaSchema))
            vocabulary = Vocabulary.from_proto(_part(parts, "vocabulary", dna_pb2.Vocabulary))
            _check_lineage(manifest, schema, vocabulary)
            model = _content(parts, "model")
            return cls(
                manifest,
                schema=schema,
                vocabulary=vocabulary,
                offers=_part(parts, "offers", release_pb2.OfferCatalogue),
                placements=_part(parts, "placements", release_pb2.PlacementList),
                products=_optional(parts, "products", release_pb2.ProductTable),
                places=_optional(parts, "places", release_pb2.PlaceTable),
                golden=_optional(parts, "golden", release_pb2.GoldenVectors),
                scorer=lambda: scorers.open_scorer(model, vocabulary),
                model=model,
                assets=assets,
            )
        except (FormatError, UsageError) as error:
            raise TrustError(f"the release makes no sense: {error}", Refusal.FORMAT) from error

    def renewed(self) -> Release:
        """The same release with its model opened anew: a forked child must not use its parent's
        session, in which another thread of the parent may have been at work."""
        other = copy.copy(self)
        other._scoring = None
        other._lock = threading.Lock()
        return other

    @property
    def scoring(self) -> Scoring:
        """The scorer with all offers' vectors, made on first use. Raises TrustError MODEL."""
        known = self._scoring
        if known is None:
            with self._lock:
                if self._scoring is None:
                    self._scoring = self._open_scorer()
                known = self._scoring
        if isinstance(known, TrustError):
            raise known
        return known

    @property
    def scorer(self) -> Scorer:
        """The model, opened on first use. Raises TrustError MODEL."""
        return self.scoring.scorer

    def warm(self) -> None:
        """Do what the first decision would do: open the model, value an offer.

        A model that is evaluated without the runtime is compared with it here, unless golden
        vectors, which came out of the runtime, do so. Raises TrustError MODEL.
        """
        scoring = self.scoring
        if isinstance(scoring.scorer, TowerScorer) and not self._golden.vectors:
            self._prove(scoring)
            scoring = self.scoring
        nothing = np.zeros(0, np.int64)
        scoring.scorer.values(nothing, nothing.astype(np.float32), scoring.vectors[:1])

    def dna(self, row: int) -> list[tuple[int, float]]:
        """What an offer of the catalogue is made of: marker indices and weights."""
        rest()
        pairs = (
            (self.vocabulary.index(m.marker), m.salience_q8 / 256)
            for m in self.catalogue.offers[row].dna
        )
        return [(at, weight) for at, weight in pairs if at is not None]

    def check_golden(self) -> None:
        """Check that the model gives on this device what it gave where it was published.

        Raises TrustError GOLDEN, with the first difference, or MODEL.
        """
        try:
            self._try_vectors()
        except TrustError as error:
            if error.reason != Refusal.GOLDEN or not isinstance(self.scorer, TowerScorer):
                raise
            self._use_runtime(str(error))
            self._try_vectors()

    def _try_vectors(self) -> None:
        for number, vector in enumerate(self._golden.vectors):
            try:
                self._check_vector(vector)
            except FormatError as error:
                raise TrustError(f"golden vector {number}: {error}", Refusal.GOLDEN) from error

    def _prove(self, scoring: Scoring) -> None:
        """Compare what is evaluated here with the runtime, for queries of any length."""
        rng = np.random.default_rng(self.version)
        rows = np.sort(rng.choice(len(self.catalogue), min(_PROBED, len(self.catalogue)), False))
        scorer = scorers.OnnxScorer(self.model, self.vocabulary)
        theirs = scorer.vectors([self.dna(row) for row in rows.tolist()])
        for number in (0, 1, 8, 64):
            indices = np.sort(rng.integers(0, len(self.vocabulary), number))
            weights = rng.uniform(0.1, 6.0, number).astype(np.float32)
            found = scoring.scorer.values(indices, weights, scoring.vectors[rows])
            wanted = scorer.values(indices, weights, theirs)
            apart = np.abs(found - wanted)
            self.proof.append((indices, weights, rows, wanted))
            if not bool((apart <= GOLDEN_TOLERANCE).all()):
                self._use_runtime(f"a query of {number} markers is {apart.max():.2g} off")
                return

    def _use_runtime(self, why: str) -> None:
        log.warning("the model is left to the runtime, which values offers otherwise: %s", why)
        self._make_scorer = lambda: scorers.OnnxScorer(self.model, self.vocabulary)
        self._scoring = None

    def nearest(self, kind: str, name: str) -> Unknown:
        """What is said about a name that is not known; worked out once per name."""
        known = self._nearest.get((kind, name))
        if known is None:
            if kind == "marker":
                near = self.vocabulary.nearest(name)
            else:
                near = nearest_name(
                    name, self.products.ids if kind == "product" else self.placements
                )
            if len(self._nearest) >= _MAX_NEAREST:
                self._nearest = {}
            known = self._nearest[kind, name] = Unknown(kind, name, near)
        return known

    def _placement(self, spec: release_pb2.PlacementSpec) -> Placement:
        return Placement(
            id=spec.id,
            max_slots=min(max(spec.max_slots, 1), _MAX_SLOTS),
            channel=spec.channel,
            shown_on_view=spec.shown == SHOWN_ON_VIEW,
            house=self.catalogue.row_of.get(spec.house_offer),
            explorer=explorer(spec.explorer, spec.gamma, spec.floor),
            outcome_window_hours=spec.outcome_window_hours,
            slate=Slate.of(spec),
            experiment=Experiment.of(spec),
        )

    def _open_scorer(self) -> Scoring | TrustError:
        number = len(self.catalogue)
        try:
            scorer = self._make_scorer()
            # A few at a time: what lives for long makes the interpreter look through everything.
            vectors = [
                scorer.vectors([self.dna(row) for row in range(at, min(at + _TOGETHER, number))])
                for at in range(0, number or 1, _TOGETHER)
            ]
            return Scoring(scorer, np.ascontiguousarray(np.concatenate(vectors), np.float32))
        except TrustError as error:
            return error
        except Exception as error:  # noqa: BLE001 a broken model fails in its runtime's own ways
            return TrustError(f"the model cannot value the offers: {error}", Refusal.MODEL)

    def _check_vector(self, vector: release_pb2.GoldenVector) -> None:
        rows = self.catalogue.row_of
        if any(o not in rows for o in vector.offers) or len(vector.offers) != len(vector.values):
            raise FormatError("it names offers that are not in the catalogue")
        at = np.array([rows[offer] for offer in vector.offers], np.intp)
        indices = np.array(vector.indices, np.int64)
        weights = np.array(vector.weights, np.float32)
        if len(indices) != len(weights):
            raise FormatError("its columns differ in length")
        scoring = self.scoring
        found = scoring.scorer.values(indices, weights, scoring.vectors[at])
        wanted = np.array(vector.values, np.float32)
        apart = np.abs(found - wanted)
        if not bool((apart <= GOLDEN_TOLERANCE).all()):  # also where something is not a number
            worst = int(np.nan_to_num(apart, nan=np.inf).argmax())
            raise FormatError(
                f"offer {vector.offers[worst]!r} has value {found[worst]:.6f} here, "
                f"{wanted[worst]:.6f} where it was published"
            )


def load_bundle(data: bytes, root: release_pb2.TrustRoot | None = None) -> Bundle:
    """Read and verify a bundle file.

    With `root`, the one that this device is pinned to, the bundle must be signed for it; without,
    the bundle's own root is believed, as the app that carries it is. Expiry is the caller's to
    judge. Raises TrustError.
    """
    from edge_sdk.sync.roles import verify_root, verify_timestamp  # only for bundles

    try:
        bundle = release_pb2.Bundle.FromString(data)
    except DecodeError as error:
        raise TrustError("this is not a bundle", Refusal.FORMAT) from error
    trusted = bundle.root if root is None else verify_root(root, bundle.root)
    manifest = verify_manifest(bundle.manifest, trusted, 0, 0, Limits(), held=True)
    contents = {part.name: part.content for part in bundle.parts}
    parts: dict[str, bytes] = {}
    for part in manifest.parts:
        content = _content(contents, part.name)
        verify_part(part, content)
        parts[part.name] = content
    timestamp = bundle.timestamp if bundle.HasField("timestamp") else None
    if timestamp is not None:
        verify_timestamp(timestamp, trusted, 0, held=True)
    return Bundle(bundle.manifest, trusted, parts, list(bundle.genomes), timestamp)


def _content(parts: Mapping[str, bytes], name: str) -> bytes:
    content = parts.get(name)
    if content is None:
        raise TrustError(f"the release lacks its part {name!r}", Refusal.PARTS)
    return content


def _part(parts: Mapping[str, bytes], name: str, kind: type[_M]) -> _M:
    return _parse(_content(parts, name), name, kind)


def _optional(parts: Mapping[str, bytes], name: str, kind: type[_M]) -> _M:
    return _parse(parts.get(name, b""), name, kind)


def _parse(content: bytes, name: str, kind: type[_M]) -> _M:
    try:
        return kind.FromString(content)
    except DecodeError as error:
        raise TrustError(f"part {name!r} cannot be read", Refusal.FORMAT) from error


def _check_lineage(
    manifest: release_pb2.Manifest, schema: DnaSchema, vocabulary: Vocabulary
) -> None:
    """The manifest says which genome rows fit; the parts must say the same."""
    said = manifest.lineage
    meant = schema.lineage(vocabulary)
    if (
        said.vocabulary_lineage != meant.vocabulary_lineage
        or said.vocabulary_size > meant.vocabulary_size
        or said.schema_epoch != meant.schema_epoch
        or said.landmark_hour != meant.landmark_hour
        or said.quantiser != meant.quantiser
    ):
        raise TrustError(
            "the manifest names another vocabulary or DNA schema than the parts hold",
            Refusal.LINEAGE,
        )
