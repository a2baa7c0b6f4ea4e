"""docs/experiments.md shows what comes out: of a log that the real engine decided, all of it."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from edge_sdk.context import Context
from edge_sdk.engine.decide import coarse, decide
from edge_sdk.engine.fake_release import release_from_documents
from edge_sdk.engine.offers import placement_from_document
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from tests.unit.hold_out_log import BEGIN_MS, DAY_MS, HOUR_MS, Happened, did, number
from tests.unit.test_lift_cli import Shop, who

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "experiments.md").read_text()
CUSTOMERS, LATE, OLDER = 2_000, 60, 40
#: Of a hundred so many buy within the week.
BUY = {"checkout": 20, "checkout-bold": 28, "checkout-quiet": 20}


def stated() -> list[dict[str, Any]]:
    """The placements of the page."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    found: list[dict[str, Any]] = yaml.safe_load(blocks[0])
    return found


def happened(placements: list[dict[str, Any]]) -> Iterator[Happened]:
    release = release_from_documents([{"id": "taxi"}], placements)
    older = release_from_documents([{"id": "taxi"}], [{"id": "checkout"}])

    def decided(subject: bytes, ms: int, of: Any = release) -> tuple[Happened, str]:
        id_ = hashlib.sha256(f"{subject.hex()} {ms}".encode()).digest()[:16]
        decision, record = decide(
            of, Context(), "checkout", subject=subject, now_ms=ms, decision_id=id_, seed=ms
        )
        time = event_pb2.EventTime(wall_ms=ms, offset_known=True)
        event = event_pb2.Event(time=time, decision=coarse(record.to_proto()))
        return Happened("screen", subject, FrameKind.DECISION, ms, event), decision.placement

    for n in range(CUSTOMERS):
        one, first = who(n), BEGIN_MS + number("first", n) % (14 * DAY_MS)
        event, arm = decided(one, first)
        yield event
        for again in range(number("visits", n) % 3):
            yield decided(one, first + (again + 1) * DAY_MS)[0]
        if number("buys", n) % 100 < BUY[arm]:
            at = first + HOUR_MS + number("when", n) % (5 * DAY_MS)
            yield did(one, "buy", at, 10 + number("much", n) % 1_000 / 100)
    for n in range(CUSTOMERS, CUSTOMERS + LATE):
        yield decided(who(n), BEGIN_MS + 29 * DAY_MS)[0]
        yield did(who(n), "buy", BEGIN_MS + 29 * DAY_MS + HOUR_MS, 99)  # the week is not over
    for n in range(OLDER):
        yield decided(who(n), BEGIN_MS + 20 * DAY_MS, older)[0]


def test_the_page_shows_what_comes_out(tmp_path: Path) -> None:
    placements = stated()
    shop = Shop(tmp_path, happened(placements), CUSTOMERS + LATE)
    with closing(shop.tenant.open_store()) as store:
        store.put_documents("placement", [(one["id"], one) for one in placements])
    arguments = ("checkout", "--arms", "--kind", "buy", "--until", "2026-07-01")
    assert f"$ genome-server lift {' '.join(arguments)}" in PAGE
    text = shop.text(*arguments)
    told = [line.rstrip() for line in text.splitlines()]
    assert "\n".join(told).strip() in PAGE
    # What is true of this log lies in the intervals that the page shows.
    by_name = {one["campaign"]["name"]: one for one in shop.json(*arguments)["arms"]}
    for name, one in by_name.items():
        low, high = one["outcomes"]["share"]["always"]
        assert low < (BUY[name] - BUY["checkout"]) / 100 < high
    shares: defaultdict[str, int] = defaultdict(int)
    for one in map(who, range(CUSTOMERS)):
        shares[decided_by(placements, one)] += 1
    for name, said in by_name.items():
        assert said["arm"]["persons"] == shares[name]
        assert said["base"]["persons"] == shares["checkout"]


def decided_by(placements: list[dict[str, Any]], subject: bytes) -> str:
    """The placement that decides, by the words of the page."""
    base = placement_from_document(placements[0])
    key = f"genome-edge/experiment/v1\n{base.id}\n{base.experiment_seed}\n".encode()
    at = int.from_bytes(hashlib.sha256(key + subject).digest()[:4], "big") * 1_000_000 >> 32
    end = 0
    for arm in base.arms:
        end += arm.share_ppm
        if at < end:
            return arm.placement
    return base.id
