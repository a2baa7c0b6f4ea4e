"""After `wait_ready` the first decision builds nothing, and nothing was written for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from edge_sdk import Context, EdgeClient
from edge_sdk.engine.blocks import Block
from edge_sdk.engine.catalogue import Catalogue
from edge_sdk.engine.release import Release
from edge_sdk.store import state
from tests.bench.stage import PLACEMENT, subject, write_bundle


def no(*_: object) -> NoReturn:
    pytest.fail("the first decision had something to build")


def test_the_first_decision_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", offers=30, genomes=3)
    with EdgeClient(tmp_path / "store", bundle=bundle) as edge:
        assert edge.wait_ready(30)
        modules = set(sys.modules)
        for kind, name in (
            (Catalogue, "_build"), (Block, "_settle"), (Release, "_open_scorer"),
        ):  # fmt: skip
            monkeypatch.setattr(kind, name, no)
        edge.wait_ready(1)
        assert edge.status.reasons == {}
        assert edge.status.outbox == 0
        decision = edge.decide(Context(), PLACEMENT, customer=subject(0).hex())
        assert decision.offer is not None
        assert decision.genome_used
        assert set(sys.modules) == modules
        edge.flush(5)
        store = edge._keeper.open
        assert store is not None
        with store.store.read() as connection:
            kept = state.recent_decisions(connection, 10)
        assert [state.decision_of(frame).decision_id.hex() for frame in kept] == [decision.id]
