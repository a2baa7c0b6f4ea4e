"""Real histories, cut anyhow into what a build takes and what comes live: one build's genomes.

The states, the rows and their codes are compared to the bit: with those of one build of everything
(DuckDB) and with those of the SDK, event by event. A store's vocabulary gives its markers their
indices, and of markers that rank alike at the cut the smaller index stays: so all stores here were
told the markers in one order, as importing products does. And all go by one count of what is
distinct, as if `dna count` had been asked once.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge_sdk.dna.genome import Row
from edge_sdk.dna.imprint import encode_row
from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import event_pb2
from genome_server.dna_words import default_text
from genome_server.genomes.build import build
from genome_server.genomes.distinct import Counted, table
from genome_server.genomes.distinct_kept import Kept, keep
from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import SubjectState, built_schema, row_of
from genome_server.home import Tenant
from genome_server.log import Committer, LogReader
from genome_server.store.protocol import CustomerRow
from genome_server.store.sqlite import SqliteStore
from tests.aggregations import Done, History, reference
from tests.histories import complete_journey, starbucks_rewards
from tests.serving import AGREED

pytestmark = pytest.mark.dataset
PEOPLE = 120
HOUR_MS = 3_600_000
# How many of a batch's events the log takes at once.
_AT_ONCE = 500


class Genome(NamedTuple):
    """All that the server keeps of a subject, and the row that devices get of it."""

    state: bytes
    row: Row


@cache
def some_of(read: Callable[[], History], people: int) -> History:
    """What so many people of a set did, who were drawn: their subjects are hashes."""
    told = read()
    chosen = set(sorted({done.subject for done in told.done})[:people])
    # A document names a marker once: a grocer's salad bar is a department and a category.
    dna = {thing: list(dict(markers).items()) for thing, markers in told.dna.items()}
    return replace(told, dna=dna, done=[d for d in told.done if d.subject in chosen])


def distinct_of(told: History) -> bytes:
    """Which markers tell apart, counted one by one."""
    met: set[bytes] = set()
    times, every = Counter[str](), 0
    for done in told.done:
        if done.id is not None and done.id in met:
            continue
        if done.id is not None:
            met.add(done.id)
        every += 1
        times.update({marker for marker, _ in told.dna[done.thing]})
    counts = [times[marker] for marker in told.vocabulary]
    return table(Counted(every, len(told.done), np.array(counts, np.int64)))


@dataclass
class Shop:
    """A tenant whose catalogue, people and schema are those of a history, and an empty log."""

    tenant: Tenant
    told: History
    quantiser: int
    now_ms: int = field(init=False)
    _sequence: int = 0

    def __post_init__(self) -> None:
        told, schema = self.told, self.told.schema
        landmark = datetime.fromtimestamp(schema.landmark_hour * 3600, UTC)
        text = default_text(landmark)
        text = re.sub(r"(?m)^landmark: .*", f"landmark: {landmark.isoformat()}", text)
        text = re.sub(r"(?m)^quantiser: .*", f"quantiser: {self.quantiser}", text)
        self.tenant.dna_path.write_text(text)
        last = max(done.hours for done in told.done)
        self.now_ms = (schema.landmark_hour + last + 1) * HOUR_MS
        things = {done.thing for done in told.done}
        with closing(SqliteStore.open(self.tenant.db_path)) as store:
            store.put_documents(
                "product",
                (
                    (str(thing), {"dna": [{"marker": m, "salience": q8 / 256} for m, q8 in dna]})
                    for thing, dna in told.dna.items()
                    if thing in things
                ),
            )
            store.extend_vocabulary(told.vocabulary)
            keep(store, Kept(len(told.done), distinct_of(told)))
            people = dict.fromkeys(done.subject for done in told.done)
            store.put_customers(CustomerRow(subject, (), AGREED) for subject in people)

    def log(self, some: Sequence[Done]) -> None:
        """One device's report of what was done, in this order."""
        with Committer(self.tenant.log_path, now_ms=lambda: self.now_ms) as committer:
            for start in range(0, len(some), _AT_ONCE):
                part = some[start : start + _AT_ONCE]
                first, last = self._sequence + 1, self._sequence + len(part)
                frames = b"".join(self._frame(first + i, done) for i, done in enumerate(part))
                digest = hashlib.sha256(frames).digest()
                committer.append_batch("till", b"e" * 16, 1, first, last, frames, digest)
                self._sequence = last

    def _frame(self, sequence: int, done: Done) -> bytes:
        at_ms = (self.told.schema.landmark_hour + done.hours) * HOUR_MS + 5
        event = event_pb2.Event(
            interaction=event_pb2.Interaction(
                kind=done.kind,
                product=str(done.thing),
                amount_micros=done.amount_micros,
                interaction_id=done.id.hex() if done.id is not None else "",
            )
        )
        event.time.wall_ms = at_ms
        body = event.SerializeToString()
        return encode_frame(Frame(sequence, done.subject, FrameKind.INTERACTION, at_ms, body))

    def build(self) -> int:
        """As every night; how many rows are others than before."""
        with closing(self.tenant.open_store()) as store:
            if not self.tenant.log_path.exists():
                return build(store, None, self.tenant.dna_path, now_ms=self.now_ms).changed
            with LogReader(self.tenant.log_path) as log:
                return build(store, log, self.tenant.dna_path, now_ms=self.now_ms).changed

    def catch_up(self, at_once: int) -> None:
        """As live increments do, about so many events in a transaction."""
        with closing(LiveConsumer(self.tenant, now_ms=lambda: self.now_ms)) as consumer:
            while consumer.catch_up(at_once):
                pass

    def genomes(self) -> dict[bytes, Genome]:
        """Everybody's."""
        with closing(self.tenant.open_store()) as store:
            return {one.subject: Genome(one.state, row_of(one)) for one in store.genomes()}


@contextmanager
def shop(told: History, quantiser: int) -> Iterator[Shop]:
    with tempfile.TemporaryDirectory() as folder:
        yield Shop(Tenant("shop", Path(folder)), told, quantiser)


@cache
def in_one_go(read: Callable[[], History], people: int, quantiser: int) -> dict[bytes, Genome]:
    """What one build makes of everything, which is what the SDK makes of it event by event."""
    told = some_of(read, people)
    with shop(told, quantiser) as whole:
        whole.log(told.done)
        whole.build()
        made = whole.genomes()
        with closing(whole.tenant.open_store()) as store:
            schema, vocabulary = built_schema(store), store.vocabulary()
    assert schema is not None
    assert schema.quantiser == quantiser
    assert schema.distinct == distinct_of(told)
    one_by_one = reference(replace(told, schema=schema, vocabulary=vocabulary))
    assert one_by_one.keys() == made.keys()
    for subject, state in one_by_one.items():
        row = encode_row(state, {}, schema, vocabulary, subject=subject, consents=AGREED)
        assert made[subject] == Genome(SubjectState(state).to_bytes(), row)
    return made


def check(
    read: Callable[[], History], people: int, quantiser: int, seed: int, *, thorough: bool
) -> None:
    """A part is built, the rest comes live: in any order, in batches, some of it twice."""
    # Drawn from a seed: hypothesis would keep every swap of thousands.
    chance = Random(seed)
    told, wanted = some_of(read, people), in_one_go(read, people, quantiser)
    # Of an id the first counts, whatever comes later: here that is the same again.
    events = [*told.done, *(d for d in told.done if d.id is not None and chance.random() < 0.05)]
    chance.shuffle(events)
    if chance.random() < 0.5:  # all that comes live is older than what was built
        events.sort(key=lambda done: -done.hours)
    with shop(told, quantiser) as split:
        first = chance.randint(len(events) // 5, len(events) * 4 // 5)
        split.log(events[:first])
        split.build()
        early = split.genomes()
        left = events[first:]
        while left:
            some = chance.randint(1, len(left))
            split.log(left[:some])
            del left[:some]
            if left and chance.random() < 0.2:
                split.build()
            else:
                split.catch_up(chance.choice([50, 1_000, 20_000]))
        made = split.genomes()
        assert made != early
        # Hundreds of genomes are compared by hand: what pytest would say of them has no end.
        assert made.keys() == wanted.keys()
        assert [one for one, genome in made.items() if genome != wanted[one]] == []
        if thorough:
            assert split.build() == 0, "the next night finds nothing to put right"


SETS = pytest.mark.parametrize(
    ("read", "quantiser"), [(complete_journey, 2), (starbucks_rewards, 1)], ids=["grocer", "coffee"]
)
costly = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
seeds = given(seed=st.integers(0, 1 << 32))


@SETS
@settings(costly, max_examples=2)
@seeds
def test_a_build_and_increments_give_the_genomes_of_one_build(
    read: Callable[[], History], quantiser: int, seed: int
) -> None:
    check(read, PEOPLE, quantiser, seed, thorough=False)


@pytest.mark.long
@pytest.mark.timeout(1200)
@SETS
@settings(costly, max_examples=6)
@seeds
def test_so_they_do_of_whole_sets(read: Callable[[], History], quantiser: int, seed: int) -> None:
    check(read, 1_000_000, quantiser, seed, thorough=True)


@SETS
def test_the_cut_is_among_what_is_compared(read: Callable[[], History], quantiser: int) -> None:
    made = in_one_go(read, PEOPLE, quantiser)
    most = max(len(genome.row.indices) for genome in made.values())
    assert most == (64 if read is complete_journey else 12)
