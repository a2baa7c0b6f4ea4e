"""What `doctor` looks at. Each check says what it found and what to do about it."""

from __future__ import annotations

import shutil
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from edge_sdk.cli.output import ago
from edge_sdk.clock import DeviceClock
from edge_sdk.config import Config
from edge_sdk.decision import Reason, Tier
from edge_sdk.engine.release import Release
from edge_sdk.engine.withheld import Withholding, languages_of
from edge_sdk.errors import (
    EdgeError,
    RefusedError,
    StoreCorrupt,
    TrustError,
    UnreachableError,
    UsageError,
)
from edge_sdk.outbox.queue import Outbox
from edge_sdk.runtime import loading
from edge_sdk.status import SKEW_MS, tier_of, warnings_of
from edge_sdk.store.device import DeviceStore, StoredRelease
from edge_sdk.sync import trust
from edge_sdk.sync.installing import load, read_parts
from edge_sdk.sync.keys import DeviceKey, ServerClock
from edge_sdk.sync.probe import probe
from genome_edge.v1 import release_pb2

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"

_LITTLE_SPACE: Final = 200 << 20
_MANY_EVENTS: Final = 10_000
_DEPLOY: Final = "run genome-edge sync --once"


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    name: str
    level: str
    found: str
    todo: str = ""

    def lines(self) -> list[str]:
        """The check for people."""
        said = [f"{self.level.ljust(4)}  {self.name}: {self.found}"]
        return [*said, f"      -> {self.todo}"] if self.todo else said


@dataclass
class Patient:
    """The device, and what earlier checks found out about it."""

    store: DeviceStore
    config: Config
    cell: int | None
    release: Release | None = None
    server_ms: int | None = None
    clock: DeviceClock = field(default_factory=DeviceClock)

    def __post_init__(self) -> None:
        self.clock.hear(*self.store.time_known())


def guarded(check: Callable[[Patient], list[Check]], patient: Patient) -> list[Check]:
    """Run a check; one that stumbles over what it looks at is a failed one."""
    try:
        return check(patient)
    except EdgeError as error:
        return [Check(check.__name__, FAIL, str(error), "run doctor again; see what else it says")]


def store(patient: Patient) -> list[Check]:
    """The SQLite file, the free space."""
    path = patient.store.path
    found = []
    incident = patient.store.incident
    if incident is not None:
        found.append(
            Check("store", WARN, str(incident), "what was there was moved aside; " + _DEPLOY)
        )
    elif patient.store.database.is_intact():
        found.append(Check("store", OK, f"{path} is intact"))
    else:
        found.append(Check("store", FAIL, f"{path} is damaged", "restart the app: it is rebuilt"))
    free = shutil.disk_usage(path).free
    if free < _LITTLE_SPACE:
        found.append(
            Check("space", WARN, f"{free >> 20} MiB are left on the disk", "make some room")
        )
    return found


def credential(patient: Patient) -> list[Check]:
    """Who this device is, and whether its key is its own secret."""
    identity = patient.store.identity()
    if identity is None:
        return [
            Check(
                "credential",
                WARN,
                "this device is not enrolled: it syncs and reports nothing",
                "get a code with genome-server devices enrol, then run genome-edge enrol",
            )
        ]
    again = "enrol again with a new store"
    path = patient.store.key_path
    try:
        DeviceKey.load(path, identity.credential)
    except FileNotFoundError:
        return [Check("credential", FAIL, f"the private key {path} is gone", again)]
    except StoreCorrupt as error:
        return [Check("credential", FAIL, str(error), again)]
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return [
            Check(
                "credential", WARN, f"others can read the key (mode {mode:o})", f"chmod 600 {path}"
            )
        ]
    return [Check("credential", OK, f"device {identity.device_id} of {identity.tenant}")]


def release(patient: Patient) -> list[Check]:
    """The active release: signed, whole, able to decide, young enough."""
    stored = patient.store.active_release()
    if stored is None:
        return [Check("release", FAIL, "there is none yet", _DEPLOY)]
    signed = release_pb2.SignedManifest.FromString(stored.signed_manifest)
    try:
        by = _signers(patient.store, signed)
        patient.release = load(
            stored.manifest, read_parts(patient.store.read_part, stored.manifest)
        )
    except TrustError as error:
        what = f"release {stored.version} cannot be used ({error.reason}): {error}"
        return [Check("release", FAIL, what, _DEPLOY + "; the release before is used meanwhile")]
    found = f"{stored.version} is whole and its golden vectors hold{by}"
    return [
        Check("release", OK, found),
        _age(patient, stored),
    ]


def _signers(store: DeviceStore, signed: release_pb2.SignedManifest) -> str:
    """Words about who signed a release: keys of today, or such that were in force when it came.

    Raises TrustError where it was nobody whom this device ever had a reason to believe.
    """
    identity, root = store.identity(), store.standing().root
    if identity is None:
        return ""
    pinned = release_pb2.TrustRoot.FromString(identity.root)
    try:
        trust.verify_manifest(signed, root, 0, 0, held=True)
    except TrustError:
        if root.version <= pinned.version:
            raise
        # Keys come and go one root after the other; those between the two are not kept.
        return "; its keys were replaced since"
    return ""


def _age(patient: Patient, stored: StoredRelease) -> Check:
    now_ms = patient.clock.now_ms()
    since_ms, until_ms = loading.fresh_span(stored, patient.store.standing())
    left_ms = until_ms - now_ms
    published = f"published {ago(now_ms - stored.manifest.created_ms)} ago"
    tier = tier_of(until_ms, now_ms, patient.config)
    if tier is Tier.FRESH:
        found = f"{published}, fresh for {ago(left_ms)} more"
        if left_ms * 3 < until_ms - since_ms:
            todo = "see whether this device reaches the server: it says that nothing has changed"
            return Check("release age", WARN, found, todo)
        return Check("release age", OK, found)
    level = WARN if tier is Tier.STALE else FAIL
    found = f"{published}, no longer fresh since {ago(left_ms)}: decisions are {tier.value}"
    return Check("release age", level, found, "see whether the server runs, then " + _DEPLOY)


def in_force(patient: Patient) -> list[Check]:
    """What the server last signed: keys, freshness, stops."""
    standing = patient.store.standing()
    if not standing.root.release_keys:
        return []
    root = f"trust root {standing.root.version}"
    if not standing.root.timestamp_keys:
        todo = "the server rotates it: see its runbook of keys"
        return [Check("trust", OK, f"{root}, of the first kind: nothing is stopped with it", todo)]
    stops = standing.stop_list
    stopped = f"offers stopped: {len(standing.stopped)}" if standing.stopped else ""
    signed = standing.timestamp
    now_ms = patient.clock.now_ms()
    age = (
        f"freshness signed {ago(now_ms - signed.created_ms)} ago" if signed else "no freshness yet"
    )
    found = ", ".join(filter(None, (root, age, stopped or "nothing is stopped")))
    expires = (standing.root.created_ms, standing.root.expires_ms)
    warnings = warnings_of(now_ms, root=expires)
    if warnings:
        todo = "sign a new root: genome-server keys rotate, then " + _DEPLOY
        return [Check("trust", WARN, f"{found}; {warnings[0]}", todo)]
    if signed is not None and stops is None and signed.stop_list_version:
        return [Check("trust", WARN, f"{found}, but there is a stop list", _DEPLOY)]
    return [Check("trust", OK, found)]


def genomes(patient: Patient) -> list[Check]:
    """The genome rows: readable, and of the release's lineage."""
    view = patient.store.genomes()
    if view.lineage is None:
        return [Check("genomes", OK, "none are held")]
    if patient.release is not None and not trust.same_lineage(
        view.lineage, patient.release.manifest.lineage
    ):
        found = f"{view.count} rows cannot be read with this release"
        return [Check("genomes", WARN, found, _DEPLOY)]
    return [Check("genomes", OK, f"{view.count} rows")]


def offers(patient: Patient) -> list[Check]:
    """What could be shown, near a cell where one is given."""
    if patient.release is None:
        return []
    catalogue = patient.release.catalogue
    places = ", ".join(sorted(patient.release.placements)) or "none"
    everywhere = f"{len(catalogue.offers)} offers; placements: {places}"
    if patient.cell is None:
        found = [Check("offers", OK, everywhere, "")]
        return found if len(catalogue.offers) else [_no_offers("the release holds no offers")]
    cells = [
        (offer, [int(cell, 16) for cell in offer.targeting.cells]) for offer in catalogue.offers
    ]
    parents = set(catalogue.parents(patient.cell))
    near = [offer.id for offer, area in cells if not area or not parents.isdisjoint(area)]
    if not near:
        return [_no_offers(f"none of {len(cells)} is for this cell")]
    kept_back = _kept_back(patient)
    shown = [name for name in near if name not in kept_back]
    few = ", ".join(shown[:5]) + (" ..." if len(shown) > 5 else "")
    why = Counter(reason.value for name in near for reason in kept_back.get(name, ()))
    counted = "".join(f"; {n} kept back: {reason}" for reason, n in why.items())
    what = f"{len(near)} of {len(cells)} are for this cell{counted}: {few or 'none is left'}"
    return [Check("offers", OK if shown else WARN, what, "" if shown else _DEPLOY)]


def _kept_back(patient: Patient) -> dict[str, list[Reason]]:
    """Why offers may not be shown on this device now, by id."""
    release, store = patient.release, patient.store
    if release is None:
        return {}
    said = loading.in_force(store, store.standing(), release)
    heard_ms = max(store.last_contact_ms() or 0, said.said_ms, int(release.manifest.created_ms))
    withheld = Withholding(release.catalogue, said).at(
        languages_of(patient.config.language), patient.clock.now_ms() - heard_ms
    )
    ids = release.catalogue.ids
    return {ids[row]: withheld.reasons(row) for row in range(len(ids)) if not withheld.allows(row)}


def _no_offers(found: str) -> Check:
    return Check("offers", WARN, found, "genome-server offers check says which are for nowhere")


def outbox(patient: Patient) -> list[Check]:
    """What waits to be sent, and what was refused."""
    unsent = Outbox(patient.store, patient.config).unsent()
    aside = sum(1 for _ in (patient.store.path / "rejected").iterdir())
    waiting = f"events to send: {unsent}"
    found = [Check("outbox", OK, waiting)]
    if unsent > _MANY_EVENTS:
        found = [Check("outbox", WARN, waiting, "check the network")]
    if aside:
        where = patient.store.path / "rejected"
        what = f"{aside} batches were refused for good and are kept in {where}"
        found.append(Check("refused", WARN, what, "send them to whoever maintains the app"))
    return found


def network(patient: Patient) -> list[Check]:
    """Whether the server answers this device, over TLS where it must, and believes it."""
    identity = patient.store.identity()
    if identity is None:
        return []
    clock = ServerClock(patient.store.server_offset_ms())
    try:
        patient.server_ms = probe(patient.store, patient.config, identity, clock)
    except RefusedError as error:
        lost = error.reason in ("CREDENTIAL_REVOKED", "UNAUTHENTICATED")
        todo = "enrol again, with a new store" if lost else "see docs/wire.md"
        said = f"{identity.server} refuses: {error} ({error.reason})"
        return [Check("network", FAIL, said, todo)]
    except UnreachableError as error:
        todo = "decisions go on without it; check the address, the network, TLS (--ca at enrolment)"
        return [Check("network", FAIL, str(error), todo)]
    except UsageError as error:
        return [Check("network", FAIL, str(error), "enrol again with another address")]
    return [Check("network", OK, f"{identity.server} answers and knows this device")]


def clock(patient: Patient) -> list[Check]:
    """How wrong the wall clock is."""
    if patient.server_ms is not None:
        off_ms = patient.server_ms - ServerClock().now_ms()
    else:
        known = patient.store.server_offset_ms()
        if known is None:
            return [Check("clock", WARN, "the server's time was never heard", _DEPLOY)]
        off_ms = known
    if abs(off_ms) < SKEW_MS:
        return [Check("clock", OK, f"{off_ms / 1000:+z.1f} s from the server's")]
    way = "behind" if off_ms > 0 else "ahead of"
    found = f"{ago(off_ms)} {way} the server's; decisions and proofs take that into account"
    return [Check("clock", WARN, found, "set the clock (NTP)")]
