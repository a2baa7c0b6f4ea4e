"""Settings of the SDK, each with a documented default and an environment variable."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Final

from edge_sdk.values import dataclass

PREFIX = "GENOME_EDGE_"
#: A BCP 47 tag of ordinary length: de, pt-BR, zh-Hant-TW.
LANGUAGE: Final = re.compile(r"(?=.{2,35}\Z)[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
# What a clock and a database can count; nothing sensible is near either.
_LONGEST_S: Final = 1e9
_MOST: Final = 1 << 62


def default_store(environment: Mapping[str, str] | None = None) -> Path:
    """Where the store is when nobody says: $GENOME_EDGE_STORE, else the user's data directory."""
    environment = os.environ if environment is None else environment
    said = environment.get(PREFIX + "STORE")
    if said:
        return Path(said)
    data = environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "genome-edge" / "store"


@dataclass(frozen=True)
class Config:
    """Settings of an EdgeClient. Times in seconds, sizes in bytes.

    `Config()` is the defaults; `Config.from_environment()`, which a client without `config` uses,
    overrides each field with `GENOME_EDGE_<FIELD>` where that is set.
    """

    #: Certificate authority to trust for TLS (PEM file); None: the system's.
    ca_file: Path | None = None
    #: False: a kiosk that asks for no genomes and knows customers by `Session.identify` only.
    wants_genomes: bool = True
    #: Deadline of a unary call.
    call_timeout_s: float = 20.0
    #: Waiting between attempts starts with this, doubles, and is spread at random ...
    reconnect_min_s: float = 0.5
    #: ... and ends with this.
    reconnect_max_s: float = 60.0
    #: How often the device says how it is while a stream is open.
    heartbeat_s: float = 30.0
    #: A stream on which nothing came for this long is opened anew.
    stream_silence_s: float = 120.0

    #: The writer gathers events for this long before it commits them together.
    group_commit_s: float = 0.03
    #: How long a durable decision or report, a redemption or a consent waits for the disk before it
    #: fails.
    durable_timeout_s: float = 15.0
    #: Most events in one batch of a report.
    batch_events: int = 500
    #: Most bytes in one batch of a report; a larger event travels alone.
    batch_bytes: int = 256 * 1024
    #: Events on disk that the server has not taken; beyond it impressions go first.
    outbox_max_bytes: int = 64 * 1024 * 1024
    #: Rows in which they lie; beyond it neighbours are joined.
    outbox_max_rows: int = 50_000
    #: Beyond this age events go; only days on which the device was in use count.
    outbox_max_age_s: float = 180 * 86_400.0
    #: Events in memory that wait for the disk; beyond half of it impressions begin to go.
    inbox_max_events: int = 50_000
    #: Decisions kept in full for `report`, `explain` and `replay`.
    ring_decisions: int = 10_000
    #: Event ids remembered, so that the same event twice is one.
    remembered_event_ids: int = 100_000

    #: How often a process looks whether another one has changed the store.
    watch_s: float = 0.25
    #: How often a process that does not sync tries to become the one that does.
    election_s: float = 2.0
    #: Genomes decoded and kept ready for the next decision.
    genome_cache: int = 1024

    #: What offers are shown in where a context says no language: BCP 47, such as de or pt-BR.
    language: str = ""

    #: A release is fresh until its expiry, or until the server's last word that it is still in
    #: force expires; and stale for this long after that: it decides as before.
    stale_s: float = 7 * 86_400.0
    #: Then restricted to offers with an end of validity, for this long; then house defaults only.
    restricted_s: float = 30 * 86_400.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type == "int" and not (_is_number(value, int) and 0 <= value <= _MOST):
                raise ValueError(f"{f.name} must be a whole number from 0 to {_MOST}")
            is_time = _is_number(value, int | float)
            if f.type == "float" and not (is_time and 0 <= value <= _LONGEST_S):
                raise ValueError(f"{f.name} must be a number from 0 to {_LONGEST_S:.0f}")
        if self.language and not LANGUAGE.fullmatch(self.language):
            raise ValueError("language must be a BCP 47 tag such as de or pt-BR")
        for name in ("batch_events", "batch_bytes", "inbox_max_events", "ring_decisions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Config:
        """Defaults, overridden by GENOME_EDGE_* variables. ValueError names a bad one."""
        environment = os.environ if environment is None else environment
        values: dict[str, object] = {}
        for f in fields(cls):
            name = PREFIX + f.name.upper()
            text = environment.get(name)
            if text:
                values[f.name] = _parse(name, str(f.type), text)
        return cls(**values)  # type: ignore[arg-type]


def _is_number(value: object, kinds: type | UnionType) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _parse(name: str, kind: str, text: str) -> object:
    try:
        if kind == "bool":
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                text.strip().lower()
            ]
        if kind == "int":
            return int(text)
        if kind == "str":
            return text
        if kind == "float":
            return float(text)
        return Path(text)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}={text!r} is not a {kind}") from error
