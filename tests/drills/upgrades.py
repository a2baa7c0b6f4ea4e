"""For the drill `power_cut`: what a released version left on a disk is upgraded, and recorded."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

from edge_sdk.errors import EdgeError
from edge_sdk.store import state
from edge_sdk.store.device import DeviceStore
from genome_server.home import Home
from genome_server.log import Committer, LogReader, verify_log
from tests.drills import stores
from tests.drills.tape import Tape, recording
from tests.versions.released import VERSIONS, unzip


def record(what: str, folder: Path) -> tuple[Path, Tape]:
    """Open a kept "store" or "home" of the first version; the folder before, and the tape.

    The first mark is what is in it, taken from a copy that nothing happened to.
    """
    begin = unzip(VERSIONS[0], what, folder / "begin")
    live, whole = folder / "live", folder / "whole"
    for copy in (live, whole):
        shutil.copytree(begin, copy)
    open_ = _open_store if what == "store" else _open_home
    with recording(live) as tape:
        tape.mark(facts(what, whole))
        open_(live)
    return begin, tape


def check(what: str, folder: Path, marks: list[Any]) -> list[str]:
    """What is not as it was before the upgrade."""
    try:
        seen = facts(what, folder)
    except (EdgeError, OSError) as error:
        return [f"after the upgrade: {error}"]
    truth = marks[0] if marks else seen
    return [
        f"{name} is {seen[name]!r}, was {truth[name]!r}"
        for name in truth
        if seen[name] != truth[name]
    ]


def facts(what: str, folder: Path) -> dict[str, Any]:
    """What is in it, after it was opened as its owner does."""
    return _store_facts(folder) if what == "store" else _home_facts(folder)


def _open_store(folder: Path) -> None:
    DeviceStore.open(folder).close()


def _store_facts(folder: Path) -> dict[str, Any]:
    with closing(DeviceStore.open(folder)) as store:
        seen = stores.Seen()
        stores._look_at_events(store, seen)
        with store.read() as connection:
            ring = state.recent_decisions(connection, 1 << 20)
            kept = {
                "pending": sorted(map(repr, state.read_pending(connection))),
                "consents": sorted(state.read_consents(connection)),
                "decisions": [state.decision_of(frame).decision_id for frame in ring],
            }
        active = store.active_release()
        return kept | {
            "incident": store.incident,
            "identity": repr(store.identity()),
            "epoch": store.epoch(),
            "events": sorted(seen.events),
            "redeemed": sorted(seen.redeemed),
            "highest": store.highest_seen(),
            "release": active.signed_manifest if active is not None else b"",
            "cursor": store.genome_cursor(),
            "genomes": sorted((row.subject, row.codes.tobytes()) for row in store.genomes().rows()),
        }


def _open_home(folder: Path) -> None:
    tenant = Home(folder).tenant("default")
    tenant.open_store().close()
    Committer(tenant.log_path).close()


def _home_facts(folder: Path) -> dict[str, Any]:
    tenant = Home(folder).tenant("default")
    _open_home(folder)
    with closing(tenant.open_store()) as store, LogReader(tenant.log_path) as log:
        return {
            "log": (verify_log(tenant.log_path).whole, log.end(), log.incarnation),
            "devices": sorted(repr(device) for device in store.devices()),
            "releases": [row.version for row in store.releases()],
            "vocabulary": len(store.vocabulary()),
            "rows": list(store.genome_rows("app")),
            "tally": store.tally("app"),
            "audiences": sorted(map(repr, store.audiences())),
        }
