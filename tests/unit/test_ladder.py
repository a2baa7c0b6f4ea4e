"""Which depth of discount is enough: measured in the log, and for whom."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.dna_file import add_profile_namespaces
from genome_server.genomes.build import build
from genome_server.learning.export import ModelFacts, untrained_model
from genome_server.log import Committer
from genome_server.log.reader import LogReader
from genome_server.models.shelf import keep_model, promote_model
from genome_server.store.protocol import CustomerRow
from genome_server.value.ladder import LEAST_PERSONS, Showings, enough, told
from genome_server.value.pricing import Rung
from genome_server.value.rungs import measure
from genome_server.value.tiring import ask
from tests.serving import AGREED, make_home, now_ms
from tests.unit.server_shell import Shell

LEARNING = AGREED | 1 << dna_pb2.CONSENT_PURPOSE_LEARNING
RUNGS = [Rung("none", 0.0, 3.0), Rung("some", 0.2, 2.0), Rung("deep", 0.4, 1.0)]


def test_of_depths_that_are_worth_the_same_the_shallowest_is_enough() -> None:
    chance = np.array([[0.1, 0.15, 0.3], [0.1, 0.16, 0.3], [0.1, 0.16, 0.33], [0.0, 0.0, 0.0]])
    assert enough(chance, RUNGS).tolist() == [0, 1, 2, 0]
    sold_at_a_loss = [*RUNGS, Rung("gift", 0.9, -1.0)]
    assert enough(np.array([[0.01, 0.0, 0.0, 1.0]]), sold_at_a_loss).tolist() == [0]


def test_a_policy_that_shows_deep_to_whom_it_is_hard_to_win_deceives_nobody() -> None:
    rng = np.random.default_rng(4)
    n = 20_000
    hard = rng.random(n) < 0.5
    shares = np.where(hard[:, None], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1])
    rung = (rng.random(n)[:, None] > shares.cumsum(1)).sum(1)
    truth = np.where(hard[:, None], [0.05, 0.1, 0.3], [0.6, 0.62, 0.65])
    success = rng.random(n) < truth[np.arange(n), rung]
    showings = Showings(
        rung, success * 1.0, 1 / shares[np.arange(n), rung], np.arange(n), chance=truth
    )
    ladder = told("latte", RUNGS, showings)
    naive = success[rung == 2].mean()
    for place, figure in enumerate(ladder.measured):
        assert figure.chance is not None
        assert figure.margin is not None
        assert figure.chance[1] < truth[:, place].mean() < figure.chance[2]
        assert figure.margin[0] == pytest.approx(figure.chance[0] * RUNGS[place].worth)
        assert figure.margin[1] < figure.margin[0] < figure.margin[2]
    assert ladder.measured[2].chance is not None
    assert not ladder.measured[2].chance[1] < naive < ladder.measured[2].chance[2]
    easy, difficult = ladder.groups
    assert (easy.enough, difficult.enough) == ("none", "deep")
    assert easy.moments + difficult.moments == n
    assert difficult.believed == pytest.approx((0.05, 0.1, 0.3))
    for group in ladder.groups:
        left = [figure.margin[0] for figure in group.measured if figure.margin is not None]
        assert RUNGS[int(np.argmax(left))].offer == group.enough
    assert ladder.falling == 0.0
    names = ["rare" if n < 5 else "hard:yes" if hard[n] else None for n in range(n)]
    easy_ones, hard_ones, few = told("latte", RUNGS, showings, names).segments
    assert {easy_ones.name, hard_ones.name, few.name} == {None, "hard:yes", "(others)"}
    if easy_ones.name is not None:
        easy_ones, hard_ones = hard_ones, easy_ones
    assert (easy_ones.most, easy_ones.sure, hard_ones.most) == ("none", True, "deep")
    assert (few.persons, few.most, few.sure) == (5, None, False)


def test_few_persons_are_no_figure_however_often_they_were_shown_it() -> None:
    rung, nothing = np.zeros(1_000, np.int64), np.zeros(1_000)
    person = np.arange(1_000) % (LEAST_PERSONS - 1)
    few = told("latte", RUNGS, Showings(rung, nothing, nothing + 1, person))
    assert (few.measured[0].showings, few.measured[0].chance) == (1_000, None)
    enough_of_them = np.arange(1_000) % LEAST_PERSONS
    figure = told("latte", RUNGS, Showings(rung, nothing, nothing + 1, enough_of_them))
    assert figure.measured[0].chance is not None
    assert figure.measured[0].chance[2] > 0.1  # 20 persons, not 1,000 showings
    assert figure.groups == ()
    assert figure.falling is None


def test_a_model_that_likes_depth_less_is_told_of() -> None:
    chance = np.array([[0.3, 0.2, 0.4], [0.1, 0.2, 0.2]])
    showings = Showings(np.array([0, 1]), np.zeros(2), np.ones(2), np.arange(2), chance)
    assert told("latte", RUNGS, showings).falling == 0.5


def cafe(shell: Shell) -> None:
    """90 guests of a café, each shown one rung by lot; of each third of them one in two buys at the
    deepest rung, one in five at the others."""
    tenant = make_home(shell.root / "home").tenant()
    rows = "".join(f"latte-{d},latte,5,0.6,{d / 100},service:latte\n" for d in (0, 20, 40))
    shell.call(
        "import", "offers", shell.file("o.csv", f"id,ladder,price,margin,discount,dna\n{rows}")
    )
    with closing(tenant.open_store()) as store:
        screen = {"id": "screen", "explorer": "greedy", "outcome_window_hours": 1}
        store.put_documents("placement", [("screen", screen)])
        names = store.subjects_of("app", [f"c{n}" for n in range(90)], create=True)
        add_profile_namespaces(store, {"tier"})
        store.extend_vocabulary(["tier:gold"])
        store.put_customers(
            CustomerRow(one, (("tier:gold", 256),) if n % 2 else (), LEARNING)
            for n, one in enumerate(names.values())
        )
    begin = now_ms() - 86_400_000
    frames: list[bytes] = []
    for n, subject in enumerate(names.values()):
        slot = event_pb2.SlotRecord(
            offer=f"latte-{(0, 20, 40)[n % 3]}",
            reason="EXPLORED",
            # To whom it was shown the less likely stands for the more.
            propensity=1 / 6 if n % 15 == 0 else 1 / 3,
        )
        record = event_pb2.DecisionRecord(
            decision_id=subject, placement="screen", slots=[slot], genome_used=True
        )
        events = [(FrameKind.DECISION, event_pb2.Event(decision=record))]
        if n // 3 % (2 if n % 3 == 2 else 5) == 0:
            said = event_pb2.Outcome(decision_id=subject, kind="buy", offer=slot.offer)
            events.append((FrameKind.OUTCOME, event_pb2.Event(outcome=said)))
        for kind, event in events:
            event.time.wall_ms, event.time.offset_known = begin + n * 1_000, True
            body = event.SerializeToString()
            frame = Frame(len(frames) + 1, subject, kind, begin + n * 1_000, body)
            frames.append(encode_frame(frame))
    content = b"".join(frames)
    digest = hashlib.sha256(content).digest()
    with Committer(tenant.log_path) as log:
        log.append_batch("till", bytes(16), 0, 1, len(frames), content, digest)
    with closing(tenant.open_store()) as store, LogReader(tenant.log_path) as reader:
        build(store, reader, tenant.dna_path)


def test_the_command_measures_rungs_and_asks_the_model(tmp_path: Path) -> None:
    shell = Shell(tmp_path, made=False)
    cafe(shell)
    later = now_ms() + 86_400_000  # by then nothing more is to be heard of that day
    with closing(shell.tenant.open_store()) as store:
        answer = measure(shell.tenant, store, "latte", later, lambda *_, **__: None)
    figures = answer.ladder.measured
    assert [(one.showings, one.successes) for one in figures] == [(30, 6), (30, 6), (30, 15)]
    assert [one.chance[0] for one in figures if one.chance] == pytest.approx([1 / 3, 0.2, 0.5])
    assert [one.margin[0] for one in figures if one.margin] == pytest.approx([1, 0.4, 0.5])
    said = shell.json("offers", "ladder", "latte")
    assert [one["offer"] for one in said["rungs"]] == ["latte-0", "latte-20", "latte-40"]
    assert (said["model"], said["groups"]) == (None, [])
    assert "no model is trained yet" in shell.call("offers", "ladder", "latte").output
    assert shell.call("offers", "ladder", "latte", "--customer", "c1", code=1)
    with closing(shell.tenant.open_store()) as store:
        vocabulary = store.vocabulary()
        facts = ModelFacts(vocabulary.lineage, len(vocabulary), trained_ms=now_ms())
        name = keep_model(shell.tenant.models_dir, untrained_model(facts), {})
        promote_model(shell.tenant.models_dir, store, name, reason="test")
    said = shell.json("offers", "ladder", "latte", "--by", "tier")
    assert said["model"] == name
    assert {one["name"] for one in said["segments"]} == {None, "tier:gold"}
    assert sum(one["moments"] for one in said["segments"]) == said["groups"][0]["moments"]
    assert "tier:gold" in shell.call("offers", "ladder", "latte", "--by", "tier").output
    nobody = shell.call("offers", "ladder", "latte", "--by", "age", code=1).output
    assert "had a marker age:…" in nobody
    [group] = said["groups"]  # to whom all depths are alike, the shallowest is enough
    assert (group["enough"], group["moments"]) == ("latte-0", group["persons"])
    assert len(set(group["believed"])) == 1
    assert said["moments_learned_from"] == group["moments"]  # as it says
    one = shell.json("offers", "ladder", "latte", "--customer", "c1")
    assert one["enough"] == "latte-0"
    assert [rung["margin"] / rung["chance"] for rung in one["rungs"]] == pytest.approx([3, 2, 1])
    assert "enough" in shell.call("offers", "ladder", "latte", "--customer", "c1").output
    refused = shell.call("offers", "ladder", "late", code=1).output
    assert "did you mean 'latte'?" in refused


def test_the_command_says_what_showing_again_brings(tmp_path: Path) -> None:
    shell = Shell(tmp_path, made=False)
    cafe(shell)
    with closing(shell.tenant.open_store()) as store:
        later = now_ms() + 86_400_000
        found = ask(shell.tenant, store, "latte-40", 86_400_000, later, lambda *_, **__: None)
    assert (found.times[0].showings, found.times[0].persons) == (30, 30)
    assert found.times[0].chance is not None
    assert found.times[0].chance[0] == pytest.approx(0.5)
    assert found.pause_h is None
    said = shell.json("offers", "saturation", "latte-40")
    assert [row["least"] for row in said["times"]] == [0, 1, 2, 3, 4, 7]
    text = shell.call("offers", "saturation", "latte-40").output
    assert "too few were shown it again" in text
    assert "latte-400" not in shell.call("offers", "saturation", "latte-4", code=1).output
    assert "was not shown yet" in shell.call("offers", "saturation", "taxi", code=1).output
