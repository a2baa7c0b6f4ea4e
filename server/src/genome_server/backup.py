"""Backups of a tenant, made while it is served, and what comes back from one.

A backup is a folder: copies of store and log as they were at one moment each, the store's first,
so that it never knows of events that the log does not hold; the DNA schema; releases, parts and
models; the list of erasures; and `backup.json`, which names every file with its size and SHA-256
and is written last. A folder is a backup, or it is not there: it gets its name when all of it is
on disk and the log's copy was read through and found whole. Keys stay out unless they are asked
for: who has them can sign releases.

What comes back is an older state that devices must not take for the newest. So a restored log has
an incarnation of its own, by which devices know that they have to send again what no backup has;
counters whose values devices have seen go on far above them; genomes get a new schema epoch, so
that no release from the time that was lost is used with them; and erased customers are taken out
before anything opens.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_sdk import _posix
from genome_server.dna_file import renew_epoch
from genome_server.errors import NotInitialised, Refused
from genome_server.files import write_whole
from genome_server.genomes.rows import LOG_KEY
from genome_server.home import Tenant
from genome_server.log import schema
from genome_server.log.erase import ERASURES, erase_from_log, erasures, remember_erasures
from genome_server.log.marks import MARKS, write_marks
from genome_server.log.reader import LogReader
from genome_server.log.verify import verify_log
from genome_server.releases.keyring import missing_roles

FORMAT: Final = 1
INDEX: Final = "backup.json"
LOG: Final = "log.sqlite"
STORE: Final = "tenant.sqlite"
_DATABASES: Final = (STORE, LOG)
_FOLDERS: Final = ("releases", "parts", "models")
_KEYS: Final = "keys"
_PAGES_AT_ONCE: Final = 1_024
#: How far counters go on above what a backup says: more than was given since by far.
AHEAD: Final = {"release": 10_000, "genome": 1 << 40, "schema_epoch": 1_000}

Advance = Callable[..., None]


@dataclass(frozen=True)
class Backup:
    """A backup that is there, as its index says. `files` has (bytes, SHA-256) by relative name."""

    path: Path
    tenant: str
    made_ms: int
    incarnation: bytes
    events: int
    waits: bool
    keys: bool
    files: dict[str, tuple[int, str]]

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(size for size, _ in self.files.values())


def make_backup(
    tenant: Tenant,
    path: Path,
    *,
    with_keys: bool = False,
    wait: bool | None = None,
    progress: Advance | None = None,
) -> Backup:
    """Back a tenant up into the new folder `path`, while it is served or not.

    With `wait` true, from now on devices keep what they report until a backup has it; with False
    they no longer do. Raises Refused, NotInitialised, OSError, sqlite3.Error.
    """
    if not tenant.exists:
        raise NotInitialised(f"there is no tenant {tenant.name!r} at {tenant.dir}")
    if not tenant.db_path.is_file():
        raise Refused("a store that a plug-in keeps has to be backed up by its own means")
    if path.exists():
        raise Refused(f"{path} is there already; name a folder that is not")
    if path.resolve().is_relative_to(tenant.dir.parent.resolve()):
        raise Refused(f"{path} lies among the tenants; keep backups elsewhere, on another disk")
    _ensure_log(tenant)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.mkdir(parents=True, mode=0o700)
    try:
        # The store first: what it knows of the log is in the log's later copy.
        copy_database(tenant.db_path, draft / STORE, progress)
        copy_database(tenant.log_path, draft / LOG, progress)
        _copy_files(tenant, draft, with_keys)
        _check_log(draft / LOG)
        if wait is False:
            (tenant.dir / MARKS).unlink(missing_ok=True)
        waits = bool(wait) or (tenant.dir / MARKS).exists()
        with LogReader(draft / LOG) as log:
            index: dict[str, Any] = {
                "format": FORMAT,
                "tenant": tenant.name,
                "made_ms": time.time_ns() // 1_000_000,
                "incarnation": log.incarnation.hex(),
                "events": log.end(),
                "waits": waits,
                "keys": with_keys,
                "files": {name: _fingerprint(draft / name) for name in _files_in(draft)},
            }
            write_whole(draft / INDEX, json.dumps(index, indent=1).encode())
            draft.rename(path)
            _posix.sync_directory(path.parent)
            if waits:
                write_marks(tenant.dir, log.incarnation, log)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return open_backup(path)


def open_backup(path: Path) -> Backup:
    """Read what a backup says of itself. Raises Refused where there is none, or of another kind."""
    try:
        said = json.loads((path / INDEX).read_bytes())
        if said["format"] != FORMAT:
            raise Refused(f"{path} is a backup of format {said['format']}, not {FORMAT}")
        return Backup(
            path,
            str(said["tenant"]),
            int(said["made_ms"]),
            bytes.fromhex(said["incarnation"]),
            int(said["events"]),
            bool(said["waits"]),
            bool(said["keys"]),
            {str(name): (int(size), str(sha)) for name, (size, sha) in said["files"].items()},
        )
    except FileNotFoundError:
        raise Refused(f"{path} is no backup: it has no {INDEX}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"{path / INDEX} cannot be read ({error})") from error


def check_backup(backup: Backup, progress: Advance | None = None) -> None:
    """Read all of a backup. Raises Refused, which names the first file that is not what it was."""
    for name in _DATABASES:
        if name not in backup.files:
            raise Refused(f"{backup.path} is no whole backup: its {INDEX} names no {name}")
    for name, (size, sha) in backup.files.items():
        file = backup.path / name
        inside = file.resolve().is_relative_to(backup.path.resolve())
        if not inside or not file.is_file() or _fingerprint(file) != [size, sha]:
            raise Refused(f"{file} is not what was backed up; take another backup")
        if progress is not None:
            progress(size)


@dataclass(frozen=True)
class Restored:
    """What a restore did. `aside` is where the tenant that was there before went, if any."""

    tenant: str
    incarnation: bytes
    events: int
    erased: int
    customers_erased: int
    missing_keys: tuple[str, ...]
    aside: Path | None


def restore(
    tenant: Tenant,
    path: Path,
    *,
    replace: bool = False,
    lists: tuple[Path, ...] = (),
    progress: Advance | None = None,
) -> Restored:
    """Make the tenant what a backup says; it must not be served meanwhile.

    `lists` are further lists of erasures; those of the backup and of the tenant that is there are
    taken anyway. With `replace` a tenant that is there is moved aside, and its keys are used where
    the backup has none. Raises Refused, OSError, StoreError.
    """
    backup = open_backup(path)
    if backup.tenant != tenant.name:  # its keys and credentials name it
        raise Refused(
            f"{path} is a backup of tenant {backup.tenant!r}, which cannot become "
            f"{tenant.name!r}; say --tenant {backup.tenant}"
        )
    check_backup(backup, progress)
    there = tenant.dir.exists() and any(tenant.dir.iterdir())
    if there and not replace:
        raise Refused(f"there is a tenant at {tenant.dir}; say --replace to move it aside")
    gone = erasures(path / ERASURES) | erasures(tenant.dir / ERASURES)
    for one in lists:
        if not one.is_file():
            raise Refused(f"there is no list of erasures at {one}")
        gone |= erasures(one)
    serving = tenant.dir.parent.parent / "serve.lock"
    serving.parent.mkdir(parents=True, exist_ok=True)
    lock = _posix.FileLock.try_acquire(serving)
    if lock is None:
        raise Refused(f"a server serves {serving.parent}; stop it first")
    draft = tenant.dir.with_name(f".{tenant.name}.{secrets.token_hex(4)}")
    try:
        incarnation, erased, customers = _revive(tenant, backup, draft, gone)
        aside = None
        if there:
            if not backup.keys and tenant.keys_dir.is_dir():
                shutil.copytree(tenant.keys_dir, draft / _KEYS, dirs_exist_ok=True)
            when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            # A name that is no tenant's: nothing serves it.
            aside = tenant.dir.with_name(f".{tenant.name}.before-{when}-{secrets.token_hex(2)}")
            tenant.dir.rename(aside)
        elif tenant.dir.exists():
            tenant.dir.rmdir()
        draft.rename(tenant.dir)
        _posix.sync_directory(tenant.dir.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        lock.release()
    return Restored(
        tenant.name,
        incarnation,
        backup.events,
        erased,
        customers,
        _missing_keys(tenant),
        aside,
    )


def _missing_keys(tenant: Tenant) -> tuple[str, ...]:
    """Names of the keys that a server cannot do without, and that are not there."""
    paths = (tenant.credential_key_path, tenant.presence_key_path)
    with closing(tenant.open_store()) as store:
        roles = missing_roles(tenant, store)
    return (*(p.name for p in paths if not p.is_file()), *(f"{role}.pem" for role in roles))


def _revive(
    tenant: Tenant, backup: Backup, draft: Path, gone: dict[bytes, int]
) -> tuple[bytes, int, int]:
    """Make a tenant's folder of a backup: its incarnation, and what the erasures took out."""
    draft.mkdir(parents=True, mode=0o700)
    for name in backup.files:
        (draft / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(backup.path / name, draft / name)
        if name.startswith(f"{_KEYS}/"):
            (draft / name).chmod(0o600)
    for name in (*_FOLDERS, _KEYS, "rejects"):
        (draft / name).mkdir(exist_ok=True, mode=0o700)
    (draft / ERASURES).unlink(missing_ok=True)
    for subject, at_ms in sorted(gone.items()):
        remember_erasures(draft, [subject], at_ms)
    erased = erase_from_log(draft / LOG, gone) if gone else 0
    incarnation = secrets.token_bytes(16)
    with closing(schema.open_for_writing(draft / LOG)) as log:
        log.execute("UPDATE meta SET value = ? WHERE key = 'incarnation'", (incarnation,))
    with closing(Tenant(tenant.name, draft).open_store()) as store:
        customers = sum(store.erase_subject(subject) for subject in gone)
        for name, by in AHEAD.items():
            store.skip_counter(name, by)
        renew_epoch(store)
    if backup.waits:
        with LogReader(draft / LOG) as reader:
            write_marks(draft, incarnation, reader)
    for name in _DATABASES:
        _close_off(draft / name)
    return incarnation, erased, customers


def copy_database(source: Path, target: Path, progress: Advance | None = None) -> None:
    """Copy a database that others write to, as it is at one moment."""
    done = 0

    def advance(_: int, remaining: int, total: int) -> None:
        nonlocal done
        if progress is not None:
            progress(total - remaining - done)
            done = total - remaining

    with closing(schema.open_read_only(source)) as old, closing(sqlite3.connect(target)) as new:
        # One read transaction around all steps: each would begin again after every commit.
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM sqlite_master").fetchone()
        old.backup(new, pages=_PAGES_AT_ONCE, progress=advance)
        old.execute("ROLLBACK")
    _close_off(target)


def _close_off(path: Path) -> None:
    """Leave one file that needs no other, on disk."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _copy_files(tenant: Tenant, draft: Path, with_keys: bool) -> None:
    for name in (tenant.dna_path.name, ERASURES):
        if (tenant.dir / name).exists():
            shutil.copyfile(tenant.dir / name, draft / name)
    for name in (*_FOLDERS, *((_KEYS,) if with_keys else ())):
        for file in _files_in(tenant.dir / name):
            target = draft / name / file
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(tenant.dir / name / file, target)
            if name == _KEYS:
                target.chmod(0o600)
    for file in _files_in(draft):
        with (draft / file).open("rb") as written:
            os.fsync(written.fileno())


def _files_in(folder: Path) -> Iterator[str]:
    """All files below a folder that have their final name, relative to it."""
    if folder.is_dir():
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                yield path.relative_to(folder).as_posix()


def _ensure_log(tenant: Tenant) -> None:
    """Begin the log of a tenant to which nothing has happened yet, as its server would."""
    if not tenant.log_path.exists():
        with closing(tenant.open_store()) as store:
            if store.meta(LOG_KEY):
                raise Refused(f"the log {tenant.log_path} is gone; restore it from a backup first")
        schema.open_for_writing(tenant.log_path).close()


def _check_log(path: Path) -> None:
    found = verify_log(path)
    if not found.whole:
        first = found.faults[0]
        raise Refused(
            f"the log is damaged ({first.message}); nothing was backed up. "
            "See: genome-server log verify"
        )


def _fingerprint(path: Path) -> list[int | str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [path.stat().st_size, digest]
