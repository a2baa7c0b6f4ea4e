"""Publishes that overlap: who began earlier undoes nothing that came out meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from genome_edge.v1 import release_pb2
from genome_server.errors import Refused
from genome_server.gate.ask import silence
from genome_server.home import Tenant
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.job import Advance
from genome_server.learning.towers import random_towers
from genome_server.models.shelf import save_model
from genome_server.releases.manage import rollback
from genome_server.releases.publish import Published, publish
from tests.serving import offer
from tests.unit.releasing import NOW, built_tenant, contents


class Desk:
    """A tenant of which a publish waits at the gate, until `go`."""

    def __init__(self, root: Path) -> None:
        self.tenant: Tenant = built_tenant(root)
        self.say(1)
        self.train(1)
        publish(self.tenant, now_ms=NOW)
        self.train(2)
        self._there, self._on = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self.slow: Future[Published] = self._pool.submit(
            publish, self.tenant, now_ms=NOW + 1, gate_progress=self._gate
        )
        assert self._there.wait(20), "the gate is asked"

    @contextmanager
    def _gate(self, label: str, total: int | None) -> Iterator[Advance]:
        self._there.set()
        assert self._on.wait(20)
        with silence(label, total) as advance:
            yield advance

    def go(self) -> Published:
        """Let it go on; what it comes to."""
        self._on.set()
        try:
            return self.slow.result(20)
        finally:
            self._pool.shutdown()

    def say(self, value: float) -> None:
        with closing(self.tenant.open_store()) as store:
            store.put_documents("offer", [offer("taxi", "service:taxi", value=value)])

    def train(self, seed: int) -> None:
        with closing(self.tenant.open_store()) as store:
            vocabulary = store.vocabulary()
            facts = ModelFacts(vocabulary.lineage, vocabulary_size=len(vocabulary))
            content = tower_model(random_towers(seed, len(vocabulary)), facts)
            save_model(self.tenant.models_dir, store, content, {})

    def newest(self) -> int:
        with closing(self.tenant.open_store()) as store:
            return store.releases()[0].version


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_slower_of_two_publishes_does_not_undo_the_other(desk: Desk) -> None:
    desk.say(2)
    newer = publish(desk.tenant, now_ms=NOW + 2)
    with pytest.raises(Refused, match="release 2 was published in channel 'stable' meanwhile"):
        desk.go()
    assert desk.newest() == 2
    part = contents(desk.tenant, newer.manifest)["offers"]
    [taxi] = [one for one in release_pb2.OfferCatalogue.FromString(part).offers if one.id == "taxi"]
    assert taxi.value_micros == 2_000_000
    assert publish(desk.tenant, now_ms=NOW + 3).unchanged


def test_whoever_only_waited_publishes(desk: Desk) -> None:
    done = desk.go()
    assert (done.release.version, done.unchanged) == (2, False)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda desk: desk.say(2), "offers, products, placements or places were changed"),
        (lambda desk: desk.train(3), "became the one that the next release takes"),
    ],
)
def test_what_changed_meanwhile_is_not_overlooked(
    desk: Desk, change: Callable[[Desk], None], what: str
) -> None:
    change(desk)
    with pytest.raises(Refused, match=f"{what} meanwhile, so nothing is issued: publish again"):
        desk.go()
    assert desk.newest() == 1
    assert publish(desk.tenant, now_ms=NOW + 3).release.version == 2


def test_a_rollback_meanwhile_stands(desk: Desk) -> None:
    desk.say(2)
    publish(desk.tenant, now_ms=NOW + 2)
    rollback(desk.tenant, now_ms=NOW + 3)
    with pytest.raises(Refused, match="release 3 was published"):
        desk.go()
    assert desk.newest() == 3
