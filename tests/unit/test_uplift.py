"""Whom showing helps: what is learned of worlds whose truth is known, and what is not said."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from edge_sdk.outbox.frames import Frame, FrameKind, encode_frame
from genome_edge.v1 import dna_pb2, event_pb2
from genome_server.dna_file import add_profile_namespaces
from genome_server.genomes.build import build
from genome_server.home import Tenant
from genome_server.log import Committer
from genome_server.log.reader import LogReader
from genome_server.store.protocol import CustomerRow
from genome_server.value.ridge import STRENGTHS, fit
from genome_server.value.uplift import (
    LEAST_OF_EACH,
    LEAST_WITH,
    NORMAL,
    Floats,
    People,
    Uplift,
    chosen,
    dense,
    learn,
    measured,
    shares,
)
from tests.serving import AGREED, make_home, now_ms
from tests.unit.server_shell import Shell

LEARNING = AGREED | 1 << dna_pb2.CONSENT_PURPOSE_LEARNING
DAY = 86_400_000
GOLD, SILVER = 0, 1


def world(
    seed: int, persons: int, *, gold: float, shown: float = 0.5, everybody: float = 0.0
) -> tuple[People, Floats]:
    """Persons with ten markers, and the difference that showing makes to each. Half have GOLD, for
    whom it makes `gold`; who has SILVER buys more anyway."""
    rng = np.random.default_rng(seed)
    has = rng.random((persons, 10)) < rng.uniform(0.2, 0.5, 10)
    has[:, GOLD] = rng.random(persons) < 0.5
    bags = [[(int(m), 1.0) for m in np.flatnonzero(row)] for row in has]
    held = rng.random(persons) >= shown
    truth = (everybody + gold * has[:, GOLD]).astype(np.float64)
    chance = 0.2 + 0.2 * has[:, SILVER] + ~held * truth
    done = (rng.random(persons) < chance).astype(np.float64)
    return People.of(bags, held, None, done), truth


def found(people: People) -> Uplift:
    uplift = learn(people)
    assert uplift is not None
    return uplift


def test_a_line_leaves_rows_out_as_if_it_had_been_fitted_without() -> None:
    rng = np.random.default_rng(3)
    base, x = rng.uniform(0.5, 2, 30), rng.normal(size=(30, 4))
    target = base + x @ [1.0, 0, 0, -1] + rng.normal(size=30) * 0.3
    line = fit(base, x, target)
    assert line.strength in STRENGTHS
    unit = base / np.linalg.norm(base)
    own = x - np.outer(unit, unit @ x)
    mean_square = float((np.linalg.svd(own)[1] ** 2).mean())
    hold = np.diag([0.0, *[line.strength * mean_square] * 4])
    all_ = np.column_stack([base, x])
    solved = np.linalg.solve(all_.T @ all_ + hold, all_.T @ target)
    assert [line.constant, *line.slope] == pytest.approx(solved.tolist())
    for row in range(30):
        rest = np.delete(all_, row, axis=0)
        without = np.linalg.solve(rest.T @ rest + hold, rest.T @ np.delete(target, row))
        assert line.left_out[row] == pytest.approx(target[row] - all_[row] @ without)


def test_where_there_is_nothing_to_find_a_line_is_a_constant() -> None:
    x = np.repeat([[1.0], [-1.0]], 50, axis=0)
    target = np.tile([3.0, 1.0], 50)  # has nothing to do with it
    line = fit(np.ones(100), x, target)
    assert (line.slope.tolist(), line.strength) == ([0.0], np.inf)
    assert line.constant == pytest.approx(2.0)


def test_whom_it_helps_is_found() -> None:
    people, truth = world(1, 6_000, gold=0.3, everybody=-0.05)
    uplift = found(people)
    assert uplift.sure
    assert uplift.all.low < truth.mean() < uplift.all.high
    # Of the area an order by the truth would have, it has most.
    best = ((0.5 - (np.argsort(np.argsort(-truth)) + 0.5) / len(truth)) * truth).mean()
    assert 0.7 * best < uplift.high
    assert uplift.low < best
    first, last = uplift.fifths[0], uplift.fifths[-1]
    assert first.low < 0.25 < first.high
    assert last.low < -0.05 < last.high
    assert uplift.markers[0].marker == GOLD
    assert uplift.markers[0].low < 0.3 < uplift.markers[0].high
    # All intervals of markers hold together.
    one, columns = uplift.markers[0], len(uplift.columns)
    halves = [(side.high - side.low) / (2 * NORMAL) for side in (one.having, one.others)]
    reach = stats.norm.ppf(1 - 0.025 / columns)
    assert (one.high - one.low) / 2 == pytest.approx(reach * np.hypot(halves[0], halves[1]))
    assert columns == 10
    told = uplift.of(people)
    assert told[truth > 0].mean() == pytest.approx(0.25, abs=0.06)
    assert told[truth < 0].mean() == pytest.approx(-0.05, abs=0.06)
    assert uplift.curve[-1] == pytest.approx(uplift.all.difference, abs=0.03)
    assert max(uplift.curve) > uplift.curve[-1]  # to show it to fewer brings more


def test_whom_it_harms_can_be_left_out() -> None:
    people, _ = world(2, 6_000, gold=-0.15, everybody=0.1)
    unmoved = [one.marker for one in found(people).markers if one.unmoved]
    assert unmoved == [GOLD]


@pytest.mark.parametrize("shown", [0.5, 0.8])
def test_where_all_are_helped_alike_nothing_is_said_of_anybody(shown: float) -> None:
    sure = [
        found(world(seed, 1_200, gold=0.0, shown=shown, everybody=0.1)[0]).sure
        for seed in range(12)
    ]
    assert sum(sure) <= 2  # of 12 that may each be with a chance of 1 in 40


def test_strata_with_shares_of_their_own_make_no_difference_up() -> None:
    rng = np.random.default_rng(5)
    stratum = rng.integers(0, 2, 8_000)
    held = rng.random(8_000) < np.where(stratum == 1, 0.1, 0.5)
    bags = [[(int(s), 1.0), *([(7, 1.0)] if rng.random() < 0.5 else [])] for s in stratum]
    done = (rng.random(8_000) < np.where(stratum == 1, 0.6, 0.1)).astype(np.float64)
    people = People.of(bags, held, stratum.astype(np.int64), done)
    assert done[~held].mean() - done[held].mean() > 0.1  # as it looks at first
    assert shares(people)[stratum == 1] == pytest.approx(0.9, abs=0.02)
    uplift = found(people)
    assert uplift.all.low < 0 < uplift.all.high
    assert not uplift.sure


def test_what_is_too_little_is_not_learned_from() -> None:
    few, _ = world(1, 2 * LEAST_OF_EACH - 1, gold=0.5)
    assert learn(few) is None
    nothing = People.of([[]] * 1_000, np.arange(1_000) % 2 == 0)
    assert learn(nothing) is None
    assert measured(np.array([1.0])).low == -np.inf


def test_markers_that_tell_people_apart_have_columns() -> None:
    bags = [[(5, 0.5)] + [(9, 1.0)] * (n < LEAST_WITH - 1) + [(7, 0.25)] * (n < LEAST_WITH)
            for n in range(3 * LEAST_WITH)]  # fmt: skip
    people = People.of(bags)
    assert chosen(people).tolist() == [7]  # 5 has everybody, 9 too few
    assert dense(people, np.array([5, 7])).sum(0).tolist() == [
        1.5 * LEAST_WITH, 0.25 * LEAST_WITH
    ]  # fmt: skip


def lobby(tenant: Tenant, *, gold: float, others: float, fair: bool = True) -> None:
    """900 customers before a screen that holds half of them out; `gold` and `others` are what
    showing does to who has `tier:gold`, and to who has not."""
    names = [f"c{n}" for n in range(900)]
    dna = tenant.dna_path.read_text()
    tenant.dna_path.write_text(dna.replace("buy: {weight: 2,", "buy: {weight: 2, money: 1,"))
    rng = np.random.default_rng(8)
    with closing(tenant.open_store()) as store:
        screen = {"id": "screen", "explorer": "greedy", "holdout": 0.5, "outcome_window_hours": 24}
        store.put_documents("placement", [("screen", screen)])
        subjects = store.subjects_of("app", names, create=True)
        add_profile_namespaces(store, {"tier"})
        store.extend_vocabulary(["tier:gold"])
        gold_ones = (("tier:gold", 256),)
        customers = {subjects[name]: gold_ones if rng.random() < 0.5 else () for name in names}
        store.put_customers(CustomerRow(one, tier, LEARNING) for one, tier in customers.items())
    begin = now_ms() - 10 * DAY
    frames: list[bytes] = []

    def put(subject: bytes, kind: FrameKind, ms: int, event: event_pb2.Event) -> None:
        event.time.wall_ms, event.time.offset_known = ms, True
        body = event.SerializeToString()
        frames.append(encode_frame(Frame(len(frames) + 1, subject, kind, ms, body)))

    for number, (subject, markers) in enumerate(sorted(customers.items())):
        at = begin + number * 1_000
        held = bool(rng.random() < (0.5 if fair else 0.3))
        slots = [event_pb2.SlotRecord(offer="taxi", reason="CHOSEN")]
        record = event_pb2.DecisionRecord(
            decision_id=subject, placement="screen", held_out=held, release_version=1,
            slots=[] if held else slots, instead=slots if held else [],
        )  # fmt: skip
        put(subject, FrameKind.DECISION, at, event_pb2.Event(decision=record))
        chance = 0.3 + (0.0 if held else (gold if markers else others))
        # What was done before, and after the day is over, is nothing that showing did.
        bought = {-DAY, 2 * DAY} | ({3_600_000} if rng.random() < chance else set())
        for after in bought:
            said = event_pb2.Interaction(
                interaction_id=f"{number}-{after}", kind="buy",
                product="bread" if after == 3_600_000 else "soap",
                amount_micros=10_000_000, currency="EUR",
            )  # fmt: skip
            put(subject, FrameKind.INTERACTION, at + after, event_pb2.Event(interaction=said))
    content = b"".join(frames)
    digest = hashlib.sha256(content).digest()
    with Committer(tenant.log_path) as log:
        log.append_batch("screen-1", bytes(16), 0, 1, len(frames), content, digest)
    with closing(tenant.open_store()) as store, LogReader(tenant.log_path) as reader:
        build(store, reader, tenant.dna_path)


def test_the_command_says_whom_it_helps(tmp_path: Path) -> None:
    shell = Shell(tmp_path, made=False)
    lobby(make_home(tmp_path / "home").tenant(), gold=0.5, others=-0.2)
    said = shell.json("uplift", "screen", "--customer", "c1")
    assert said["shown"] + said["held_out"] == 900
    assert said["sure"]
    assert said["markers"][0]["marker"] == "tier:gold"
    assert said["markers"][0]["having"]["difference"] == pytest.approx(0.5, abs=0.12)
    assert said["none_of"] == []
    # Who buys bread is only known once it is over.
    assert "brand:mill" not in {one["marker"] for one in said["markers"]}
    with closing(shell.tenant.open_store()) as store:
        assert store.vocabulary().index("brand:mill") is not None
    assert abs(said["customer"]["expected"]) > 0.05
    page = tmp_path / "page.html"
    text = shell.call("uplift", "screen", "--page", page).output
    assert "<path d=" in page.read_text()
    assert "tier:gold" in page.read_text()
    assert "It can be told whom: the area of the Qini curve is" in text
    money = shell.json("uplift", "screen", "--of", "amount")
    assert money["currency"] == "EUR"
    assert money["markers"][0]["having"]["difference"] == pytest.approx(5, abs=1.2)
    assert "no kind 'hug'" in shell.call("uplift", "screen", "--kind", "hug", code=2).output


def test_the_command_refuses_what_cannot_be_told(tmp_path: Path) -> None:
    shell = Shell(tmp_path, made=False)
    tenant = make_home(tmp_path / "home").tenant()
    lobby(tenant, gold=0.1, others=0.1)
    said = shell.json("uplift", "screen", code=1)
    assert not said["sure"]
    assert "fifths" not in said
    assert "no better than none" in shell.call("uplift", "screen", code=1).output.replace("\n", " ")
    few = shell.call("uplift", "screen", "--until", "2020-01-01", code=1).output
    assert "nobody is known to have met" in few


def test_groups_that_are_no_fair_draw_are_refused(tmp_path: Path) -> None:
    shell = Shell(tmp_path, made=False)
    lobby(make_home(tmp_path / "home").tenant(), gold=0.5, others=-0.2, fair=False)
    assert "no fair draw" in shell.call("uplift", "screen", code=1).output
