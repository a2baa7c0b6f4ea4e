"""Releases as a server publishes and signs them, and a certificate for it. Written from
docs/wire.md, like `contract_server`."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema, default_schema
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.learning.export import ModelFacts, untrained_model

DAY_MS = 86_400_000
TENANT = "acme"
ANNA, BEN, CLEO = b"a" * 16, b"b" * 16, b"c" * 16
MARKERS = ("service:taxi", "place:hotel", "activity:flight-search", "brand:acme", "claim:organic")


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def key_id(public: bytes) -> str:
    """As in the contract."""
    return hashlib.sha256(public).digest()[:8].hex()


def signed(content: bytes, *keys: Ed25519PrivateKey) -> release_pb2.SignedManifest:
    """A manifest signed by these keys."""
    return release_pb2.SignedManifest(
        manifest=content,
        signatures=[
            release_pb2.ManifestSignature(
                key_id=key_id(key.public_key().public_bytes_raw()),
                signature=key.sign(b"genome-edge/manifest/v1\n" + content),
            )
            for key in keys
        ],
    )


@dataclass
class Published:
    """A release as a server holds it."""

    manifest: release_pb2.Manifest
    signed: release_pb2.SignedManifest
    parts: dict[bytes, bytes]


@dataclass
class Publisher:
    """Makes signed releases of one tenant."""

    tenant: str = TENANT
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    schema: DnaSchema = field(default_factory=lambda: default_schema(400_000))
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(bytes(range(16)), MARKERS))

    @property
    def root(self) -> release_pb2.TrustRoot:
        """What devices are pinned to."""
        public = self.key.public_key().public_bytes_raw()
        return release_pb2.TrustRoot(
            tenant=self.tenant, version=1, release_keys=[public], threshold=1
        )

    @property
    def lineage(self) -> dna_pb2.Lineage:
        """Of the rows that go with the releases."""
        return self.schema.lineage(self.vocabulary)

    def contents(self, version: int) -> dict[str, bytes]:
        """The parts of a release that differs a little from version to version."""
        taxi = release_pb2.OfferSpec(
            id="taxi",
            content={"title": f"Taxi {version}"},
            dna=[dna_pb2.WeightedMarker(marker="service:taxi", salience_q8=256)],
            value_micros=1_000_000,
        )
        facts = ModelFacts(self.vocabulary.lineage, len(self.vocabulary), 0)
        parts = {
            "schema": self.schema.to_proto(),
            "vocabulary": self.vocabulary.to_proto(),
            "offers": release_pb2.OfferCatalogue(offers=[taxi]),
            "placements": release_pb2.PlacementList(
                placements=[release_pb2.PlacementSpec(id="lobby", max_slots=2, explorer="greedy")]
            ),
            "products": release_pb2.ProductTable(),
            "places": release_pb2.PlaceTable(),
            "golden": release_pb2.GoldenVectors(
                vectors=[
                    release_pb2.GoldenVector(
                        indices=[1], weights=[1.0], offers=["taxi"], values=[0.5]
                    )
                ]
            ),
        }
        contents = {name: part.SerializeToString() for name, part in parts.items()}
        return {**contents, "model": untrained_model(facts)}

    def release(
        self,
        version: int,
        *,
        change: Mapping[str, bytes] | None = None,
        edit: Callable[[release_pb2.Manifest], None] | None = None,
        key: Ed25519PrivateKey | None = None,
    ) -> Published:
        """Publish: `change` replaces parts, `edit` the manifest before it is signed by `key`."""
        contents = {**self.contents(version), **(change or {})}
        manifest = release_pb2.Manifest(
            format=1,
            tenant=self.tenant,
            version=version,
            created_ms=now_ms(),
            expires_ms=now_ms() + 30 * DAY_MS,
            channel="stable",
            lineage=self.lineage,
            parts=[
                release_pb2.Part(
                    name=name, size=len(content), sha256=hashlib.sha256(content).digest()
                )
                for name, content in contents.items()
            ],
        )
        if edit is not None:
            edit(manifest)
        parts = {
            part.sha256: contents[part.name] for part in manifest.parts if part.name in contents
        }
        return Published(manifest, signed(manifest.SerializeToString(), key or self.key), parts)


def rows(lineage: dna_pb2.Lineage, *subjects: bytes) -> dna_pb2.GenomeBlock:
    """A block with a row of one marker for each subject."""
    n = len(subjects)
    return dna_pb2.GenomeBlock(
        lineage=lineage,
        subjects=b"".join(subjects),
        consents=[2] * n,
        as_of_hours=[3] * n,
        counts=[1] * n,
        index_deltas=[1] * n,
        strengths=bytes([40] * n),
    )


def golden(value: float) -> dict[str, bytes]:
    """Golden vectors that ask for this value of the only offer, as a changed part."""
    vector = release_pb2.GoldenVector(indices=[1], weights=[1.0], offers=["taxi"], values=[value])
    return {"golden": release_pb2.GoldenVectors(vectors=[vector]).SerializeToString()}


def certificate(folder: Path) -> tuple[grpc.ServerCredentials, Path]:
    """Server credentials for localhost, and the file of the authority that vouches for them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - dt.timedelta(days=1))
        .not_valid_after(today + dt.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / "ca.pem"
    file.write_bytes(pem)
    return grpc.ssl_server_credentials([(private, pem)]), file
