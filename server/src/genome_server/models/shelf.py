"""Models on disk: models/ID/model.onnx, and beside it report.json and, where some came with
it, golden.json.

The id is the beginning of the file's SHA-256: the same examples and seed give the same
model under the same name. The store remembers which model the next release takes, and
which ones it took before (`promotions`).
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from genome_edge.v1 import release_pb2
from genome_server.errors import Refused
from genome_server.files import write_whole
from genome_server.models.golden_file import KEPT, read_text
from genome_server.models.promotions import Promotions
from genome_server.store.protocol import Store

# Versions before 0.2 knew this one only, and still read it.
_CURRENT_KEY: Final = "model"
_PROMOTIONS_KEY: Final = "model_promotions"
_ID_LENGTH: Final = 16
_ID: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Model:
    """A model as it lies on disk."""

    id: str
    content: bytes
    report: Mapping[str, Any]
    #: The folder that it lies in; None: it lies nowhere.
    folder: Path | None = None

    @cached_property
    def golden(self) -> str | None:
        """The golden vectors that came with it, beside its file (see `golden`); None: none did.

        They are read when the gate asks for them, not before: what keeps a model from new devices
        must not stand in the way back. Raises Refused where they cannot be read.
        """
        return None if self.folder is None else read_text(self.folder / KEPT)


@dataclass(frozen=True)
class Listed:
    """A model as `models list` shows it: its report, its size in bytes and who carries it.

    `releases` are the versions that carried it, ascending; `state` is "current" (the next release
    takes it), "before" (a rollback goes back to it) or empty.
    """

    id: str
    bytes: int
    report: Mapping[str, Any]
    releases: tuple[int, ...]
    state: str


def model_id(content: bytes) -> str:
    """Return the name of a model: 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:_ID_LENGTH]


def model_in(manifest: release_pb2.Manifest) -> str:
    """Return the id of the model that a release carries; empty where it has none."""
    digests = [part.sha256.hex() for part in manifest.parts if part.name == "model"]
    return digests[0][:_ID_LENGTH] if digests else ""


def keep_model(models_dir: Path, content: bytes, report: Mapping[str, Any]) -> str:
    """Write a model and its report; the next release takes what it took. Returns its id."""
    name = model_id(content)
    folder = models_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "model.onnx", content)
    text = json.dumps({"id": name, **report}, indent=2, ensure_ascii=False)
    write_whole(folder / "report.json", f"{text}\n".encode())
    return name


def keep_golden(models_dir: Path, name: str, text: str) -> None:
    """Write the golden vectors that came with a model, in place of those that came before."""
    write_whole(models_dir / name / KEPT, text.encode())


def save_model(models_dir: Path, store: Store, content: bytes, report: Mapping[str, Any]) -> str:
    """Write a trained model and its report, make it the one that the next release takes; its id."""
    now_ms = _now_ms()
    facts = {"origin": "trained", "made_ms": now_ms, **report}
    name = keep_model(models_dir, content, facts)
    with store.transaction():
        record = promotions(store).promoted(
            name, at_ms=now_ms, reason="genome-server train", kind="trained"
        )
        _put(store, record)
    return name


def current_model(models_dir: Path, store: Store) -> Model | None:
    """Return the model that the next release takes, or None before the first training.

    Raises Refused where its file is gone or is not what was trained.
    """
    name = store.meta(_CURRENT_KEY)
    return None if name is None else load_model(models_dir, name)


def load_model(models_dir: Path, name: str) -> Model:
    """Return a model by its id.

    Raises Refused where its file is gone or was altered.
    """
    folder = models_dir / name
    instead = (
        "train another (genome-server train), or take one that is whole: "
        "genome-server models list, genome-server models promote ID"
    )
    try:
        content = (folder / "model.onnx").read_bytes()
    except FileNotFoundError:
        raise Refused(f"{folder} holds no model; {instead}") from None
    if model_id(content) != name:
        raise Refused(f"{folder / 'model.onnx'} is damaged; {instead}")
    return Model(name, content, _report(folder), folder)


def find_model(models_dir: Path, said: str) -> str:
    """Return the id that a person means: all of it, or as much of its beginning as is unique.

    Raises Refused where there is none, or more than one.
    """
    found = [name for name in _names(models_dir) if name.startswith(said.lower())] if said else []
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(f"{said!r} begins the ids of {len(found)} models; say more of it")
    raise Refused(f"there is no model {said!r}; genome-server models list shows which there are")


def list_models(models_dir: Path, store: Store) -> list[Listed]:
    """Return all models, the one that was made last first."""
    record = promotions(store)
    carried: dict[str, list[int]] = {}
    for row in store.releases():
        signed = release_pb2.SignedManifest.FromString(row.manifest)
        manifest = release_pb2.Manifest.FromString(signed.manifest)
        carried.setdefault(model_in(manifest), []).append(row.version)
    states = {record.before: "before", record.current: "current"}
    listed = [
        Listed(
            name,
            (models_dir / name / "model.onnx").stat().st_size,
            _report(models_dir / name),
            tuple(sorted(carried.get(name, ()))),
            states.get(name, ""),
        )
        for name in _names(models_dir)
    ]
    return sorted(listed, key=lambda one: one.report.get("made_ms", 0), reverse=True)


def reports(models_dir: Path) -> list[Mapping[str, Any]]:
    """The reports of all models, that of the one made last first."""
    found = [_report(models_dir / name) for name in _names(models_dir)]
    return sorted(found, key=lambda one: one.get("made_ms", 0), reverse=True)


def report_of(models_dir: Path, name: str) -> Mapping[str, Any]:
    """The report of a model; bare where there is none."""
    return _report(models_dir / name)


def promotions(store: Store) -> Promotions:
    """Return which models the next release took so far, and since when."""
    said = store.meta(_PROMOTIONS_KEY)
    record = Promotions() if said is None else Promotions.from_json(json.loads(said))
    current = store.meta(_CURRENT_KEY)
    return record if current is None else record.found(current)


def promote_model(
    models_dir: Path, store: Store, name: str, *, reason: str = "", now_ms: int | None = None
) -> Promotions:
    """Make a model the one that the next release takes; what is remembered then.

    Raises Refused where its file is gone or damaged, or its golden vectors cannot be read: the gate
    would not let it out.
    """
    _ = load_model(models_dir, name).golden
    with store.transaction():
        at_ms = _now_ms() if now_ms is None else now_ms
        record = promotions(store).promoted(name, at_ms=at_ms, reason=reason)
        _put(store, record)
    return record


def roll_back_model(
    models_dir: Path, store: Store, *, reason: str = "", now_ms: int | None = None
) -> Promotions:
    """Let the next release take the model that it took before; what is remembered then.

    Raises Refused where there is none before, or where its file is gone or damaged.
    """
    with store.transaction():
        at_ms = _now_ms() if now_ms is None else now_ms
        record = promotions(store).rolled_back(at_ms=at_ms, reason=reason)
        load_model(models_dir, record.standing[-1])
        _put(store, record)
    return record


def _put(store: Store, record: Promotions) -> None:
    store.set_meta(_PROMOTIONS_KEY, json.dumps(record.to_json(), ensure_ascii=False))
    store.set_meta(_CURRENT_KEY, record.standing[-1])


def _names(models_dir: Path) -> Iterator[str]:
    if models_dir.is_dir():
        for folder in sorted(models_dir.iterdir()):
            if _ID.fullmatch(folder.name) and (folder / "model.onnx").is_file():
                yield folder.name


def _report(folder: Path) -> dict[str, Any]:
    try:
        report = json.loads((folder / "report.json").read_bytes())
    except (FileNotFoundError, ValueError):
        report = None
    # Figures are for people; a release does without.
    return report if isinstance(report, dict) else {"id": folder.name}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
