"""Making a tenant, or completing one."""

from __future__ import annotations

import os
import secrets
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sdk.dna.markers import BUILTIN_MARKERS
from edge_sdk.sync.keys import DeviceKey
from genome_server.dna_file import load_schema
from genome_server.dna_words import default_text
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.ingest.audiences import refresh
from genome_server.log import Committer
from genome_server.releases.keyring import (
    ROOT,
    current_root,
    ensure_roots,
    missing_key,
    missing_roles,
)
from genome_server.store.rows import AudienceRow

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

#: The audience that every tenant begins with.
DEFAULT_AUDIENCE = "all"
#: Bytes of the key that presence tokens are made with.
PRESENCE_KEY_BYTES = 32


@dataclass
class Setup:
    """What was made and what was there already, in words."""

    made: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)

    def note(self, made: bool, what: str) -> None:
        """Remember one thing."""
        (self.made if made else self.present).append(what)


def set_up(tenant: Tenant) -> Setup:
    """Make what a tenant lacks; what is there stays as it is.

    Raises Refused where a key is gone that devices go by: a new one would lock
    them out, so it has to come from a backup.
    """
    done = Setup()
    tenant.dir.mkdir(parents=True, exist_ok=True)
    # Customers' ids lie below.
    tenant.dir.chmod(0o700)
    for directory in (
        tenant.keys_dir,
        tenant.releases_dir,
        tenant.parts_dir,
        tenant.models_dir,
        tenant.rejects_dir,
    ):
        directory.mkdir(exist_ok=True, mode=0o700)
    done.note(not tenant.exists, f"store {tenant.db_path}")
    with closing(tenant.make_store()) as store:
        done.note(not tenant.log_path.exists(), f"log {tenant.log_path}")
        Committer(tenant.log_path).close()
        _make_keys(tenant, store, done)
        done.note(not tenant.dna_path.exists(), f"DNA schema {tenant.dna_path}")
        if not tenant.dna_path.exists():
            write_whole(tenant.dna_path, default_text(datetime.now(UTC)).encode())
        load_schema(tenant.dna_path, store)
        store.extend_vocabulary(BUILTIN_MARKERS)
        _make_audience(store, done)
    return done


def _make_keys(tenant: Tenant, store: Store, done: Setup) -> None:
    enrolled = bool(store.devices())
    for path in (tenant.credential_key_path, tenant.presence_key_path):
        if not path.exists() and enrolled:
            raise Refused(
                f"{path} is missing, and devices go by it; restore it from your backup "
                "(a new key would lock them out)"
            )
    _make_roles(tenant, store, done)
    path = tenant.credential_key_path
    done.note(not path.exists(), f"key that signs credentials {path}")
    DeviceKey.load_or_create(path)
    path = tenant.presence_key_path
    done.note(not path.exists(), f"key of presence tokens {path}")
    if not path.exists():
        _write_secret(path, secrets.token_bytes(PRESENCE_KEY_BYTES))


def _make_roles(tenant: Tenant, store: Store, done: Setup) -> None:
    """The keys that releases are believed by, and the root that names them."""
    begun = bool(store.trusted(ROOT))
    for path, what in (
        (tenant.root_key_path, "key that signs the next root"),
        (tenant.release_key_path, "key that signs releases"),
        (tenant.timestamp_key_path, "key that signs what is in force"),
    ):
        if not begun:
            done.note(not path.exists(), f"{what} {path}")
    ensure_roots(tenant, store, time.time_ns() // 1_000_000)
    root = current_root(store)
    done.note(not begun, f"root {root.version} with its roles")
    for role in missing_roles(tenant, store):
        raise missing_key(tenant, root, role)


def _write_secret(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _make_audience(store: Store, done: Setup) -> None:
    missing = not store.audiences()
    done.note(missing, f"audience {DEFAULT_AUDIENCE!r} of all customers")
    if missing:
        key = secrets.token_bytes(32)
        store.put_audience(AudienceRow(DEFAULT_AUDIENCE, {"all": True}, lookup_key=key))
        refresh(store)
