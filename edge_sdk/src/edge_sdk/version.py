"""Which version of this distribution is installed."""

from __future__ import annotations


def sdk_version() -> str:
    """The version of the installed distribution; empty where it is not installed as one."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("genome-edge-sdk")
    except PackageNotFoundError:
        return ""
