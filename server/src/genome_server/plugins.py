"""What an installed package may put in place of our own, found by entry points.

    [project.entry-points."genome_server.plugins"]
    store = "acme_edge:open_store"          # (tenant: genome_server.home.Tenant) -> Store
    places = "acme_edge:Beacons"            # () -> PlaceResolver

`store` opens the store of a tenant in place of SQLite; it has to meet the protocol
`genome_server.store.Store` and to make what is not there yet. `places`, `scorer` and `explorer`
are those of `edge_sdk.plugins.Plugins`, for what the server decides for thin clients. `scorer` is
called with a release's model and vocabulary, the others without arguments, once per process. Two
packages that give the same one are refused: nobody could say which one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from edge_sdk.plugins import Plugins
from genome_server.errors import Refused

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

GROUP = "genome_server.plugins"
NAMES = ("store", "places", "scorer", "explorer")


@cache
def installed(name: str) -> Any | None:
    """The plug-in of this name, or None. Raises Refused for one that cannot be used."""
    found = [point for point in _points() if point.name == name]
    if not found:
        return None
    if len(found) > 1:
        said = ", ".join(sorted(point.value for point in found))
        raise Refused(f"more than one installed package gives the plug-in {name!r}: {said}")
    try:
        return found[0].load()
    except Exception as error:
        raise Refused(
            f"the plug-in {name!r} ({found[0].value}) cannot be loaded: {error}"
        ) from error


def store_opener() -> Callable[[Tenant], Store] | None:
    """What opens stores in place of SQLite; None: nothing. Raises Refused."""
    opener: Callable[[Tenant], Store] | None = installed("store")
    return opener


@cache
def deciding() -> Plugins:
    """What the server decides with in place of ours. Raises Refused."""
    made = {name: installed(name) for name in ("places", "explorer")}
    given = {name: make() for name, make in made.items() if make is not None}
    return Plugins(scorer=installed("scorer"), **given)


def _points() -> list[EntryPoint]:
    found = list(entry_points(group=GROUP))
    for point in found:
        if point.name not in NAMES:
            raise Refused(f"{point.value}: there is no plug-in {point.name!r}; there are {NAMES}")
    return found
