"""A bit flips on the disk, anywhere in a store: it is noticed, or it changes nothing.

A store with something of everything is closed and taken down: events to send, redemptions, caps,
imprints and consents that the server does not have yet, the record of decisions, genomes, lookups,
the release with its model, who the device is and its key, what is in force, contents that are not
whole yet, and what is decided from all of it. Each round flips one bit (sometimes a few) in one
file of a copy and opens it. Either the store says that something is wrong, and what
it still gives is part of the truth; or everything is as it was.
"""

from __future__ import annotations

import collections
import hashlib
import hmac
import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from edge_sdk.engine.decide import decide
from edge_sdk.errors import EdgeError
from edge_sdk.runtime import loading
from edge_sdk.store import state
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.guarded import REBUILT
from edge_sdk.store.identity import Identity
from edge_sdk.sync.keys import DeviceKey
from genome_edge.v1 import enrolment_pb2
from tests.drills import stores
from tests.drills.findings import Findings
from tests.unit.authority import Authority

SHORT: Final = 150
LONG: Final = 10_000
UNIT: Final = "flips"
_KEY: Final = bytes(range(32))
_CONTENT: Final = bytes(range(256)) * 16
_NOW_MS: Final = 1_800_000_000_000


def play(
    folder: Path, seed: int, rounds: int, progress: Callable[[int], None], first: int = 0
) -> Findings:
    """Flip and look."""
    found, outcomes = Findings(), collections.Counter[tuple[str, str]]()
    whole = folder / "whole"
    make(whole)
    truth = facts(whole)
    assert not truth["said"], truth["said"]
    files = sorted(path for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
    for number in range(first, first + rounds):
        rng = random.Random(f"{seed}:{number}")
        kinds = sorted({kind_of(path) for path in files})
        kind = rng.choice([*kinds, *["database"] * len(kinds)])
        path = rng.choice([path for path in files if kind_of(path) == kind])
        target = folder / "flipped"
        copy(whole, target, path)
        flip(target / path.relative_to(whole), rng)
        seen = facts(target)
        verdict = judge(truth, seen)
        outcomes[kind, "detected" if seen["said"] else "harmless"] += 1
        if verdict:
            found.fail(number, f"{path.relative_to(whole)}: {verdict}")
        for left in folder.glob("flipped*"):
            shutil.rmtree(left)
        found.tried += 1
        progress(number - first + 1)
    for (kind, outcome), times in sorted(outcomes.items()):
        found.note(f"{kind:<10} {outcome:<10} {times:>6}")
    return found


def kind_of(path: Path) -> str:
    """What is in a file."""
    if "sqlite" in path.name:
        return "database"
    if path.name == "device.pem":
        return "key"
    return _KINDS.get(path.parent.name, "others")


_KINDS: Final = {
    "parts": "release",
    "manifests": "manifest",
    "genomes": "genomes",
    "identity": "identity",
    "partial": "partial",
}


def make(folder: Path) -> None:
    """A store with something of everything."""
    with stores.client(folder) as edge, closing(DeviceStore.open(folder)) as store:
        active = store.active_release()
        assert active is not None
        names = [f"customer-{number}" for number in range(stores.CUSTOMERS)]
        subjects = [stores.subject(number) for number in range(stores.CUSTOMERS)]
        hashes = [hmac.digest(_KEY, name.encode(), "sha256")[:16] for name in names]
        stores.put_genomes(store, 3, full=True, lookup=(_KEY, b"".join(hashes), b"".join(subjects)))
        stores.put_genomes(store, 4, full=False, only=5)
        edge_sees(edge)
        for number in range(12):
            decision = edge.decide(stores.MOMENT, stores.PLACEMENT, customer=names[number])
            edge.report(decision, "view", durable=True, event_id=f"event-{number}")
            edge.imprint(names[number], "buy", product="harbour-filter-coffee")
            if number % 3 == 0:
                edge.redeem(decision)
            if number % 4 == 0:
                edge.set_consent(names[number], "learning", False)
        edge.flush(0.1)
    with closing(DeviceStore.open(folder)) as store:
        enrol(store)
        store.append_partial(hashlib.sha256(_CONTENT).digest(), 0, _CONTENT)


def enrol(store: DeviceStore) -> None:
    """Make it a device's, with something in force."""
    authority = Authority()
    credential = enrolment_pb2.SignedCredential(
        credential=enrolment_pb2.Credential(
            public_key=DeviceKey.load_or_create(store.key_path).public
        ).SerializeToString()
    ).SerializeToString()
    root = authority.root.SerializeToString()
    store.set_identity(Identity("http://localhost:1", "acme", "d", "all", credential, root))
    stops = authority.stop_list(1, "taxi-to-the-airport")
    store.put_trust(authority.root, authority.timestamp(1, stops=stops), stops)
    assert store.standing().stopped


def edge_sees(edge: Any) -> None:
    """Wait until the client has the genomes."""
    import time

    deadline = time.monotonic() + 10
    while edge.status.genomes < stores.CUSTOMERS and time.monotonic() < deadline:
        time.sleep(0.01)
    assert edge.status.genomes == stores.CUSTOMERS


def copy(whole: Path, target: Path, flipped: Path) -> None:
    """A copy of the store; what is neither flipped nor ever written to is linked."""
    for path in whole.rglob("*"):
        name = target / path.relative_to(whole)
        if path.is_dir():
            name.mkdir(parents=True, exist_ok=True)
            continue
        name.parent.mkdir(parents=True, exist_ok=True)
        if path == flipped or kind_of(path) in ("database", "others"):
            shutil.copy2(path, name)
        else:
            os.link(path, name)


def flip(path: Path, rng: random.Random) -> None:
    """Flip one bit or a few."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def facts(folder: Path) -> dict[str, Any]:
    """Everything that a store gives; `said` is what it tells of damage."""
    seen = stores.look(folder)
    facts: dict[str, Any] = {
        "said": list(seen.said),
        "events": seen.events,
        "declared": seen.declared,
        "redeemed": seen.redeemed,
        "highest": seen.highest,
        "release": seen.release,
        "genomes": set(),
    }
    steps: list[Callable[[DeviceStore, dict[str, Any]], None]] = [
        _marks,
        _key,
        _standing,
        _partial,
        _memory,
        _genomes,
        _release,
    ]
    while steps:  # what raised is not asked again; the others are, of a store that is open anew
        step = steps.pop(0)
        try:
            with closing(DeviceStore.open(folder)) as store:
                step(store, facts)
                while steps:
                    steps.pop(0)(store, facts)
                if store.incident is not None:
                    facts["said"].append(str(store.incident))
                if store.losses().get(REBUILT):
                    facts["said"].append("it was rebuilt")
        except EdgeError as error:
            facts["said"].append(f"{type(error).__name__}: {error}")
    return facts


def _partial(store: DeviceStore, facts: dict[str, Any]) -> None:
    """As a sync goes on with it: what is whole is taken, and what is another content is not."""
    try:
        path = store.finish_partial(hashlib.sha256(_CONTENT).digest())
    except ValueError as error:
        facts["said"].append(str(error))
    else:
        facts["partial"] = path.read_bytes()


def _key(store: DeviceStore, facts: dict[str, Any]) -> None:
    """Who this is, as a sync asks before it calls."""
    identity = store.identity()
    facts["identity"] = repr(identity)
    if identity is not None:
        facts["key"] = DeviceKey.load(store.key_path, identity.credential).sign(b"?")


def _standing(store: DeviceStore, facts: dict[str, Any]) -> None:
    facts["standing"] = repr(store.standing())


def _marks(store: DeviceStore, facts: dict[str, Any]) -> None:
    facts["cursor"] = store.genome_cursor()
    facts["epoch"] = store.epoch()
    facts["times"] = (store.server_offset_ms(), store.clock_floor_ms())


def _memory(store: DeviceStore, facts: dict[str, Any]) -> None:
    with store.read() as connection:
        facts["pending"] = {repr(one) for one in state.read_pending(connection)}
        facts["consents"] = set(state.read_consents(connection))
        facts["caps"] = {repr(row) for row in state.read_caps(connection)[0]}
        facts["ids"] = {row[0] for row in connection.execute("SELECT id FROM event_ids")}
        facts["ring"] = {repr(frame) for frame in state.recent_decisions(connection, 1 << 20)}


def _genomes(store: DeviceStore, facts: dict[str, Any]) -> None:
    view = store.genomes()
    facts["genomes"] = {
        (row.subject, row.consents, row.indices.tobytes(), row.codes.tobytes())
        for row in view.rows()
    }
    names = [f"customer-{number}" for number in range(stores.CUSTOMERS)]
    facts["lookups"] = {(name, view.subject_of(name)) for name in names}


def _release(store: DeviceStore, facts: dict[str, Any]) -> None:
    loaded = loading.load_stored(store)
    if loaded.cause is not None:
        facts["said"].append(str(loaded.cause))
    if loaded.release is None:
        facts["decided"] = None
        return
    decision, record = decide(
        loaded.release,
        stores.MOMENT,
        stores.PLACEMENT,
        seed=7,
        now_ms=_NOW_MS,
        decision_id=bytes(16),
    )
    scores = b"" if record.scores is None else record.scores.tobytes()
    facts["decided"] = (repr(decision.slots), scores)


_SETS: Final = (
    *("events", "redeemed", "genomes", "pending", "consents", "caps", "ids", "ring", "lookups"),
)


_ALIKE: Final = ("identity", "key", "partial", "standing", "cursor", "epoch", "times")


def judge(truth: dict[str, Any], seen: dict[str, Any]) -> str:
    """What is silently wrong; empty: nothing."""
    for name in _SETS:
        invented = seen.get(name, set()) - truth[name]
        if name == "consents":  # what was damaged grants nothing
            invented = {consent for consent in invented if consent[2]}
        if name == "lookups":  # not found is no invention
            invented = {pair for pair in invented if pair[1] is not None}
        if invented:
            return f"{name} that were never there"
        lost = truth[name] - seen.get(name, set())
        declared = name == "events" and seen["declared"] > truth["declared"]
        if lost and not seen["said"] and not declared:
            return f"{len(lost)} {name} are gone without a word"
    for name in ("identity", "key", "partial"):
        if seen.get(name) not in (None, truth[name]):
            return f"{name} is {seen.get(name)!r}, was {truth[name]!r}"
    decided = seen.get("decided")
    if decided is not None and decided != truth["decided"]:
        return "another decision"
    if seen["said"]:
        return ""
    for name in ("release", "highest", *_ALIKE):
        if seen.get(name) != truth.get(name):
            return f"{name} is {seen.get(name)!r}, was {truth.get(name)!r}"
    return ""
