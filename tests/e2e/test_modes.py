"""A silent placement shows nothing and records all; the model learns from what the app shows."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from edge_sdk import Context, EdgeClient
from edge_sdk.config import Config
from edge_sdk.decision import Reason
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync.enrolment import enrol
from genome_edge.v1 import event_pb2
from genome_server.genomes.build import build
from genome_server.home import Home
from genome_server.learning.examples import Examples
from genome_server.learning.export import Probe
from genome_server.learning.towers import Floats, Shape
from genome_server.learning.train import Settings, score, train
from genome_server.log import LogReader
from genome_server.models.own_examples import read_examples
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_PERSONALISATION, CustomerRow
from tests.serving import add_code, make_home, now_ms, publish_release, serving, until

GUESTS = [f"c{n}" for n in range(40)]
SMALL = Settings(shape=Shape(members=1, width=8, hidden=4, dimension=2), steps=200, epochs=20)


def an_apprentice(root: Path) -> Home:
    home = make_home(root, GUESTS)
    tenant = home.tenant("default")
    text = tenant.dna_path.read_text()
    tenant.dna_path.write_text(f"{text}  dismiss: {{weight: 1, label: refusal, prefix: not-}}\n")
    with closing(tenant.open_store()) as store:
        silent = {"id": "screen", "explorer": "squarecb", "mode": "apprentice"}
        store.put_documents("placement", [("screen", silent)])
        both = CONSENT_PERSONALISATION | CONSENT_LEARNING
        people = store.subjects_of("app", GUESTS).values()
        store.put_customers(CustomerRow(one, (), both) for one in people)
    return home


def learned(examples: Examples, probe: Probe) -> Floats:
    return score(train(examples, None, SMALL), probe)


def test_an_apprentice_shows_nothing_and_learns_from_what_the_app_shows(tmp_path: Path) -> None:
    home = an_apprentice(tmp_path / "home")
    tenant = home.tenant("default")
    publish_release(tenant)
    with serving(home) as house:
        address = f"127.0.0.1:{house.port}"
        with closing(DeviceStore.open(tmp_path / "lobby")) as store:
            enrol(address, add_code(tenant), store, "lobby", Config())
        with EdgeClient(tmp_path / "lobby", address) as device:
            assert device.wait_ready(20)
            until(lambda: device.status.genomes, "genomes")
            for number, guest in enumerate([*GUESTS, *GUESTS]):
                decision = device.decide(Context(), "screen", customer=guest)
                assert (decision.offer, decision.reason) == (None, Reason.HELD_OUT)
                # The app goes on as before: it shows one or the other, and says what came of it.
                shown = ("taxi", "spa")[number % 2]
                said = "buy" if shown == "spa" or number < 8 else "dismiss"
                device.imprint(guest, said, offer=shown)
            until(lambda: not device.flush(1.0), "everything is reported")
    with LogReader(tenant.log_path) as log, closing(tenant.open_store()) as store:
        events = [event_pb2.Event.FromString(frame.body) for frame in log.frames()]
        decided = [event.decision for event in events if event.HasField("decision")]
        assert len(decided) == 2 * len(GUESTS)
        assert all(record.held_out and not record.slots[0].offer for record in decided)
        would = {record.instead[0].offer for record in decided}
        assert would == {"taxi", "spa"}, "what would have been shown is on record"
        assert all(0 < record.instead[0].propensity < 1 for record in decided)
        build(store, log, tenant.dna_path)
    with closing(tenant.open_store()) as store:
        examples, counts = read_examples(tenant, store, now_ms() + 1, lambda *_, **__: None)
        words = store.vocabulary()
    assert (counts.answers, counts.decisions) == (2 * len(GUESTS), 0)
    offers = [[words.index("service:taxi")], [words.index("service:spa")]]
    nobody = np.zeros(0, np.int64), np.zeros(0, np.float32)
    probe = Probe(*nobody, np.array(offers), np.ones((2, 1), np.float32))
    # In a process of its own: threads of JAX in this one are in the way of tests that fork.
    with ProcessPoolExecutor(1, get_context("spawn")) as trainer:
        taxi, spa = trainer.submit(learned, examples, probe).result()
    assert spa > taxi + 0.2
