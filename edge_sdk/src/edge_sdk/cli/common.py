"""What commands have in common: the store they work on, and its settings."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sdk.config import Config, default_store
from edge_sdk.errors import UsageError
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.files import DATABASE


def settings() -> Config:
    """The settings of the environment. Raises UsageError for one that is wrong."""
    try:
        return Config.from_environment()
    except ValueError as error:
        raise UsageError(str(error)) from error


def store_path(options: Namespace) -> Path:
    """Where the store is, there or not."""
    said: Path | None = options.store
    return said if said is not None else default_store()


def has_store(path: Path) -> bool:
    """Whether there is a store at `path`."""
    return (path / DATABASE).exists() or (path / "identity").exists()


@contextmanager
def existing_store(options: Namespace) -> Iterator[DeviceStore]:
    """The store, opened. Raises UsageError where there is none: looking makes nothing."""
    path = store_path(options)
    if not has_store(path):
        raise UsageError(f"there is no store at {path}; make one: genome-edge enrol --store {path}")
    store = DeviceStore.open(path)
    try:
        yield store
    finally:
        store.close()
