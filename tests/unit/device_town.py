"""A small signed release as a bundle, for tests of what runs on a device."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_sdk.dna.genome import Row, block_from_rows
from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from edge_sdk.dna.schema import DnaSchema, default_schema
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.lookup_file import lookup_hash
from edge_sdk.sync.trust import MANIFEST_PREFIX, key_id
from genome_edge.v1 import dna_pb2, release_pb2

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LINEAGE = bytes(range(16))
LOOKUP_KEY = bytes(range(32))
AGREED = 1 << dna_pb2.CONSENT_PURPOSE_PERSONALISATION
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))

MARKERS = (
    "activity:flight-search", "activity:walk", "place:hotel", "channel:kiosk",
    "service:taxi", "service:train", "claim:organic", "brand:acme", "category:book",
)  # fmt: skip
OFFERS: tuple[dict[str, Any], ...] = (
    {"id": "taxi", "content": {"title": "A taxi"}, "dna": ["service:taxi"], "value": 2.0},
    {"id": "train", "content": {"title": "A train"}, "dna": ["service:train"]},
    {"id": "book", "content": {"title": "A book"}, "dna": ["category:book"]},
)
PLACEMENTS: tuple[dict[str, Any], ...] = (
    {"id": "lobby", "slots": 3, "explorer": "greedy"},
    {"id": "feed", "slots": 3, "shown": "view"},
)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def until(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """The first true answer; fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.005)
    return answer


def subject(number: int) -> bytes:
    return random.Random(number).randbytes(16)


def customer(number: int) -> str:
    """The app's own id of a customer."""
    return f"customer-{number:03d}"


@lru_cache(maxsize=4)
def _model(size: int) -> bytes:
    # Here, because subprocesses of tests import this file and need no model.
    from genome_server.learning.export import ModelFacts, tower_model
    from genome_server.learning.towers import random_towers

    return tower_model(
        random_towers(3, size), ModelFacts(vocabulary_lineage=LINEAGE, vocabulary_size=size)
    )


@dataclass(frozen=True)
class Town:
    """What a release is made of."""

    version: int = 1
    offers: Sequence[Mapping[str, Any]] = OFFERS
    placements: Sequence[Mapping[str, Any]] = PLACEMENTS
    expires_ms: int = field(default_factory=lambda: now_ms() + 30 * DAY_MS)
    created_ms: int = field(default_factory=now_ms)
    schema_epoch: int = 1
    assets: Mapping[str, bytes] = field(default_factory=dict)
    #: Pictures and the like: parts that come after the release.
    files: Mapping[str, bytes] = field(default_factory=dict)
    genomes: Sequence[Row] = ()

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(LINEAGE, [*BUILTIN_MARKERS, *MARKERS])

    @property
    def schema(self) -> DnaSchema:
        # A round hour in the past, the same for every town of a test.
        landmark = (now_ms() // HOUR_MS // 10_000) * 10_000 - 2_000
        return default_schema(landmark, self.schema_epoch)

    @property
    def lineage(self) -> dna_pb2.Lineage:
        return self.schema.lineage(self.vocabulary)

    def parts(self) -> dict[str, bytes]:
        words = self.vocabulary
        products = release_pb2.ProductTable(
            ids=["poems"], counts=[1], indices=[words.index("category:book") or 0],
            saliences_q8=[256],
        )  # fmt: skip
        offers = [offer_from_document(doc) for doc in self.offers]
        placements = [placement_from_document(doc) for doc in self.placements]
        return {
            "schema": self.schema.to_proto().SerializeToString(),
            "vocabulary": words.to_proto().SerializeToString(),
            "offers": release_pb2.OfferCatalogue(offers=offers).SerializeToString(),
            "placements": release_pb2.PlacementList(placements=placements).SerializeToString(),
            "products": products.SerializeToString(),
            "model": _model(len(words)),
            **self.assets,
        }

    def signed(self) -> release_pb2.SignedManifest:
        manifest = release_pb2.Manifest(
            format=1,
            tenant="town",
            version=self.version,
            created_ms=self.created_ms,
            expires_ms=self.expires_ms,
            lineage=self.lineage,
            parts=[
                release_pb2.Part(name=n, size=len(c), sha256=hashlib.sha256(c).digest())
                for n, c in self.parts().items()
            ]
            + [
                release_pb2.Part(name=n, size=len(c), sha256=hashlib.sha256(c).digest(), asset=True)
                for n, c in self.files.items()
            ],
        ).SerializeToString()
        public = _KEY.public_key().public_bytes_raw()
        signature = release_pb2.ManifestSignature(
            key_id=key_id(public), signature=_KEY.sign(MANIFEST_PREFIX + manifest)
        )
        return release_pb2.SignedManifest(manifest=manifest, signatures=[signature])

    def bundle(self) -> bytes:
        contents = {**self.parts(), **self.files}
        public = _KEY.public_key().public_bytes_raw()
        return release_pb2.Bundle(
            manifest=self.signed(),
            root=release_pb2.TrustRoot(
                tenant="town", version=1, release_keys=[public], threshold=1
            ),
            parts=[release_pb2.PartContent(name=n, content=c) for n, c in contents.items()],
            genomes=[block_from_rows(self.lineage, self.genomes)] if self.genomes else [],
        ).SerializeToString()

    def stage(self, store: DeviceStore) -> None:
        """Put the parts into a store."""
        for content in self.parts().values():
            store.stage_part(hashlib.sha256(content).digest(), content)

    def commit(self, store: DeviceStore) -> bool:
        """Make this the store's release, as a sync would."""
        self.stage(store)
        return store.commit_release(self.signed().SerializeToString(), self.version)


def row(
    number: int, *, consents: int = AGREED, markers: Mapping[str, int] | None = None, town: Town
) -> Row:
    """A genome row: strength codes by marker."""
    words = town.vocabulary
    strengths = {"claim:organic": 100, "brand:acme": 90} if markers is None else markers
    pairs = sorted((words.index(name) or 0, code) for name, code in strengths.items())
    return Row(
        subject=subject(number),
        consents=consents,
        as_of_hour=10,
        indices=np.array([index for index, _ in pairs], dtype=np.uint32),
        codes=np.array([code for _, code in pairs], dtype=np.uint8),
    )


def commit_rows(
    store: DeviceStore,
    rows: Sequence[Row],
    town: Town,
    *,
    full: bool = True,
    known: Sequence[int] = (),
    **more: Any,
) -> int:
    """Commit rows, and lookups of the app's ids of `known` customers, as a sync would."""
    hashes = b"".join(lookup_hash(LOOKUP_KEY, customer(n)) for n in known)
    subjects = b"".join(subject(n) for n in known)
    return store.commit_genomes(
        full=full,
        lineage=town.lineage,
        blocks=[block_from_rows(town.lineage, rows)] if rows else [],
        lookup_key=LOOKUP_KEY,
        lookups=[(hashes, subjects)],
        cursor=more.pop("cursor", b"cursor"),
        **more,
    )


def filled(path: Path, town: Town | None = None, customers: int = 3) -> Town:
    """A store at `path` with a release and customers 0 … n − 1, who agreed."""
    town = town or Town()
    store = DeviceStore.open(path)
    town.commit(store)
    rows = [row(n, town=town) for n in range(customers)]
    commit_rows(store, rows, town, known=range(customers))
    store.close()
    return town
