"""The client: consent first, customers found, names that are not known, many threads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sdk import (
    Context,
    EdgeClient,
    Purpose,
    Reason,
    UsageError,
)
from edge_sdk.runtime.live import Live
from edge_sdk.store.device import DeviceStore
from tests.unit.device_client import FAST, MOMENT, events, store_of
from tests.unit.device_town import (
    commit_rows,
    customer,
    filled,
    row,
    subject,
    until,
)

# Consent first ----------------------------------------------------------------------------------


def test_without_consent_no_strength_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = filled(tmp_path / "store")
    store = DeviceStore.open(tmp_path / "store")
    commit_rows(store, [row(7, consents=0, town=town)], town, full=False, known=[7])
    store.close()
    looked: list[bytes] = []
    original: Callable[[Live, bytes], Any] = Live.row

    def watched(self: Live, who: bytes) -> Any:
        looked.append(who)
        return original(self, who)

    monkeypatch.setattr(Live, "row", watched)
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        assert edge.wait_ready(10)
        edge.imprint(customer(7), "buy", product="poems")
        decision = edge.decide(MOMENT, "lobby", customer=customer(7))
        assert not decision.genome_used
        assert looked == []
        assert edge.decide(MOMENT, "lobby", customer=customer(1)).genome_used
        assert looked == [subject(1)]


def test_a_withdrawal_counts_at_once_and_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        assert edge.genome(customer(1))
        edge.set_consent(customer(1), Purpose.PERSONALISATION, False)
        assert edge.genome(customer(1)) is None
        assert not edge.decide(MOMENT, "lobby", customer=customer(1)).genome_used
    with EdgeClient(tmp_path / "store", config=FAST) as edge:
        edge.wait_ready(10)
        assert edge.genome(customer(1)) is None
        edge.set_consent(customer(1), "personalisation", True)
        assert edge.genome(customer(1))
        said = [e.consent for e in events(edge) if e.HasField("consent")]
        assert [(c.purpose, c.granted) for c in said] == [(1, False), (1, True)]


def test_a_grant_before_the_row_comes_reads_what_happened_here(edge: EdgeClient) -> None:
    edge.imprint(subject(9).hex(), "buy", product="poems")
    assert edge.genome(subject(9).hex()) is None
    edge.set_consent(subject(9).hex(), Purpose.PERSONALISATION, True)
    assert list(edge.genome(subject(9).hex()) or {}) == ["category:book"]


def test_consent_of_nobody_would_be_lost(edge: EdgeClient) -> None:
    for who in ("a stranger", bytes(16).hex()):
        with pytest.raises(UsageError):
            edge.set_consent(who, Purpose.PERSONALISATION, True)
    with pytest.raises(UsageError, match="personalisation, learning, location"):
        edge.set_consent(customer(1), "everything", True)


# Customers --------------------------------------------------------------------------------------


def test_customers_are_found_by_the_apps_id_or_by_subject(edge: EdgeClient) -> None:
    by_id = edge.decide(MOMENT, "lobby", customer=customer(1))
    by_subject = edge.decide(MOMENT, "lobby", customer=subject(1).hex())
    nobody = edge.decide(MOMENT, "lobby")
    assert by_id.genome_used
    assert by_subject.genome_used
    assert not nobody.genome_used
    assert by_id.unknown == by_subject.unknown == nobody.unknown == ()
    assert by_id.slots[0].score == by_subject.slots[0].score != nobody.slots[0].score


@pytest.mark.parametrize(
    "almost",
    [
        subject(1).hex()[:31],
        subject(1).hex()[:30] + "  ",
        " ".join((subject(1).hex()[:16], subject(1).hex()[16:])),
        subject(1).hex()[:31] + "g",
        subject(1).hex()[:31] + "\uff11",
    ],
)
def test_what_is_almost_a_subject_is_none(edge: EdgeClient, almost: str) -> None:
    decision = edge.decide(MOMENT, "lobby", customer=almost)
    assert [one.kind for one in decision.unknown] == ["customer"]


def test_an_unknown_customer_is_decided_for_and_said(
    edge: EdgeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        decision = edge.decide(MOMENT, "lobby", customer="jane@example.com")
        until(lambda: "a customer is not known" in caplog.text)
    assert decision.offer is not None
    assert not decision.genome_used
    assert [(one.kind, one.name) for one in decision.unknown] == [("customer", "jane@example.com")]
    assert edge.status.reasons["unknown_customer"] == 1
    assert "jane" not in caplog.text
    edge.flush(0)
    for file in store_of(edge).path.rglob("*"):
        assert not file.is_file() or b"jane@" not in file.read_bytes(), file


def test_a_customer_is_text(edge: EdgeClient) -> None:
    with pytest.raises(UsageError):
        edge.decide(MOMENT, "lobby", customer=7)  # type: ignore[arg-type]


# What is not known ------------------------------------------------------------------------------


def test_a_typo_in_a_placement_is_said_with_the_nearest(
    edge: EdgeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        for _ in range(5):
            decision = edge.decide(MOMENT, "loby", 2)
        until(lambda: "did you mean 'lobby'" in caplog.text)
    assert decision.reason is Reason.UNKNOWN_PLACEMENT
    assert decision.unknown[0].nearest == "lobby"
    assert edge.status.reasons["UNKNOWN_PLACEMENT"] == 5
    assert caplog.text.count("unknown placement") == 1, "one line, not one for each decision"


def test_an_unknown_marker_is_said_with_the_nearest(
    edge: EdgeClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "edge_sdk"):
        decision = edge.decide(Context(activity="flight-serch"), "lobby")
        until(lambda: "did you mean 'activity:flight-search'" in caplog.text)
    assert decision.offer is not None
    assert edge.status.reasons["unknown_marker"] == 1
