"""Who this device is, in a file of its own: it outlives everything else in the store."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import field
from pathlib import Path
from typing import Final

from edge_sdk.errors import StoreCorrupt
from edge_sdk.store.files import write_file
from edge_sdk.values import dataclass

_MEMBERS: Final = 6


@dataclass(frozen=True)
class Identity:
    """Who this device is, as enrolment said. Kept in files that only their owner can read.

    `credential` is a serialised SignedCredential, `root` a serialised TrustRoot. The private key
    is beside it at `DeviceStore.key_path` and made by `edge_sdk.sync.keys`.
    """

    server: str
    tenant: str
    device_id: str
    audience: str
    credential: bytes = field(repr=False)
    root: bytes = field(repr=False)


def read_identity(root: Path) -> Identity | None:
    """The identity in the store at `root`; None before enrolment.

    Raises StoreCorrupt where it is damaged.
    """
    path = _path(root)
    try:
        document = json.loads(path.read_bytes())
        said = document.pop("sha256", None)
        # One of the first format has no digest, and nothing else in its place.
        if said != _digest(document) and (said is not None or len(document) != _MEMBERS):
            raise ValueError("it is not what was written")
        return Identity(
            server=str(document["server"]),
            tenant=str(document["tenant"]),
            device_id=str(document["device_id"]),
            audience=str(document["audience"]),
            credential=base64.b64decode(document["credential"], validate=True),
            root=base64.b64decode(document["root"], validate=True),
        )
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreCorrupt(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreCorrupt(f"{path} is damaged; enrol this device again: {error}") from error


def write_identity(root: Path, identity: Identity) -> None:
    """Keep an identity, readable by its owner only. Raises OSError."""
    document = {
        "server": identity.server,
        "tenant": identity.tenant,
        "device_id": identity.device_id,
        "audience": identity.audience,
        "credential": base64.b64encode(identity.credential).decode(),
        "root": base64.b64encode(identity.root).decode(),
    }
    document["sha256"] = _digest(document)
    write_file(_path(root), json.dumps(document, indent=1).encode())


def _digest(document: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _path(root: Path) -> Path:
    return root / "identity" / "identity.json"
