"""The public names: exactly these, each from its room, loaded when used."""

from __future__ import annotations

import subprocess
import sys
import typing
from importlib import import_module
from importlib.resources import files

import pytest

import edge_sdk

NAMES = [
    "AsyncEdgeClient",
    "AsyncSession",
    "Carrier",
    "ClientClosed",
    "Config",
    "Considered",
    "Context",
    "Decision",
    "DiskFull",
    "Draw",
    "EdgeClient",
    "EdgeError",
    "Explanation",
    "IdentifyResult",
    "InvalidContext",
    "InvalidMarker",
    "Loser",
    "Offer",
    "Plugins",
    "Purpose",
    "Reason",
    "Redemption",
    "RedemptionReason",
    "RefusedError",
    "Session",
    "Slot",
    "SlotExplanation",
    "State",
    "Status",
    "StoreCorrupt",
    "StoreError",
    "Tier",
    "TrustError",
    "Unknown",
    "UnknownDecision",
    "UnreachableError",
    "UsageError",
    "tune_process",
]


def test_exactly_these_are_public() -> None:
    assert edge_sdk.__all__ == NAMES
    assert set(NAMES) <= set(dir(edge_sdk))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_there_and_documented(name: str) -> None:
    value = getattr(edge_sdk, name)
    assert value.__name__ == name
    assert value.__module__.startswith("edge_sdk.")
    assert value.__doc__
    assert getattr(import_module(value.__module__), name) is value


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="EdgeKlient"):
        edge_sdk.EdgeKlient  # noqa: B018


def test_nothing_is_loaded_before_it_is_used() -> None:
    script = (
        "import sys, edge_sdk\n"
        "assert not [m for m in sys.modules if m.startswith('edge_sdk.')]\n"
        "assert 'numpy' not in sys.modules\n"
        "edge_sdk.Config\n"
        "seen = {m for m in sys.modules if m.startswith('edge_sdk.')}\n"
        "assert seen == {'edge_sdk.config', 'edge_sdk.values'}\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_type_checkers_see_the_same_names() -> None:
    source = files("edge_sdk").joinpath("__init__.py").read_text()
    checked = source[source.index("if TYPE_CHECKING:") : source.index("__all__")]
    for name in NAMES:
        assert name in checked.replace(",", " ").split(), name
    assert files("edge_sdk").joinpath("py.typed").is_file()


def test_the_surface_is_annotated() -> None:
    for one in (
        edge_sdk.EdgeClient,
        edge_sdk.Session,
        edge_sdk.AsyncEdgeClient,
        edge_sdk.AsyncSession,
    ):
        for name, member in vars(one).items():
            if not name.startswith("_") and callable(member):
                assert "return" in typing.get_type_hints(member), f"{one.__name__}.{name}"
