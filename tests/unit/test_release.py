"""A release out of verified parts, a bundle out of a file, a model that is checked."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_sdk.context import Context
from edge_sdk.decision import Reason
from edge_sdk.dna.markers import BUILTIN_MARKERS, Vocabulary
from edge_sdk.dna.schema import default_schema
from edge_sdk.engine.decide import decide
from edge_sdk.engine.fake_release import SharedDna
from edge_sdk.engine.offers import offer_from_document, placement_from_document
from edge_sdk.engine.policy import SquareCB
from edge_sdk.engine.release import Release, load_bundle
from edge_sdk.engine.scoring import OnnxScorer
from edge_sdk.engine.scoring_towers import TowerScorer
from edge_sdk.errors import TrustError
from edge_sdk.sync.trust import MANIFEST_PREFIX, Refusal, key_id
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.learning.export import ModelFacts, tower_model, untrained_model
from genome_server.learning.towers import Shape, random_towers

WORDS = Vocabulary(bytes(range(16)), [*BUILTIN_MARKERS, "ride:taxi", "drink:beer"])
SCHEMA = default_schema(480_000)
MODEL = tower_model(
    random_towers(5, len(WORDS), Shape(members=2, width=8, hidden=4, dimension=4)),
    ModelFacts(WORDS.lineage, len(WORDS)),
)
OFFERS = release_pb2.OfferCatalogue(
    offers=[
        offer_from_document({"id": "taxi", "dna": ["ride:taxi"]}),
        offer_from_document({"id": "beer", "dna": ["drink:beer", "new:marker"]}),
    ]
)
PLACEMENTS = release_pb2.PlacementList(
    placements=[
        placement_from_document(
            {
                "id": "lobby",
                "slots": 2,
                "explorer": "squarecb",
                "gamma": 7,
                "floor": 0.5,
                "shown": "view",
                "house_offer": "beer",
                "channel": "screen",
            }
        ),
        release_pb2.PlacementSpec(id="bare"),
    ]
)


def golden() -> bytes:
    """What the model gives, as the publisher would write it down."""
    scorer = OnnxScorer(MODEL, WORDS)
    vectors = scorer.vectors([[(WORDS.index("ride:taxi") or 0, 1.0)]])
    values = scorer.values(np.array([3]), np.ones(1, np.float32), vectors)
    vector = release_pb2.GoldenVector(
        indices=[3], weights=[1.0], offers=["taxi"], values=values.tolist()
    )
    return release_pb2.GoldenVectors(vectors=[vector]).SerializeToString()


def parts(**changed: bytes | None) -> dict[str, bytes]:
    made: dict[str, bytes | None] = {
        "schema": SCHEMA.to_proto().SerializeToString(),
        "vocabulary": WORDS.to_proto().SerializeToString(),
        "offers": OFFERS.SerializeToString(),
        "placements": PLACEMENTS.SerializeToString(),
        "model": MODEL,
        "golden": golden(),
        **changed,
    }
    return {name: content for name, content in made.items() if content is not None}


def manifest(contents: dict[str, bytes], **fields: Any) -> release_pb2.Manifest:
    said = {"format": 1, "tenant": "t", "version": 7, "created_ms": 1, "expires_ms": 2, **fields}
    return release_pb2.Manifest(
        **{"lineage": SCHEMA.lineage(WORDS), **said},
        parts=[
            release_pb2.Part(name=n, size=len(c), sha256=hashlib.sha256(c).digest())
            for n, c in contents.items()
        ],
    )


def release(**changed: bytes | None) -> Release:
    contents = parts(**changed)
    return Release.from_parts(manifest(contents), contents)


def refused(reason: Refusal, **changed: bytes | None) -> str:
    with pytest.raises(TrustError) as caught:
        release(**changed)
    assert caught.value.reason == reason
    return str(caught.value)


def test_a_release_is_made_of_its_parts() -> None:
    made = release()
    assert made.version == 7
    assert made.catalogue.ids == ["taxi", "beer"]
    lobby = made.placements["lobby"]
    assert (lobby.max_slots, lobby.channel, lobby.shown_on_view, lobby.house) == (
        2,
        "screen",
        True,
        1,
    )
    assert isinstance(lobby.explorer, SquareCB)
    assert (lobby.explorer.gamma, lobby.explorer.floor) == (7, 0.5)
    assert made.placements["bare"].max_slots == 1
    assert made.schema == SCHEMA
    made.warm()
    made.check_golden()
    assert made.scoring.vectors.shape == (2, made.scorer.dimension)  # type: ignore[attr-defined]
    assert decide(made, Context(), "lobby")[0].offer is not None


def test_the_model_is_opened_once_and_late() -> None:
    made = release()
    opened = []
    inner = made._make_scorer

    def slow() -> Any:
        opened.append(1)
        return inner()

    made._make_scorer = slow
    threads = [threading.Thread(target=made.warm) for _ in range(4)]
    assert opened == []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [1]


def test_parts_that_are_missing_or_cannot_be_read() -> None:
    for name in ("schema", "vocabulary", "offers", "placements", "model"):
        assert name in refused(Refusal.PARTS, **{name: None})
    for name in ("schema", "vocabulary", "offers", "placements", "products", "places", "golden"):
        assert name in refused(Refusal.FORMAT, **{name: b"\xff\xff\xff"})
    release(golden=None).check_golden()  # nothing to check, nothing raised


def test_parts_that_make_no_sense() -> None:
    twice = release_pb2.OfferCatalogue(offers=[OFFERS.offers[0], OFFERS.offers[0]])
    assert "'taxi' stands twice" in refused(Refusal.FORMAT, offers=twice.SerializeToString())
    unknown = release_pb2.PlacementList(
        placements=[release_pb2.PlacementSpec(id="x", explorer="thompson")]
    )
    assert "thompson" in refused(Refusal.FORMAT, placements=unknown.SerializeToString())
    short = dna_pb2.Vocabulary(lineage=b"short", markers=["a:b"])
    refused(Refusal.FORMAT, vocabulary=short.SerializeToString())


def test_the_manifest_and_the_parts_must_mean_the_same_rows() -> None:
    contents = parts()
    for change in (
        {"vocabulary_lineage": bytes(16)},
        {"vocabulary_size": len(WORDS) + 1},
        {"schema_epoch": 9},
        {"landmark_hour": 1},
        {"quantiser": 1},
    ):
        lineage = SCHEMA.lineage(WORDS)
        for name, value in change.items():
            setattr(lineage, name, value)
        with pytest.raises(TrustError) as caught:
            Release.from_parts(manifest(contents, lineage=lineage), contents)
        assert caught.value.reason == Refusal.LINEAGE
    # Rows encoded before the vocabulary grew are fine.
    lineage = SCHEMA.lineage(WORDS)
    lineage.vocabulary_size -= 1
    Release.from_parts(manifest(contents, lineage=lineage), contents)


@pytest.mark.parametrize("model", [b"", MODEL[:-50], b"rubbish"])
def test_a_broken_model_is_found_before_the_swap(model: bytes) -> None:
    made = release(model=model)
    for check in (made.warm, made.check_golden, made.warm):
        with pytest.raises(TrustError) as caught:
            check()
        assert caught.value.reason == Refusal.MODEL


@pytest.mark.parametrize("with_golden", [True, False])
def test_a_model_that_is_evaluated_wrongly_here_is_left_to_the_runtime(
    with_golden: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tower_model(random_towers(5, len(WORDS)), ModelFacts(WORDS.lineage, len(WORDS)))
    runtime = OnnxScorer(model, WORDS)
    at, weights = np.array([3]), np.ones(1, np.float32)
    values = runtime.values(at, weights, runtime.vectors([[(WORDS.index("ride:taxi") or 0, 1.0)]]))
    vector = release_pb2.GoldenVector(
        indices=[3], weights=[1.0], offers=["taxi"], values=values.tolist()
    )
    said = release_pb2.GoldenVectors(vectors=[vector]).SerializeToString()
    changed = {"model": model, "golden": said if with_golden else None}
    made = release(**changed)
    made.warm()
    made.check_golden()
    assert isinstance(made.scorer, TowerScorer)
    inner = TowerScorer.values
    monkeypatch.setattr(TowerScorer, "values", lambda *args: inner(*args) + np.float32(2e-5))
    made = release(**changed)
    made.warm()
    made.check_golden()
    assert isinstance(made.scorer, OnnxScorer)
    assert "left to the runtime" in caplog.text
    assert isinstance(made.renewed().scorer, OnnxScorer)
    assert decide(made, Context(), "lobby")[0].reason is not Reason.UNSCORED


def test_golden_vectors_tell_another_model() -> None:
    made = release(model=untrained_model(ModelFacts(WORDS.lineage, len(WORDS))))
    with pytest.raises(TrustError, match=r"'taxi' has value 0\.500000 here") as caught:
        made.check_golden()
    assert caught.value.reason == Refusal.GOLDEN

    odd = release_pb2.GoldenVectors(
        vectors=[release_pb2.GoldenVector(offers=["ghost"], values=[0.5])]
    )
    with pytest.raises(TrustError, match="not in the catalogue"):
        release(golden=odd.SerializeToString()).check_golden()
    odd.vectors[0].offers[0] = "taxi"
    odd.vectors[0].indices.append(1)
    with pytest.raises(TrustError, match="differ in length"):
        release(golden=odd.SerializeToString()).check_golden()
    odd.vectors[0].weights.append(1.0)
    odd.vectors[0].values[0] = float("nan")
    with pytest.raises(TrustError, match="nan where it was published"):
        release(golden=odd.SerializeToString()).check_golden()


def test_names_are_looked_up_once() -> None:
    made = release()
    first = made.nearest("marker", "ride:taxy")
    assert first.nearest == "ride:taxi"
    assert made.nearest("marker", "ride:taxy") is first
    assert made.nearest("placement", "loby").nearest == "lobby"
    for n in range(1100):
        made.nearest("placement", f"x{n}")
    assert len(made._nearest) <= 1024


def test_shared_dna_is_a_half_without_anything_in_common() -> None:
    scorer = SharedDna(WORDS)
    vectors = scorer.vectors([[(WORDS.index("ride:taxi") or 0, 1.0)], []])
    nothing = np.zeros(0, np.int64)
    assert scorer.values(nothing, nothing.astype(np.float32), vectors).tolist() == [0.5, 0.5]


# -- bundles


def bundle(contents: dict[str, bytes] | None = None, **fields: Any) -> release_pb2.Bundle:
    contents = contents if contents is not None else parts()
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    public = key.public_key().public_bytes_raw()
    body = manifest(contents, **fields).SerializeToString()
    signature = release_pb2.ManifestSignature(
        key_id=key_id(public), signature=key.sign(MANIFEST_PREFIX + body)
    )
    return release_pb2.Bundle(
        manifest=release_pb2.SignedManifest(manifest=body, signatures=[signature]),
        root=release_pb2.TrustRoot(tenant="t", version=1, release_keys=[public], threshold=1),
        parts=[release_pb2.PartContent(name=n, content=c) for n, c in contents.items()],
        genomes=[dna_pb2.GenomeBlock(subjects=bytes(16))],
    )


def test_a_bundle_is_verified_and_taken_apart() -> None:
    whole = bundle()
    signed, root, contents, blocks, _ = load_bundle(whole.SerializeToString())
    assert contents == parts()
    assert root == whole.root
    assert blocks[0].subjects == bytes(16)
    said = release_pb2.Manifest.FromString(signed.manifest)
    assert Release.from_parts(said, contents).version == 7
    assert load_bundle(whole.SerializeToString(), whole.root).root == whole.root


def bundle_refused(whole: release_pb2.Bundle, root: release_pb2.TrustRoot | None = None) -> str:
    with pytest.raises(TrustError) as caught:
        load_bundle(whole.SerializeToString(), root)
    return caught.value.reason


def test_bundles_that_are_not_believed(tmp_path: Path) -> None:
    whole = bundle()
    whole.manifest.signatures[0].signature = bytes(64)
    assert bundle_refused(whole) == Refusal.SIGNATURE

    whole = bundle()
    whole.parts[2].content += b"x"
    assert bundle_refused(whole) == Refusal.DIGEST

    whole = bundle()
    del whole.parts[3]
    assert bundle_refused(whole) == Refusal.PARTS

    pinned = bundle().root
    pinned.tenant = "another"
    assert bundle_refused(bundle(), pinned) == Refusal.ROOT

    with pytest.raises(TrustError, match="not a bundle"):
        load_bundle(b"\xff" * 40)
    cut = bundle().SerializeToString()[:-30]
    with pytest.raises(TrustError):
        load_bundle(cut)
