"""Arguments that no app should give: a UsageError that can be read, and never anything else."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import Config, Context, EdgeClient, UsageError
from edge_sdk.clock import LATEST_MS, DeviceClock
from edge_sdk.outbox.frames import MAX_BODY_BYTES
from edge_sdk.testing import FakeEdge
from tests.unit.device_town import Town

HUGE = 10**5000  # its repr is a ValueError
HALF = "\ud800"  # half a surrogate pair: text that no encoding takes
TAXI = {"id": "taxi", "near": ["hotel"], "content": {"title": "A taxi"}}
SOMEBODY = "ab" * 16


class Unshowable:
    """Its repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


HOSTILE: list[Any] = [
    HUGE, -HUGE, HALF, Unshowable(), math.nan, math.inf, Decimal("sNaN"), [], {}, b"x", 1 + 1j,
]  # fmt: skip


@pytest.fixture
def edge() -> Iterator[FakeEdge]:
    made = FakeEdge([TAXI])
    yield made
    made.close()


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    "field",
    ["cell", "place", "activity", "time", "channel", "basket", "stage", "attributes", "lat"],
)
def test_a_context_takes_a_value_or_says_why_not(field: str, value: Any) -> None:
    every: list[dict[str, Any]] = [{field: value}, {field: [value]}, {field: {"a": value}}]
    for given in every:
        if field == "lat":
            given["lng"] = 1.0
        with contextlib.suppress(UsageError):
            Context(**given)


Attack = Callable[[FakeEdge, Any], object]
ATTACKS: dict[str, Attack] = {
    "placement": lambda e, v: e.decide(Context(), v),
    "slots": lambda e, v: e.decide(Context(), "lobby", v),
    "customer": lambda e, v: e.decide(Context(), "lobby", customer=v),
    "genome": lambda e, v: e.genome(v),
    "session": lambda e, v: e.session(v).decide(Context(), "lobby"),
    "token": lambda e, v: e.session().identify(v, 0.0),
    "patience": lambda e, v: e.session().identify("somebody", v),
    "decision": lambda e, v: e.report(v, "view"),
    "kind": lambda e, v: e.report(SOMEBODY, v),
    "slot": lambda e, v: e.report(SOMEBODY, "view", slot=v),
    "value": lambda e, v: e.report(SOMEBODY, "view", value=v),
    "event_id": lambda e, v: e.report(SOMEBODY, "view", event_id=v),
    "redeem": lambda e, v: e.redeem(v),
    "redeem slot": lambda e, v: e.redeem(SOMEBODY, slot=v),
    "amount": lambda e, v: e.imprint(SOMEBODY, "view", offer="taxi", amount=v),
    "product": lambda e, v: e.imprint(SOMEBODY, "view", product=v),
    "dna": lambda e, v: e.imprint(SOMEBODY, "view", dna=v),
    "salience": lambda e, v: e.imprint(SOMEBODY, "view", dna={"a:b": v}),
    "purpose": lambda e, v: e.set_consent(SOMEBODY, v, True),
    "granted": lambda e, v: e.set_consent(SOMEBODY, "learning", v),
    "callback": lambda e, v: e.on_change(v),
    "wait": lambda e, v: e.wait_ready(v),
    "flush": lambda e, v: e.flush(v),
    "asset": lambda e, v: e.decide(Context(place="hotel"), "x").slots[0].offer.asset(v),  # type: ignore[union-attr]
    "force": lambda e, v: e.force(v),
}


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_method_takes_a_value_or_raises_a_usage_error(
    edge: FakeEdge, attack: str, value: Any
) -> None:
    with contextlib.suppress(UsageError):
        ATTACKS[attack](edge, value)


def test_nothing_but_true_is_consent(edge: FakeEdge) -> None:
    for granted in ("no", "false", 1, None):
        with pytest.raises(UsageError, match="granted"):
            edge.set_consent(SOMEBODY, "personalisation", granted)  # type: ignore[arg-type]
    edge.imprint(SOMEBODY, "view", offer="taxi")
    assert not edge.decide(Context(), "lobby", customer=SOMEBODY).genome_used


def test_an_outcome_of_a_decision_elsewhere_has_a_slot_that_can_be(edge: FakeEdge) -> None:
    for slot in (-1, 64, 2**40, True, "0", 0.0):
        with pytest.raises(UsageError, match="slot"):
            edge.report(SOMEBODY, "view", slot=slot)  # type: ignore[arg-type]


def test_coordinates_in_the_wrong_field_are_in_no_message() -> None:
    wrong: list[dict[str, Any]] = [
        {"cell": "40.7128,-74.0060"},
        {"cell": (40.7128, -74.006)},
        {"cell": 40.7128},
        {"basket": [40.7128]},
        {"attributes": {"where": {"x": 40.7128}}},
        {"attributes": {"where": [(40.7128, -74.006)]}},
        {"attributes": {"user-lat": 40.7128}},
        {"attributes": {"store_longitude": 40.7128}},
        {"attributes": {"gps": 40.7128}},
        {"attributes": {"LatLng": "40.7128,-74.0060"}},
    ]
    for given in wrong:
        with pytest.raises(UsageError) as caught:
            Context(**given)
        assert "40.71" not in str(caught.value)


def test_an_endless_basket_is_refused() -> None:
    with pytest.raises(UsageError, match="basket"):
        Context(basket=(str(n) for n in itertools.count()))


def test_flush_ends_whatever_the_timeout_is(tmp_path: Path) -> None:
    with EdgeClient(tmp_path / "store", config=Config(group_commit_s=0.0)) as edge:
        edge.decide(Context(), "lobby")
        with pytest.raises(UsageError, match="timeout=nan"):
            edge.flush(math.nan)
        assert edge.flush(-1.0) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 1e30, "x", None, True])
def test_a_setting_that_would_stop_a_thread_is_refused(value: Any) -> None:
    for name in ("watch_s", "group_commit_s", "durable_timeout_s", "outbox_max_bytes"):
        with pytest.raises(ValueError, match=name):
            Config(**{name: value})


def test_so_is_one_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENOME_EDGE_WATCH_S", "nan")
    with pytest.raises(UsageError, match="watch_s"):
        EdgeClient(tmp_path / "store")


@pytest.mark.parametrize(
    "given", [{"store": 5}, {"store": "a\0b"}, {"store": ""}, {"server": 5}, {"bundle": 5}]
)
def test_a_client_is_not_opened_with_nonsense(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        EdgeClient(**given)


def test_a_bundle_is_decided_from_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(prefix: str) -> str:
        raise FileNotFoundError(f"no usable temporary directory for {prefix}")

    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    with EdgeClient(bundle=Town().bundle()) as edge:
        assert edge.wait_ready(20)
        assert edge.decide(Context(), "lobby").release > 0
        assert edge.status.outbox == 1, "what is in memory only is not sent either"


def test_a_clock_beyond_the_calendar_stops_no_decision() -> None:
    clock = DeviceClock(lambda: time.time_ns() // 1_000_000)
    clock.hear(2**62, 2**62)
    assert clock.now_ms() == LATEST_MS
    assert clock.stamp().server_ms == LATEST_MS
    Context().local_time(clock.now_ms())
    assert DeviceClock(lambda: -(2**62)).now_ms() == 0


def test_a_message_can_be_printed_anywhere() -> None:
    code = (
        "from edge_sdk import Context, UsageError\n"
        "try: Context(basket=['\\ud800'])\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert "basket" in done.stdout


def test_what_no_event_can_hold_is_refused_at_once(edge: FakeEdge) -> None:
    longest = [f"place:{number:0120}" for number in range(1_001)]
    with pytest.raises(UsageError, match="dna holds 1001 markers; at most 1000"):
        edge.imprint(SOMEBODY, "view", dna=longest)
    edge.imprint(SOMEBODY, "view", dna=longest[1:])
    assert edge.events[-1].ByteSize() < MAX_BODY_BYTES
