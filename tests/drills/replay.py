"""Decisions are made again in another process, from what is on disk: all of them identical.

One process decides from a release with every kind of rule, for customers and for nobody, one and
several slots at a time; what was shown is viewed, dismissed, redeemed or bought, so that caps and
genomes change. Another process then reads the records of the decisions and makes each again: the
same offers, reasons, scores and propensities, and the model gives the same scores to the bit. And
so says the command that people have for it, `genome-edge replay --all`.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_sdk import Config, Decision, EdgeClient
from edge_sdk.engine.decide import check_replay, replay
from edge_sdk.engine.release import Release
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.state import decision_of, recent_decisions
from edge_sdk.sync.installing import read_parts
from tests.drills import market
from tests.drills.findings import Findings

SHORT: Final = 400
LONG: Final = 10_000
UNIT: Final = "decisions"


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Decide `first + rounds` times, and make the last `rounds` of them again."""
    found = Findings()
    bundle = market.write(folder / "market.bundle", seed)
    store, answers, again = folder / "store", folder / "answers.jsonl", folder / "again.jsonl"
    _elsewhere(deciding, bundle, store, seed, first + rounds, answers)
    _elsewhere(replaying, store, first + rounds, again)
    command = [
        sys.executable,
        "-m",
        "edge_sdk.cli",
        "replay",
        "--all",
        "--store",
        str(store),
        "--json",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    made = {line["id"]: line for line in _lines(again)}
    reasons: Counter[str] = Counter()
    for number, said in enumerate(_lines(answers)):
        if number < first:
            continue
        found.tried += 1
        reasons[said["reason"]] += 1
        found_again = made.get(said["id"], {"differences": ["it is not on disk"]})
        differences = found_again.pop("differences")
        if said != found_again or differences:
            found.fail(number, f"{said} came out as {found_again}: {differences}")
        if found.tried % 500 == 0:
            progress(found.tried)
    progress(found.tried)
    if told.returncode or json.loads(told.stdout)["identical"] != len(made):
        found.fail(first, f"the command says {told.returncode}: {told.stdout[:500]}{told.stderr}")
    found.note(", ".join(f"{n} {reason}" for reason, n in reasons.most_common()))
    return found


def _elsewhere(work: Callable[..., None], *arguments: Any) -> None:
    """Run in a fresh process."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} ended with {process.exitcode}")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _said(decision: Decision) -> dict[str, Any]:
    """Everything that a decision says, exactly."""
    return {
        "id": decision.id,
        "placement": decision.placement,
        "reason": decision.reason,
        "tier": decision.tier,
        "seed": decision.seed,
        "genome": decision.genome_used,
        "slots": [
            [slot.offer.id if slot.offer else None, slot.reason, slot.score, slot.propensity]
            for slot in decision.slots
        ],
    }


def deciding(bundle: Path, store: Path, seed: int, number: int, answers: Path) -> None:
    """The first process: decide, and write down what was answered."""
    logging.getLogger("edge_sdk").setLevel(logging.ERROR)  # some contexts say what no offer knows
    rng = random.Random(f"replay {seed}")
    config = Config(group_commit_s=0.001, ring_decisions=number)
    with (
        answers.open("w") as out,
        EdgeClient(store, bundle=bundle, config=config) as edge,
    ):
        assert edge.wait_ready(60), edge.status
        for turn in range(number):
            customer = market.customer(rng)
            decision = edge.decide(
                market.context(rng),
                rng.choice(market.PLACEMENTS),
                rng.choice([1, 1, 2, 5]),
                customer=customer,
            )
            out.write(json.dumps(_said(decision)) + "\n")
            if turn % 3 == 0:
                _follow(edge, decision, customer, rng)


def _follow(edge: EdgeClient, decision: Decision, customer: str | None, rng: random.Random) -> None:
    """What somebody does about it, so that later decisions see caps and changed genomes."""
    for slot, shown in enumerate(decision.slots):
        if shown.offer is None:
            continue
        kind = rng.choice(["view", "view", "dismiss", "buy", "redeem"])
        if kind == "redeem":
            edge.redeem(decision, slot=slot)
        else:
            edge.report(decision, kind, slot=slot)
    if customer is not None and rng.random() < 0.3:
        edge.imprint(customer, "buy", dna=[f"m:{rng.randrange(100)}"])


def replaying(path: Path, number: int, again: Path) -> None:
    """The second process: read every record and make the decision again."""
    store = DeviceStore.open(path)
    stored = store.active_release()
    assert stored is not None
    release = Release.from_parts(stored.manifest, read_parts(store.read_part, stored.manifest))
    with store.read() as connection:
        frames = recent_decisions(connection, number)
    store.close()
    with again.open("w") as out:
        for frame in frames:
            record = decision_of(frame)
            said = _said(replay(release, record))
            said["differences"] = check_replay(release, record, frame.subject)
            out.write(json.dumps(said) + "\n")
