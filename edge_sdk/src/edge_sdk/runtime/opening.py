"""What a client is opened with, looked at before anything starts. Raises UsageError only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from edge_sdk.arguments import is_text
from edge_sdk.clock import DeviceClock
from edge_sdk.config import PREFIX, Config, default_store
from edge_sdk.engine.fitting import Failures, GuardedClock
from edge_sdk.errors import UsageError
from edge_sdk.plugins import Plugins
from edge_sdk.runtime.keeper import Origin
from edge_sdk.runtime.room import Room

# Where nothing can be written at all, a bundle is decided from in memory.
_NOWHERE: Final = Path(os.devnull, "store")


class Opening(NamedTuple):
    """Where a client's data come from, and the directory to delete in the end, if any."""

    origin: Origin
    temporary: Path | None


def opening(store: object, server: object, bundle: object) -> Opening:
    """From the arguments of a client, and its environment."""
    if server is not None and not is_text(server):
        raise UsageError(f"server must be an address, not {type(server).__name__}")
    server = server or os.environ.get(PREFIX + "SERVER") or None
    came_with = _bundle(bundle)
    path, temporary = _store_path(store, server, came_with is not None)
    return Opening(Origin(path, server, came_with), temporary)


def room(config: Config, plugins: Plugins | None) -> Room:
    """The room of a client with what the app put in place of ours."""
    if plugins is not None and not isinstance(plugins, Plugins):
        raise UsageError(f"plugins must be Plugins, not {type(plugins).__name__}")
    if plugins is None or plugins.clock is None:
        return Room(config, DeviceClock(), plugins)
    return Room(config, DeviceClock(GuardedClock(plugins.clock, Failures()), None), plugins)


def configured(config: Config | None) -> Config:
    """The settings that were given, else those of the environment."""
    if config is not None and not isinstance(config, Config):
        raise UsageError(f"config must be a Config, not {type(config).__name__}")
    try:
        return config or Config.from_environment()
    except ValueError as error:
        raise UsageError(str(error)) from error


def _store_path(store: object, server: str | None, bundled: bool) -> tuple[Path, Path | None]:
    if store is not None:
        return _path("store", store), None
    if bundled and server is None and not os.environ.get(PREFIX + "STORE"):
        import tempfile  # few clients need one

        try:
            temporary = Path(tempfile.mkdtemp(prefix="genome-edge-"))
        except OSError:
            return _NOWHERE, None
        return temporary / "store", temporary
    try:
        return default_store(), None
    except RuntimeError as error:
        raise UsageError(f"there is no place for a store ({error}): give `store`") from error


def _bundle(bundle: object) -> Path | bytes | None:
    if bundle is None or isinstance(bundle, bytes):
        return bundle
    if isinstance(bundle, str | os.PathLike):
        return _path("bundle", bundle)
    raise UsageError(f"bundle must be a path or bytes, not {type(bundle).__name__}")


def _path(name: str, value: object) -> Path:
    if isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str) and text and "\0" not in text:
            return Path(text)
    raise UsageError(f"{name} must be a path")
