"""Pictures and other files that offers refer to: taken in at import, kept by content.

A file goes to parts/ under its SHA-256, like every part of a release, and the offer then names it
as the release will: `asset/<first 16 hex digits>.<extension>`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge_sdk.sync.trust import Limits
from genome_server.files import write_whole
from genome_server.ingest.check import RowError

PREFIX: Final = "asset/"
_PART: Final = re.compile(r"asset/([0-9a-f]{16})(\.[a-z0-9]{1,8})?")
_EXTENSION: Final = re.compile(r"\.[a-z0-9]{1,8}")


def take_assets(row: Mapping[str, Any], folder: Path, parts: Path | None) -> dict[str, str]:
    """The part names of an offer's files, by what the app asks for.

    Paths are relative to `folder`, and nothing outside of it is read. The files are copied to
    `parts`; with None they are only looked at. Raises RowError for the first that cannot be used.
    """
    taken = {}
    for name, path in row.get("assets", {}).items():
        content = _read(f"assets.{name}", folder, path)
        digest = hashlib.sha256(content).hexdigest()
        if parts is not None:
            parts.mkdir(parents=True, exist_ok=True)
            kept = parts / digest
            if not kept.is_file() or kept.read_bytes() != content:  # lost, or damaged since
                write_whole(kept, content)
        extension = Path(path).suffix.lower()
        taken[name] = f"{PREFIX}{digest[:16]}" + (
            extension if _EXTENSION.fullmatch(extension) else ""
        )
    return taken


def asset_path(parts: Path, name: str) -> Path | None:
    """Where the file of a part name is kept; None where it is not there."""
    said = _PART.fullmatch(name)
    found = sorted(parts.glob(f"{said[1]}*")) if said else []
    whole = [path for path in found if len(path.name) == hashlib.sha256().digest_size * 2]
    return whole[0] if len(whole) == 1 else None


def _read(field: str, folder: Path, path: str) -> bytes:
    root = folder.resolve()
    try:
        file = (root / path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a ring, a zero byte
        raise RowError(field, f"{path!r} is no path that can be read: {error}") from error
    if not file.is_relative_to(root):
        raise RowError(field, f"{path!r} lies outside of the imported file's folder")
    try:
        if not file.is_file():
            raise RowError(field, f"there is no file {path!r} in {root}")
        size, most = file.stat().st_size, Limits().asset_bytes
        if not size:
            raise RowError(field, f"{path!r} is empty")
        if size > most:
            raise RowError(field, f"{path!r} has {size:,} bytes; {most:,} are allowed")
        return file.read_bytes()
    except OSError as error:
        raise RowError(field, f"{path!r} cannot be read: {error.strerror}") from error
