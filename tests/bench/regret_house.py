"""Our side of the closed loop: a real home of a server, and hundreds of devices.

What a device sends is in the log when it has a line. Every hour the server asks whether a training
is due (`train --if-due`), and where it is builds genomes out of its log, trains and publishes; so
it does every night, trained or not, for the genomes and the offers of tomorrow. A device takes that
when it next has a line: it decides by a model of hours ago, and the genome of its person knows what
was heard at that device since. Nothing here knows the truth.

Left out of what a real house does: the evaluation beside each training and the gate that asks it,
which `regret_gated` has, and the stream by which answers elsewhere reach a device within a second;
here they come with the rows of a release.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import scipy.sparse

from edge_sdk.context import Context
from edge_sdk.dna.genome import Row, rows_from_block
from edge_sdk.engine.release import Release
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.compare.segments import cluster
from genome_server.dna_file import add_profile_namespaces
from genome_server.dna_words import default_text
from genome_server.errors import Refused
from genome_server.gate.ask import Opened
from genome_server.genomes.build import build
from genome_server.genomes.rows import needed_schema
from genome_server.home import Home
from genome_server.learning import job
from genome_server.learning.due import Trained, count_answers
from genome_server.learning.due import judge as judge_due
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.train import Settings, train
from genome_server.log import Committer, LogReader
from genome_server.models.shelf import save_model
from genome_server.releases.check import load_as_device
from genome_server.releases.publish import part_content, publish
from genome_server.setup import set_up
from genome_server.store.rows import CustomerRow
from tests.bench.regret_devices import AGREED, PLACEMENT, Device, Published, Shown
from tests.bench.regret_loop import Judge, is_night
from tests.bench.world.covariates import Ints
from tests.bench.world.truth import DAY_MS, Offer

#: What a placement gets that says that it explores and nothing of how.
DEFAULT: Final[Mapping[str, Any]] = {"explorer": "squarecb"}
GREEDY: Final[Mapping[str, Any]] = {"explorer": "greedy"}
SEGMENTS: Final = 8
_FULL_Q8: Final = 256


@dataclass(frozen=True)
class Knows:
    """What is known of a person: the `profile`, in `segments` or not at all, and own `history`."""

    profile: bool = True
    segments: bool = False
    history: bool = True


GENOME: Final = Knows()
ONLY_SEGMENTS: Final = Knows(profile=False, segments=True, history=False)
ONLY_PROFILE: Final = Knows(history=False)
NOTHING: Final = Knows(profile=False, history=False)


@dataclass
class House:
    """Our policy. `placement` says how it explores, `knows` what genomes hold."""

    judge: Judge
    placement: Mapping[str, Any] = field(default_factory=lambda: DEFAULT)
    knows: Knows = GENOME
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        """Set up the home, import everybody, and publish without a model."""
        stream = self.judge.stream
        world = stream.world
        self._folder = tempfile.TemporaryDirectory()
        self._tenant = Home(Path(self._folder.name)).tenant()
        self._tenant.dir.mkdir(parents=True)
        begun = datetime.fromtimestamp(world.begin_ms / 1000, UTC)
        self._tenant.dna_path.write_text(default_text(begun))
        set_up(self._tenant)
        self._now_ms = world.begin_ms
        self._committer = Committer(self._tenant.log_path, now_ms=lambda: self._now_ms)
        self._trained: Trained | None = None
        people = world.real.people
        self._subjects = [_subject(number) for number in range(len(people))]
        self._contexts: dict[int, Context] = {}
        self._offer_of = {offer.id: number for number, offer in enumerate(world.offers)}
        self._shown: dict[int, Shown] = {}
        facts = self._facts(people)
        with closing(self._tenant.open_store()) as store:
            # As an import of customers does: what their profiles say counts as a profile's.
            add_profile_namespaces(store, {name.split(":")[0] for one in facts for name in one})
            store.extend_vocabulary(sorted({name for one in facts for name in one}))
            document = {"id": PLACEMENT, **self.placement}
            store.put_documents("placement", [(PLACEMENT, document)])
            store.put_customers(
                CustomerRow(subject, tuple((name, _FULL_Q8) for name in markers), AGREED)
                for subject, markers in zip(self._subjects, facts, strict=True)
            )
        newest = self._publish(trained=False)
        with closing(self._tenant.open_store()) as store:
            self._schema = needed_schema(store)
        personal = self.knows != NOTHING
        self._devices = [
            Device(f"device-{number}", number, newest, personal, self.knows.history)
            for number in range(stream.devices)
        ]

    def decide(self, moment: int, at_ms: int, live: Ints) -> int:
        """The device decides."""
        stream = self.judge.stream
        row, person = int(stream.row[moment]), stream.person(moment)
        device = self._devices[int(stream.device[moment])]
        shown = device.decide(moment, self._subjects[person], self._context(row, at_ms), at_ms)
        self._shown[moment] = shown
        return self._offer_of[shown.offer] if shown.offer else -1

    def hear(self, moment: int, kind: str, at_ms: int) -> None:
        """The device takes it down."""
        device = self._devices[int(self.judge.stream.device[moment])]
        device.hear(self._shown[moment], kind, at_ms)

    def sync(self, device: int, at_ms: int) -> None:
        """The device reports, and takes what is newest."""
        batch = self._devices[device].sync(self._newest, at_ms)
        if batch is not None:
            self._now_ms = at_ms
            self._committer.submit(batch).result()

    def hour(self, at_ms: int) -> None:
        """Train where it is due; build and publish then, and every night."""
        self._now_ms = at_ms
        if self._train() or is_night(at_ms):
            self._publish(trained=self._trained is not None)

    def close(self) -> None:
        """Remove the home."""
        self._committer.close()
        self._folder.cleanup()

    def _facts(self, people: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
        """What the profile of each person says here."""
        if self.knows.profile:
            return people
        if not self.knows.segments:
            return [()] * len(people)
        return [(f"segment:{label}",) for label in segments_of(people)]

    def _train(self) -> bool:
        """Learn from the log where that is due; False where it is not, or there is too little."""
        with LogReader(self._tenant.log_path) as log:
            answers = count_answers(log, self._schema, self._trained)
            events = log.end()
        if not judge_due(answers, self._trained, self._now_ms).due or not self._learn():
            return False
        self._trained = Trained(self._now_ms, answers, events)
        return True

    def _learn(self) -> bool:
        """Keep a model of all that is in the log; False where that is too little."""
        with closing(self._tenant.open_store()) as store:
            self._build(store)
            examples, counts, vocabulary = job._gather(
                self._tenant, store, self._now_ms, job._silence
            )
            try:
                job.check_enough(examples, counts)
            except Refused:
                return False
            towers = train(examples, None, self.settings)
            facts = ModelFacts(
                vocabulary_lineage=vocabulary.lineage,
                vocabulary_size=len(vocabulary),
                trained_ms=examples.newest_ms,
                examples=len(examples),
            )
            save_model(self._tenant.models_dir, store, tower_model(towers, facts), {})
        return True

    def _build(self, store: Any) -> None:
        with LogReader(self._tenant.log_path) as log:
            build(store, log, self._tenant.dna_path, now_ms=self._now_ms)

    def _publish(self, *, trained: bool) -> Published:
        """Publish what is there now, and what the newest model says of it, to all devices."""
        rows = self._prepare()
        with patch("genome_server.gate.ask.ask", return_value=Opened()):
            done = publish(self._tenant, untrained=not trained, now_ms=self._now_ms)
        self._newest = Published(self._load(done.manifest), rows, self._now_ms)
        return self._newest

    def _prepare(self) -> dict[bytes, Row]:
        """Import what will be there until the night after next, and build; the genomes of now."""
        world = self.judge.stream.world
        soon = [one for one in world.offers if one.from_ms < self._now_ms + 2 * DAY_MS]
        with closing(self._tenant.open_store()) as store:
            store.put_documents("offer", [(one.id, _document(one)) for one in soon])
            self._build(store)
            rows = {}
            for record in store.genomes():
                for row in rows_from_block(dna_pb2.GenomeBlock.FromString(record.row)):
                    rows[row.subject] = row
        return rows

    def _load(self, manifest: release_pb2.Manifest) -> Release:
        """A release as devices have it."""
        parts = {part.name: part_content(self._tenant, part) for part in manifest.parts}
        return load_as_device(manifest, parts)

    def _context(self, row: int, at_ms: int) -> Context:
        known = self._contexts.get(row)
        if known is None:
            real = self.judge.stream.world.real
            known = Context(place=real.place, attributes=dict(real.context[row]))
            self._contexts[row] = known
        return known.at(datetime.fromtimestamp(at_ms / 1000, UTC))


def segments_of(people: Sequence[Sequence[str]]) -> list[int]:
    """In which segment each person is, by the product's own rule on their profiles."""
    names = sorted({name for markers in people for name in markers})
    column = {name: at for at, name in enumerate(names)}
    carriers = np.zeros(len(names))
    for markers in people:
        carriers[[column[name] for name in markers]] += 1
    rarity = np.log1p((len(people) + 1) / (carriers + 1))
    dense = np.zeros((len(people), len(names)))
    for row, markers in zip(dense, people, strict=True):
        chosen = [column[name] for name in markers]
        row[chosen] = rarity[chosen]
        length = np.sqrt((row**2).sum())
        if length:
            row /= length
    labels: list[int] = cluster(scipy.sparse.csr_array(dense), SEGMENTS).labels.tolist()
    return labels


def _document(offer: Offer) -> dict[str, Any]:
    return {
        "id": offer.id,
        "content": {"title": offer.id},
        "dna": list(offer.dna),
        "value": 1.0,
        "valid": {"from": _iso(offer.from_ms), "until": _iso(offer.until_ms)},
    }


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def _subject(number: int) -> bytes:
    return hashlib.blake2b(f"person {number}".encode(), digest_size=16).digest()
