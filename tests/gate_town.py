"""A tenant whose log was made by the real engine, in a world whose truth is known.

Guests come to a screen while they do something; each of four offers goes with one activity, and
with young people a little more. What is true is a model itself (`TRUTH`), so that candidates can be
as good as it, worse, or wrong in one way at a time. The model in force knows half of it (`HALF`).
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from edge_sdk.context import Context
from edge_sdk.dna.genome import NOBODY, Genome
from edge_sdk.dna.imprint import (
    GenomeState,
    contribution,
    encode_row,
    event_weight,
    explode,
    profile_strengths,
)
from edge_sdk.dna.markers import BUILTIN_MARKERS
from edge_sdk.engine.decide import coarse, decide
from edge_sdk.engine.release import Release
from edge_sdk.engine.scoring import open_scorer
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.dna_file import add_profile_namespaces
from genome_server.genomes.build import build
from genome_server.genomes.rows import needed_schema
from genome_server.home import Home, Tenant
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.towers import Shape, Towers
from genome_server.log import Committer, LogReader
from genome_server.models.shelf import keep_model, model_id, promote_model
from genome_server.releases.publish import part_content, publish
from genome_server.store.protocol import (
    CONSENT_LEARNING,
    CONSENT_PERSONALISATION,
    CustomerRow,
    Store,
)
from tests.serving import make_home

HOUR_MS: Final = 3_600_000
#: The log is over and its windows are closed. Events are never from after they were received.
NOW: Final = time.time_ns() // 1_000_000 // HOUR_MS * HOUR_MS - 24 * HOUR_MS
BEGIN: Final = NOW - 20 * 24 * HOUR_MS
#: Up to when every model here says that it learned.
TRAINED: Final = BEGIN - HOUR_MS
OFFERS: Final = ("taxi", "spa", "bar", "tour")
ACTIVITIES: Final = ("activity:fly", "activity:rest", "activity:thirst", "activity:look")
ANSWERS: Final = ("answer:yes", "answer:no")
GUESTS: Final = 250
DECISIONS: Final = 900
IMPORTED: Final = 200
GAMMA, FLOOR = 20, 0.2
SCREEN: Final = {
    "id": "screen",
    "explorer": "squarecb",
    "gamma": GAMMA,
    "floor": FLOOR,
    "outcome_window_hours": 2,
}
_BATCH: Final = 10
_made: list[Path] = []
_BOTH: Final = CONSENT_LEARNING | CONSENT_PERSONALISATION


@dataclass(frozen=True)
class Likes:
    """What a model says: logits for everything, for what goes together, for the young, for markers
    of its own. `dimension` makes it slow, and large; `never` is an offer that nobody would take."""

    base: float = -1.6
    match: float = 2.4
    young: float = 0.12
    more: Mapping[str, float] | None = None
    dimension: int = len(OFFERS)
    never: str = ""


TRUTH: Final = Likes()
HALF: Final = Likes(base=-1.25, match=1.2)


def model(store: Store, likes: Likes, trained_ms: int = TRAINED) -> bytes:
    """A file of the default architecture that says exactly this."""
    vocabulary = store.vocabulary()
    size, d = len(vocabulary), likes.dimension
    asked = [*ACTIVITIES, "age:young", *(likes.more or {})]
    n = len(asked)
    at = {name: vocabulary.index(name) for name in (*asked, *(f"service:{o}" for o in OFFERS))}
    query_row = np.zeros(size, np.int64)
    query_table = np.zeros((n + 1, 1, n), np.float32)
    output = np.zeros((1, n, d + 1), np.float32)
    for number, name in enumerate(asked):
        index = at[name]
        assert index is not None, name
        query_row[index] = number + 1
        query_table[number + 1, 0, number] = 1
        if name in ACTIVITIES:
            output[0, number, number] = likes.match
        elif name == "age:young":
            output[0, number, d] = likes.young
        else:
            output[0, number, d] = (likes.more or {})[name]
    offer_row = np.zeros(size, np.int64)
    offer_table = np.zeros((len(OFFERS) + 1, 1, d + 1), np.float32)
    for number, name in enumerate(OFFERS):
        index = at[f"service:{name}"]
        assert index is not None
        offer_row[index] = number + 1
        offer_table[number + 1, 0, number] = 1
        offer_table[number + 1, 0, d] = -6.0 if name == likes.never else 0.0
    bias = np.zeros((1, d + 1), np.float32)
    bias[0, d] = likes.base
    towers = Towers(
        shape=Shape(members=1, width=n, hidden=n, dimension=d),
        query_row=query_row,
        query_table=query_table,
        query_bias=np.zeros((1, n), np.float32),
        hidden_weight=np.eye(n, dtype=np.float32)[None],
        hidden_bias=np.zeros((1, n), np.float32),
        output_weight=output,
        output_bias=bias,
        offer_row=offer_row,
        offer_table=offer_table,
    )
    return tower_model(towers, ModelFacts(vocabulary.lineage, size, trained_ms))


def take(tenant: Tenant, likes: Likes, *, trained_ms: int = TRAINED, **report: Any) -> str:
    """Put a model on the shelf, and let the next release take it; its id."""
    with closing(tenant.open_store()) as store:
        content = model(store, likes, trained_ms)
        facts = {"origin": "trained", "parity": {"max_difference": 1e-7}, **report}
        keep_model(tenant.models_dir, content, facts)
        promote_model(tenant.models_dir, store, model_id(content))
    return model_id(content)


def copy_town(root: Path, factory: pytest.TempPathFactory) -> Tenant:
    """A tenant of one's own below `root`; the town is made once for all tests."""
    if not _made:
        home = factory.mktemp("gate-town")
        make_town(home)
        _made.append(home)
    shutil.copytree(_made[0], root, dirs_exist_ok=True)
    return Home(root).tenant()


def make_town(root: Path, seed: int = 1, screen: Mapping[str, Any] = SCREEN) -> Tenant:
    """The tenant, with release 1 in force and a log of what followed."""
    home: Home = make_home(root, [f"guest-{n}" for n in range(GUESTS)])
    tenant = home.tenant()
    refusal = '  dismiss: {weight: 1, prefix: "not-", label: refusal}\n'
    tenant.dna_path.write_text(tenant.dna_path.read_text() + refusal)
    with closing(tenant.open_store()) as store:
        store.put_documents("placement", [("screen", dict(screen))])
        store.put_documents(
            "offer",
            [(name, {"id": name, "dna": [f"service:{name}"], "value": 1.0}) for name in OFFERS],
        )
        subjects = store.subjects_of("app", [f"guest-{n}" for n in range(GUESTS)])
        ages = ("age:young", "age:old")
        add_profile_namespaces(store, ["age"])
        store.put_customers(
            CustomerRow(subject, ((ages[n % 2], 256),), _BOTH)
            for n, subject in enumerate(subjects.values())
        )
        offered = (f"service:{name}" for name in OFFERS)
        store.extend_vocabulary([*BUILTIN_MARKERS, *ACTIVITIES, *ages, *ANSWERS, *offered])
        build(store, None, tenant.dna_path)
    take(tenant, HALF)
    made = publish(tenant, now_ms=BEGIN - HOUR_MS)
    parts = {part.name: part_content(tenant, part) for part in made.manifest.parts}
    release = Release.from_parts(made.manifest, parts)
    with closing(tenant.open_store()) as store:
        write_log(tenant, store, release, list(subjects.values()), seed)
        with LogReader(tenant.log_path) as log:
            build(store, log, tenant.dna_path)
    return tenant


def write_log(
    tenant: Tenant, store: Store, release: Release, guests: list[bytes], seed: int
) -> None:
    """Guests and strangers decide by the release, and buy as it is true; others were imported."""
    rng = np.random.default_rng(seed)
    schema, vocabulary = needed_schema(store), store.vocabulary()
    scorer = open_scorer(model(store, TRUTH), vocabulary)
    vectors = scorer.vectors([release.dna(row) for row in range(len(release.catalogue))])
    states: dict[bytes, GenomeState] = {}
    profiles = {
        guest: profile_strengths(schema, vocabulary, [(("age:young", "age:old")[n % 2], 256)])
        for n, guest in enumerate(guests)
    }
    frames: list[bytes] = []
    times: list[int] = []

    def add(subject: bytes, kind: FrameKind, ms: int, **payload: Any) -> None:
        event = event_pb2.Event(time=event_pb2.EventTime(wall_ms=ms, offset_known=True), **payload)
        times.append(ms)
        frames.append(
            encode_frame(Frame(len(frames) + 1, subject, kind, ms, event.SerializeToString()))
        )

    for number in range(DECISIONS):
        ms = BEGIN + number * 15 * 60_000 // 2
        guest = guests[int(rng.integers(len(guests)))] if number % 5 else NOBODY
        genome = None
        if guest != NOBODY:
            state = states.setdefault(guest, GenomeState())
            row = encode_row(state, profiles[guest], schema, vocabulary)
            genome = Genome(row, schema, vocabulary)
        activity = int(rng.integers(4))
        context = Context(activity=ACTIVITIES[activity].removeprefix("activity:"))
        _, record = decide(
            release, context, "screen", genome=genome, consents=_BOTH, now_ms=ms,
            seed=int(rng.integers(1 << 62)), decision_id=number.to_bytes(16),
        )  # fmt: skip
        said = coarse(record.to_proto())
        add(guest, FrameKind.DECISION, ms, decision=said)
        offer = said.slots[0].offer
        at = release.catalogue.row_of[offer]
        moment = record.inputs.moment
        parts = (record.inputs.genome_indices, moment.indices)
        weights = (record.inputs.genome_weights, moment.weights)
        query = np.concatenate(parts), np.concatenate(weights)
        if rng.random() < float(scorer.values(*query, vectors[at : at + 1])[0]):
            after = ms + 60_000
            bought = event_pb2.Outcome(decision_id=number.to_bytes(16), kind="buy", offer=offer)
            add(guest, FrameKind.OUTCOME, after, outcome=bought)
            if guest != NOBODY:
                weight = event_weight(schema, "buy", 0)
                hour = after // HOUR_MS
                for name, salience, half_life in explode(
                    schema, "buy", [(f"service:{offer}", 256)]
                ):
                    index = vocabulary.index(name)
                    assert index is not None
                    age = hour - schema.landmark_hour
                    states[guest].add(index, contribution(weight, salience, age, half_life), hour)
    for number in range(IMPORTED):
        # What a careless import says of the moment was written when the answer was known.
        about, activity = int(rng.integers(4)), int(rng.integers(4))
        logit = TRUTH.base + TRUTH.match * (about == activity)
        yes = bool(rng.random() < 1 / (1 + np.exp(-logit)))
        told = event_pb2.Interaction(
            kind="buy" if yes else "dismiss",
            offer=OFFERS[about],
            interaction_id=f"imported-{number}",
            context_markers=[ACTIVITIES[activity], ANSWERS[0 if yes else 1]],
        )
        guest = guests[int(rng.integers(len(guests)))]
        add(guest, FrameKind.INTERACTION, NOW - 2 * HOUR_MS + number, interaction=told)
    received = 0
    with Committer(tenant.log_path, now_ms=lambda: received) as log:
        for begin in range(0, len(frames), _BATCH):
            some = b"".join(frames[begin : begin + _BATCH])
            last = min(begin + _BATCH, len(frames))
            received = times[last - 1] + 1_000
            digest = hashlib.sha256(some).digest()
            log.append_batch("screen-1", b"e" * 16, 1, begin + 1, last, some, digest)
