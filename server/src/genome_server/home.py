"""Where the server keeps its files.

::

    HOME/
      tls/                      certificate and key of the server
      tenants/NAME/
        tenant.sqlite           the store
        log.sqlite              what happened
        dna.yaml                the DNA schema, written for people
        keys/                   root.pem, release.pem, timestamp.pem, credential.pem,
                                presence.key, link.key (mode 0600); ROLE-ID.pem after a rotation
          retired/              keys that signed before
          roots/VERSION.pb      every root as signed; no secrets
          next-root.pb          a root that still lacks signatures
        releases/VERSION/       manifest.pb
        parts/SHA256            the parts of releases, by content
        models/                 trained models
        rejects/                rows that an import set aside

HOME is --home, else $GENOME_EDGE_HOME, else ./genome-home.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genome_server.errors import NotInitialised, UsageError

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

HOME_VARIABLE = "GENOME_EDGE_HOME"
TENANT_VARIABLE = "GENOME_EDGE_TENANT"
DEFAULT_HOME = "genome-home"
DEFAULT_TENANT = "default"

# It is a directory's name and stands in credentials: nothing that either could misread.
_TENANT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def no_home(home: Path, which: str = "") -> NotInitialised:
    """The error for a home that is not there: the usual cause is a variable that is not set."""
    return NotInitialised(
        f"there is no home at {home}; run: genome-server init{which}, "
        f"or say with --home or {HOME_VARIABLE} where it is"
    )


@dataclass(frozen=True)
class Tenant:
    """The files of one tenant. Nothing is made by looking."""

    name: str
    dir: Path

    @property
    def db_path(self) -> Path:
        """The store."""
        return self.dir / "tenant.sqlite"

    @property
    def log_path(self) -> Path:
        """The log."""
        return self.dir / "log.sqlite"

    @property
    def dna_path(self) -> Path:
        """The DNA schema."""
        return self.dir / "dna.yaml"

    @property
    def keys_dir(self) -> Path:
        """Private keys."""
        return self.dir / "keys"

    @property
    def root_key_path(self) -> Path:
        """Ed25519 key (PEM) that signs the next root."""
        return self.keys_dir / "root.pem"

    @property
    def timestamp_key_path(self) -> Path:
        """Ed25519 key (PEM) that signs what is in force now."""
        return self.keys_dir / "timestamp.pem"

    @property
    def roots_dir(self) -> Path:
        """Every root (serialised SignedRoot), so that a restored store finds the newest again."""
        return self.keys_dir / "roots"

    @property
    def next_root_path(self) -> Path:
        """A root (serialised SignedRoot) that still lacks signatures."""
        return self.keys_dir / "next-root.pb"

    @property
    def release_key_path(self) -> Path:
        """Ed25519 key (PEM) that signs manifests."""
        return self.keys_dir / "release.pem"

    @property
    def credential_key_path(self) -> Path:
        """Ed25519 key (PEM) that signs credentials of devices."""
        return self.keys_dir / "credential.pem"

    @property
    def presence_key_path(self) -> Path:
        """32 random bytes that presence tokens are made with."""
        return self.keys_dir / "presence.key"

    @property
    def link_key_path(self) -> Path:
        """32 random bytes that keys which ids share are hashed with; made when first needed."""
        return self.keys_dir / "link.key"

    @property
    def releases_dir(self) -> Path:
        """Published releases, one directory each."""
        return self.dir / "releases"

    @property
    def parts_dir(self) -> Path:
        """Parts of releases, named by their SHA-256."""
        return self.dir / "parts"

    @property
    def models_dir(self) -> Path:
        """Trained models."""
        return self.dir / "models"

    @property
    def rejects_dir(self) -> Path:
        """Rows that an import set aside."""
        return self.dir / "rejects"

    @property
    def exists(self) -> bool:
        """Whether `genome-server init` has made it."""
        from genome_server.plugins import store_opener

        if store_opener() is not None:
            return self.dna_path.is_file()
        return self.db_path.is_file()

    def open_store(self) -> Store:
        """Open the store, migrated to what this version needs.

        Raises NotInitialised where there is none, StoreTooNew or StoreDamaged
        where there is one that cannot be used.
        """
        if not self.exists:
            home = self.dir.parent.parent
            which = "" if self.name == DEFAULT_TENANT else f" --tenant {self.name}"
            if not home.is_dir():
                raise no_home(home, which)
            raise NotInitialised(
                f"tenant {self.name!r} does not exist in {home}; run: genome-server init{which}"
            )
        return self.make_store()

    def make_store(self) -> Store:
        """Open the store, or make it where there is none: SQLite, unless a plug-in opens another.

        Raises Refused for a plug-in that cannot be used, and what opening raises.
        """
        from genome_server.plugins import store_opener
        from genome_server.store.sqlite import SqliteStore

        opener = store_opener()
        return SqliteStore.open(self.db_path) if opener is None else opener(self)


@dataclass(frozen=True)
class Home:
    """The directory that holds all tenants."""

    root: Path

    @classmethod
    def find(cls, path: str | Path | None = None) -> Home:
        """The home that `path`, the environment or the default names, in this order."""
        chosen = path or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME
        return cls(Path(chosen).expanduser().resolve())

    @property
    def tls_dir(self) -> Path:
        """Certificate and key of the server."""
        return self.root / "tls"

    @property
    def tenants_dir(self) -> Path:
        """One directory per tenant."""
        return self.root / "tenants"

    def tenant(self, name: str | None = None) -> Tenant:
        """The tenant of this name (else $GENOME_EDGE_TENANT, else "default"), there or not."""
        chosen = name or os.environ.get(TENANT_VARIABLE) or DEFAULT_TENANT
        if not _TENANT_NAME.fullmatch(chosen):
            raise UsageError(
                f"{chosen!r} is no name for a tenant: use up to 63 lower-case letters, "
                "digits and hyphens, and begin with a letter or digit"
            )
        return Tenant(chosen, self.tenants_dir / chosen)

    def tenants(self) -> list[Tenant]:
        """The tenants that exist, by name."""
        if not self.tenants_dir.is_dir():
            return []
        # A restore leaves what was there before under a name that is no tenant's.
        folders = sorted(p for p in self.tenants_dir.iterdir() if _TENANT_NAME.fullmatch(p.name))
        found = (Tenant(p.name, p) for p in folders if p.is_dir())
        return [tenant for tenant in found if tenant.exists]
