"""Settings: defaults, the environment, and what is said about a wrong one."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from edge_sdk.config import Config, default_store


def test_the_environment_overrides_each_field() -> None:
    environment = {
        "GENOME_EDGE_CA_FILE": "/etc/ca.pem",
        "GENOME_EDGE_WANTS_GENOMES": "No",
        "GENOME_EDGE_BATCH_EVENTS": "7",
        "GENOME_EDGE_WATCH_S": "0.5",
        "GENOME_EDGE_HEARTBEAT_S": "",
        "GENOME_EDGE_ELSE": "1",
        "WATCH_S": "9",
    }
    config = Config.from_environment(environment)
    assert config == Config(
        ca_file=Path("/etc/ca.pem"), wants_genomes=False, batch_events=7, watch_s=0.5
    )


def test_without_an_environment_there_are_defaults() -> None:
    assert Config.from_environment({}) == Config()


@pytest.mark.parametrize(
    ("name", "value"),
    [("WANTS_GENOMES", "perhaps"), ("BATCH_EVENTS", "many"), ("WATCH_S", "soon")],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"GENOME_EDGE_{name}='{value}'"):
        Config.from_environment({f"GENOME_EDGE_{name}": value})


@pytest.mark.parametrize(
    "name", ["batch_events", "batch_bytes", "inbox_max_events", "ring_decisions"]
)
def test_bounds_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Config(**{name: 0})  # type: ignore[arg-type]


def test_every_kind_of_field_can_be_read_from_text() -> None:
    assert {str(field.type) for field in fields(Config)} <= {
        *("bool", "int", "float", "str", "Path | None")
    }


def test_where_the_store_is(tmp_path: Path) -> None:
    assert default_store({"GENOME_EDGE_STORE": "/here", "XDG_DATA_HOME": "/data"}) == Path("/here")
    assert default_store({"XDG_DATA_HOME": "/data"}) == Path("/data/genome-edge/store")
    assert default_store({}) == Path.home() / ".local/share/genome-edge/store"
