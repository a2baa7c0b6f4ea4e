"""dna.yaml: the DNA schema as people write it, and its number.

The file says how markers fade and what interactions weigh. `load_schema` turns
it into the `DnaSchema` that genomes, models and releases go by. Three things
are added that the file does not say:

- *Profile namespaces.* A namespace that customers' attributes use (`age`,
  `gender`) and that the file does not mention is a profile's: it never fades
  and weighs `profile_weight`.
- *The landmark.* A build moves it on when its doublings are nearly used up; the
  later one, of that and the file's, counts.
- *The epoch.* It grows by one whenever the schema differs from the last one
  seen, whichever way it came about; rows of different epochs never mix. How
  long something counts in the moment is in no row and begins no epoch. The DNA
  of things belongs to it: another section `text`, `rarity` or `content`, and
  what `dna learn` and `dna count` counted, begin a new one.

    schema = load_schema(tenant.dna_path, store)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from edge_sdk.dna.markers import nearest_name
from edge_sdk.dna.schema import (
    MAX_MARKERS,
    MOMENT_HALF_LIVES_S,
    ONE_Q24,
    DnaSchema,
    KindRule,
    NamespaceRule,
)
from edge_sdk.errors import UsageError
from genome_server.derived.insights import NAMES, NAMESPACE
from genome_server.dna_words import LABELS
from genome_server.errors import SchemaFileError
from genome_server.genomes.distinct_kept import kept
from genome_server.things.dna import Things
from genome_server.things.fields import FieldError, mapping, namespace, only
from genome_server.things.kept import NEWEST_EPOCH, keep_epoch, things_under
from genome_server.things.settings import SECTIONS, Settings, read_settings

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

_DIGEST_KEY = "schema_digest"
_PROFILE_KEY = "profile_namespaces"
_LANDMARK_KEY = "landmark_hour"

_DURATION = re.compile(r"(\d+)\s*(h|d)")
_MOMENT = re.compile(r"(\d+)\s*(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_FIELDS = (
    "landmark",
    "default_half_life",
    "profile_weight",
    "max_markers",
    "quantiser",
    "namespaces",
    "kinds",
    "derive",
    *SECTIONS,
)
_KIND_FIELDS = ("weight", "money", "dwell", "beside", "prefix", "label")


def load_schema(path: Path, store: Store) -> DnaSchema:
    """The schema that dna.yaml and the profiles of customers amount to, with its epoch.

    Raises SchemaFileError with file, field and cause.
    """
    schema, weight = read_schema(path)
    derived = {NAMESPACE} if read_derived(path) else set()
    schema = with_profiles(schema, profile_namespaces(store) | derived, weight)
    moved = int(store.meta(_LANDMARK_KEY) or 0)
    landmark = max(schema.landmark_hour, moved)
    schema = replace(schema, landmark_hour=landmark, distinct=kept(store).table)
    settings = read_things(path)
    with store.transaction():
        things = things_under(store, settings)
        digest = _digest(schema, things)
        if store.meta(_DIGEST_KEY) != digest:
            store.set_meta(_DIGEST_KEY, digest)
            epoch = store.next_counter(NEWEST_EPOCH)
            store.set_meta(NEWEST_EPOCH, str(epoch))
            keep_epoch(store, epoch, things)
        return replace(schema, epoch=int(store.meta(NEWEST_EPOCH) or 1))


def read_things(path: Path) -> Settings:
    """What the file says of the DNA of things. Raises SchemaFileError."""
    try:
        return read_settings(_read(path))
    except FieldError as error:
        raise SchemaFileError(f"{path}: {error}") from error


def read_derived(path: Path) -> tuple[str, ...]:
    """What builds derive of customers; see `genome_server.derived`. Raises SchemaFileError."""
    try:
        return _derived(_read(path))
    except FieldError as error:
        raise SchemaFileError(f"{path}: {error}") from error


def _digest(schema: DnaSchema, things: Things) -> str:
    """What is equal for schemas whose rows can be mixed."""
    namespaces = tuple(replace(rule, moment_half_life_s=0) for rule in schema.namespaces)
    same = replace(schema, epoch=0, namespaces=namespaces)
    digest = hashlib.sha256(same.to_proto().SerializeToString()).hexdigest()
    own = things.digest()
    return f"{digest} {own}" if own else digest


def renew_epoch(store: Store) -> None:
    """Let the next build begin a new epoch, whatever stands in dna.yaml."""
    store.set_meta(_DIGEST_KEY, "")


def move_landmark(store: Store, hour: int) -> None:
    """Let the landmark be at `hour` since the Unix epoch from now on, unless the file says later.

    Builds do that when the doublings of the one before are nearly used up.
    """
    store.set_meta(_LANDMARK_KEY, str(hour))


def read_schema(path: Path) -> tuple[DnaSchema, int]:
    """What dna.yaml says, alone, under epoch 0; and `profile_weight` in 2^24 fixed point.

    Raises SchemaFileError.
    """
    document = _read(path)
    try:
        weight = _weight(document.get("profile_weight", 1.0), "profile_weight")
        _derived(document)
        return _schema(document), weight
    except (UsageError, FieldError) as error:
        raise SchemaFileError(f"{path}: {error}") from error


def with_profiles(schema: DnaSchema, namespaces: Iterable[str], weight_q24: int) -> DnaSchema:
    """The schema with these namespaces as a profile's where it does not list them."""
    listed = {rule.name for rule in schema.namespaces}
    added = [NamespaceRule(n, 0, weight_q24) for n in sorted(set(namespaces)) if n not in listed]
    return replace(schema, namespaces=(*schema.namespaces, *added))


def profile_namespaces(store: Store) -> set[str]:
    """The namespaces that customers' profiles have used so far."""
    return set(json.loads(store.meta(_PROFILE_KEY) or "[]"))


def add_profile_namespaces(store: Store, namespaces: Iterable[str]) -> None:
    """Remember namespaces that customers' profiles use."""
    wanted = set(namespaces)
    if wanted <= profile_namespaces(store):
        return
    with store.transaction():
        store.set_meta(_PROFILE_KEY, json.dumps(sorted(wanted | profile_namespaces(store))))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SchemaFileError(f"{path} is missing; `genome-server init` writes it anew") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}, column {where.column + 1}" if where else ""
        cause = getattr(error, "problem", None) or str(error)
        raise SchemaFileError(f"{path}{line}: not YAML: {cause}") from error
    except (AttributeError, LookupError, RecursionError, ValueError):
        # What the library lets through where a tag lies about its text, or nothing ends.
        raise SchemaFileError(
            f"{path}: not YAML: a value is not what its tag says, or is nested too deeply"
        ) from None
    if not isinstance(document, Mapping):
        raise SchemaFileError(f"{path}: must hold fields such as {', '.join(_FIELDS[:3])}")
    return document


def _schema(document: Mapping[str, Any]) -> DnaSchema:
    only(document, _FIELDS, "")
    namespaces = mapping(document.get("namespaces"), "namespaces")
    kinds = mapping(document.get("kinds"), "kinds")
    if not kinds:
        raise FieldError("kinds: at least one kind of interaction is needed")
    return DnaSchema(
        epoch=0,
        landmark_hour=_landmark(document.get("landmark")),
        namespaces=tuple(_namespace(name, value) for name, value in namespaces.items()),
        kinds=tuple(_kind(name, value) for name, value in kinds.items()),
        default_half_life_hours=_hours(
            document.get("default_half_life", "120d"), "default_half_life"
        ),
        max_markers=_whole(document.get("max_markers", MAX_MARKERS), "max_markers"),
        quantiser=_whole(document.get("quantiser", 1), "quantiser"),
    )


def _namespace(name: object, value: object) -> NamespaceRule:
    path = f"namespaces.{name}"
    namespace(name, path)
    moment, most = MOMENT_HALF_LIVES_S.get(str(name), 0), 0
    if isinstance(value, Mapping):
        only(value, ("half_life", "profile", "moment", "max_markers"), f"{path}.")
        if "max_markers" in value:
            most = _quota(value["max_markers"], f"{path}.max_markers")
        if "moment" in value:
            moment = _seconds(value["moment"], f"{path}.moment")
        if "profile" in value:
            weight = _weight(value["profile"], f"{path}.profile")
            if value.get("half_life") not in (None, "never"):
                raise FieldError(f"{path}: facts of a profile never fade; leave half_life out")
            return NamespaceRule(str(name), 0, weight, moment, most)
        value = value.get("half_life")
    return NamespaceRule(str(name), _hours(value, path), 0, moment, most)


def _kind(name: object, value: object) -> KindRule:
    path = f"kinds.{name}"
    fields = value if isinstance(value, Mapping) else {"weight": value}
    only(fields, _KIND_FIELDS, f"{path}.")
    label = fields.get("label", "neither")
    if label not in LABELS:
        raise FieldError(f"{path}.label: {label!r} is none of {', '.join(LABELS)}")
    return KindRule(
        str(name),
        _weight(fields.get("weight"), f"{path}.weight"),
        _weight(fields.get("money", 0), f"{path}.money"),
        str(fields.get("prefix") or ""),
        LABELS[str(label)],
        _weight(fields.get("dwell", 0), f"{path}.dwell"),
        _namespaces(fields.get("beside"), f"{path}.beside"),
    )


def _derived(document: Mapping[str, Any]) -> tuple[str, ...]:
    said = document.get("derive") or []
    names = list(NAMES) if said == "all" else said
    if not isinstance(names, list):
        raise FieldError("derive: must be a list of names, or all")
    for name in map(str, names):
        if name not in NAMES:
            near = nearest_name(name, NAMES)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(NAMES)}"
            raise FieldError(f"derive: {name!r} is nothing that can be derived; {hint}")
    return tuple(map(str, names))


def _namespaces(value: object, field: str) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [] if value is None else [value]
    for name in names:
        namespace(name, field)
    return tuple(map(str, names))


def _landmark(value: object) -> int:
    text = str(value)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise FieldError(f"landmark: {text!r} is no day such as 2026-01-31") from None
    at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if at > datetime.now(UTC):
        raise FieldError(f"landmark: {text} lies in the future")
    return int(at.timestamp()) // 3600


def _hours(value: object, field: str) -> int:
    if value == "never":
        return 0
    match = _DURATION.fullmatch(str(value).strip())
    if match is None:
        raise FieldError(f"{field}: {value!r} is no half-life; write 36h, 30d or never")
    hours = int(match[1]) * (24 if match[2] == "d" else 1)
    if hours == 0:
        raise FieldError(f"{field}: a half-life of nothing; write never for what does not fade")
    return hours


def _seconds(value: object, field: str) -> int:
    if value == "none":
        return 0
    match = _MOMENT.fullmatch(str(value).strip())
    if match is None or not int(match[1]):
        raise FieldError(
            f"{field}: {value!r} is no half-life in the moment; write 90s, 30m, 2h or none"
        )
    return int(match[1]) * _SECONDS[match[2]]


def _weight(value: object, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 32:
        raise FieldError(f"{field}: {value!r} is no weight from 0 to 32")
    return round(value * ONE_Q24)


def _quota(value: object, field: str) -> int:
    most = _whole(value, field)
    if not 1 <= most <= MAX_MARKERS:
        raise FieldError(f"{field}: {value!r} is no number of markers from 1 to {MAX_MARKERS}")
    return most


def _whole(value: object, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise FieldError(f"{field}: {value!r} is no whole number")
    return value
