"""Trained models on disk: models/ID/model.onnx, and report.json beside it.

The id is the beginning of the file's SHA-256: the same examples and seed give the same
model under the same name. The store remembers which model the next release takes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.store.protocol import Store

_CURRENT_KEY = "model"
_ID_LENGTH = 16


@dataclass(frozen=True)
class Model:
    """A model as it lies on disk."""

    id: str
    content: bytes
    report: Mapping[str, Any]


def model_id(content: bytes) -> str:
    """Return the name of a model: 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:_ID_LENGTH]


def save_model(models_dir: Path, store: Store, content: bytes, report: Mapping[str, Any]) -> str:
    """Write a model and its report, make it the one that the next release takes; returns its id."""
    name = model_id(content)
    folder = models_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "model.onnx", content)
    text = json.dumps({"id": name, **report}, indent=2, ensure_ascii=False)
    write_whole(folder / "report.json", f"{text}\n".encode())
    store.set_meta(_CURRENT_KEY, name)
    return name


def current_model(models_dir: Path, store: Store) -> Model | None:
    """Return the model that the next release takes, or None before the first training.

    Raises Refused where its file is gone or is not what was trained.
    """
    name = store.meta(_CURRENT_KEY)
    if name is None:
        return None
    folder = models_dir / name
    try:
        content = (folder / "model.onnx").read_bytes()
    except FileNotFoundError:
        raise Refused(f"{folder} holds no model; run: genome-server train") from None
    if model_id(content) != name:
        raise Refused(f"{folder / 'model.onnx'} is damaged; run: genome-server train")
    try:
        report: dict[str, Any] = json.loads((folder / "report.json").read_bytes())
    except (FileNotFoundError, ValueError):
        report = {"id": name}  # figures are for people; a release does without
    return Model(name, content, report)
