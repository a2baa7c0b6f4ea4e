"""`genome-server doctor`: whether a tenant can do its work, and what to do where it cannot.

Every check gives one finding: what was looked at, a verdict ("good", "warning" or "bad"), a
sentence, and what to do. Nothing is changed by looking, and the server may run meanwhile.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from genome_server.cli.output import EXIT_REFUSED, Console, common_options, describe
from genome_server.errors import GenomeServerError
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_edge.v1 import release_pb2
    from genome_server.home import Home, Tenant
    from genome_server.store.protocol import Store

GOOD: Final = "good"
WARNING: Final = "warning"
BAD: Final = "bad"

#: A certificate that ends sooner is worth a warning; so is less room, or a device silent longer.
_SOON_DAYS: Final = 30
_LITTLE_ROOM: Final = 5 * 1024**3
_NO_ROOM: Final = 512 * 1024**2
_SILENT_DAYS: Final = 3
_NAMED: Final = 5
_RESTORE: Final = "restore it from your backup: genome-server restore FOLDER"


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    verdict: str
    text: str
    todo: str = ""


@click.command()
@common_options
def command(console: Console) -> None:
    """Check keys, signatures, log, store, certificate, disk and devices, and say what to do.

    Ends with 0 where nothing is bad (warnings are not), with 1 where something is.
    """
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:  # refuses where there is none, or a damaged one
        found = list(examine(console.home, tenant, store, now_ms()))
    worst = next((v for v in (BAD, WARNING) if any(f.verdict == v for f in found)), GOOD)
    facts = {"tenant": tenant.name, "verdict": worst, "findings": [asdict(f) for f in found]}
    console.result(facts, lambda: _print(console, found))
    if worst == BAD:
        raise click.exceptions.Exit(EXIT_REFUSED)


def now_ms() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 1_000_000


def examine(home: Home, tenant: Tenant, store: Store, at_ms: int) -> Iterator[Finding]:
    """All findings, in the order in which one thing needs the other."""
    checks: Sequence[tuple[str, Callable[[], Iterator[Finding]]]] = (
        ("store", lambda: _store(tenant, store)),
        ("keys", lambda: _keys(tenant, store)),
        ("timestamp", lambda: _timestamp(store, at_ms)),
        ("releases", lambda: _releases(store)),
        ("log", lambda: _log(tenant)),
        ("certificate", lambda: _certificates(home, at_ms)),
        ("disk", lambda: _disk(tenant)),
        ("devices", lambda: _devices(store, at_ms)),
    )
    for name, check in checks:
        try:
            yield from check()
        except (GenomeServerError, OSError, ValueError, sqlite3.Error) as error:
            yield Finding(name, BAD, f"it cannot be checked: {describe(error)}")


def _store(tenant: Tenant, store: Store) -> Iterator[Finding]:
    customers = store.customer_count()
    if tenant.db_path.is_file():
        from genome_server.log.schema import open_read_only

        with closing(open_read_only(tenant.db_path)) as db:
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            yield Finding("store", BAD, f"{tenant.db_path} is damaged: {said}", _RESTORE)
            return
    yield Finding("store", GOOD, f"it opens: {customers:,} customers")


def _keys(tenant: Tenant, store: Store) -> Iterator[Finding]:
    from genome_server.releases.keyring import ROLES, current_root, here, role_threshold

    root = current_root(store)
    for role in ROLES:
        have, need = len(here(tenant, root, role)), role_threshold(root, role)
        text = f"{role}: {have} here, {need} must sign"
        if have >= need:
            yield Finding("keys", GOOD, text)
        elif role == "root":  # kept on another machine by those who are careful
            text += "; a root is then signed elsewhere (genome-server keys export, sign, import)"
            yield Finding("keys", GOOD, text)
        else:
            todo = f"restore them from your backup, or run genome-server keys rotate {role}"
            yield Finding("keys", BAD, text, todo)
    for path in (tenant.credential_key_path, tenant.presence_key_path):
        if not path.is_file():
            yield Finding("keys", BAD, f"{path} is missing", "restore it from your backup")
    for path in _open_to_others(tenant):
        todo = f"chmod {'700' if path.is_dir() else '600'} {path}"
        yield Finding("keys", BAD, f"{path} can be read by others than its owner", todo)


def _open_to_others(tenant: Tenant) -> list[Path]:
    """Private keys that are not their owner's alone."""
    folder = tenant.keys_dir
    secrets = [*folder.rglob("*.pem"), *folder.glob("*.key")]
    return sorted(p for p in secrets if stat.S_IMODE(p.stat().st_mode) & 0o077)


def _timestamp(store: Store, at_ms: int) -> Iterator[Finding]:
    from edge_sdk.errors import TrustError
    from edge_sdk.sync.roles import verify_timestamp
    from genome_edge.v1 import release_pb2
    from genome_server.releases.keyring import current_root

    root = current_root(store)
    yield from _root(root, at_ms)
    signed = store.trusted("timestamp")
    if not signed:
        todo = "start genome-server serve, or publish: either signs one"
        yield Finding("timestamp", WARNING, "none was signed yet", todo)
        return
    try:
        stated = verify_timestamp(
            release_pb2.SignedTimestamp.FromString(signed[-1]), root, at_ms, held=True
        )
    except TrustError as error:
        todo = "see keys; once they are right, genome-server serve signs it anew"
        yield Finding("timestamp", BAD, f"devices do not believe it: {error}", todo)
        return
    left = _days(stated.expires_ms - at_ms)
    if stated.expires_ms <= at_ms:
        text = f"timestamp {stated.version} ended {-left} days ago: devices get more careful"
        todo = "see that genome-server serve runs: it signs timestamps anew"
        yield Finding("timestamp", BAD, text, todo)
    else:
        yield Finding("timestamp", GOOD, f"timestamp {stated.version} holds for {left} days")


def _root(root: release_pb2.TrustRoot, at_ms: int) -> Iterator[Finding]:
    if not root.expires_ms:
        return
    left = _days(root.expires_ms - at_ms)
    if left > _SOON_DAYS:
        return
    text = f"root {root.version} ends in {left} days; devices then believe nothing new"
    todo = "run genome-server keys rotate root --no-new --expires-days DAYS"
    yield Finding("timestamp", BAD if left <= 0 else WARNING, text, todo)


def _releases(store: Store) -> Iterator[Finding]:
    """Whether devices can read the genomes with the releases that they may be given."""
    from genome_server.genomes.rows import built_schema

    built, rows = built_schema(store), store.releases_in_force()
    behind = [row for row in rows if built is not None and row.schema_epoch != built.epoch]
    if built is not None and behind:
        names = ", ".join(str(row.version) for row in behind[:_NAMED])
        text = f"devices of release {names} get no genomes: those are of schema epoch {built.epoch}"
        yield Finding("releases", WARNING, text, "genome-server publish, to all of them")
    elif rows:
        yield Finding("releases", GOOD, f"{len(rows):,} in force, which the genomes fit")


def _log(tenant: Tenant) -> Iterator[Finding]:
    from genome_server.log.verify import verify_end

    if not tenant.log_path.is_file():
        todo = "start genome-server serve, which makes it; if there was one: genome-server restore"
        yield Finding("log", WARNING, f"{tenant.log_path} is not there yet", todo)
        return
    events, faults = verify_end(tenant.log_path)
    if faults:
        text = f"{len(faults)} faults at its end, the first: {faults[0].message}"
        yield Finding("log", BAD, text, f"run genome-server log verify; {_RESTORE}")
    else:
        yield Finding("log", GOOD, f"its last {events:,} events are whole")


def _certificates(home: Home, at_ms: int) -> Iterator[Finding]:
    from cryptography import x509

    for path in sorted(home.tls_dir.glob("*.pem")):
        content = path.read_bytes()
        if b"BEGIN CERTIFICATE" not in content:
            continue
        ends = x509.load_pem_x509_certificate(content).not_valid_after_utc
        left = _days(int(ends.timestamp() * 1000) - at_ms)
        text = f"{path.name} ends in {left} days"
        todo = "make or get a new one, and give devices its ca_file before this one ends"
        if left > _SOON_DAYS:
            yield Finding("certificate", GOOD, text)
        else:
            yield Finding("certificate", BAD if left <= 0 else WARNING, text, todo)


def _disk(tenant: Tenant) -> Iterator[Finding]:
    room = shutil.disk_usage(tenant.dir).free
    text = f"{room / 1024**3:.1f} GiB free at {tenant.dir}"
    todo = "make room: the log grows with every event, and a build needs room for a while"
    if not os.access(tenant.dir, os.W_OK):
        yield Finding("disk", BAD, f"{tenant.dir} cannot be written", "see its owner and mode")
    elif room < _LITTLE_ROOM:
        yield Finding("disk", BAD if room < _NO_ROOM else WARNING, text, todo)
    else:
        yield Finding("disk", GOOD, text)


def _devices(store: Store, at_ms: int) -> Iterator[Finding]:
    devices = [device for device in store.devices() if not device.revoked]
    silent = sorted(
        (d for d in devices if at_ms - max(d.seen_ms, d.created_ms) > _SILENT_DAYS * DAY_MS),
        key=lambda d: d.seen_ms,
    )
    if not silent:
        yield Finding("devices", GOOD, f"{len(devices):,} enrolled, none silent for long")
        return
    names = ", ".join(d.name or d.id for d in silent[:_NAMED])
    more = f" and {len(silent) - _NAMED:,} more" if len(silent) > _NAMED else ""
    text = f"{len(silent):,} of {len(devices):,} not heard for {_SILENT_DAYS} days: {names}{more}"
    todo = "see genome-server devices show ID; revoke those that are gone"
    yield Finding("devices", WARNING, text, todo)


def _days(ms: int) -> int:
    """Whole days, rounded down."""
    return ms // DAY_MS


def _print(console: Console, found: Sequence[Finding]) -> None:
    for finding in found:
        console.print(f"{finding.verdict:<8} {finding.check:<12} {finding.text}")
        if finding.todo:
            console.print(f"{'':<21} {finding.todo}")
