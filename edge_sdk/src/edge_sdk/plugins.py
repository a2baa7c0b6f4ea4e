"""What an app may put in place of our own: typed protocols, given to `EdgeClient` as arguments.

    edge = EdgeClient(plugins=Plugins(places=Beacons(), clock=gps_time))

Each has a default that works; give only what you have. What you give is called on the threads
that decide: it must be thread-safe and must not block. A plug-in that fails is logged, once for
each kind of failure, and ours does its work: a decision always comes back. A scorer that fails
leaves decisions UNSCORED, as a model does, and is found in `status.cause`.

The protocols of scorers and explorers stand with ours in `edge_sdk.engine.policy`. A device's store
is what makes its events durable, and is always ours; the server's is the protocol
`genome_server.store.Store`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from edge_sdk.engine.places import PlaceResolver
from edge_sdk.values import dataclass

if TYPE_CHECKING:
    from edge_sdk.dna.markers import Vocabulary
    from edge_sdk.engine.policy import Explorer, Scorer
    from genome_edge.v1 import dna_pb2

__all__ = ["Clock", "Identified", "Identifier", "PlaceResolver", "Plugins", "ScorerFactory"]

# Given the release's model file and its vocabulary, what scores its offers.
ScorerFactory = Callable[[bytes, "Vocabulary"], "Scorer"]


class Clock(Protocol):
    """The wall clock of this device. What the server says of the time still corrects it."""

    def __call__(self) -> datetime:
        """The moment now, with a time zone."""
        ...


@dataclass(frozen=True)
class Identified:
    """Who a presence token stands for.

    `subject` is 16 bytes; `block` holds one row, and is None where the customer did not agree to
    personalisation. Everything is to be forgotten after `ttl_s` seconds.
    """

    subject: bytes
    block: dna_pb2.GenomeBlock | None = field(repr=False)
    ttl_s: int


class Identifier(Protocol):
    """Turns a presence token into the genome of who is present; our own asks the server."""

    def identify(self, token: str, lineage: dna_pb2.Lineage, timeout: float) -> Identified | None:
        """Who it is, with a row of this lineage; None for nobody whom this device may know.

        Called on a thread of its own, and may take `timeout` seconds. Raises UnreachableError
        where it cannot be asked.
        """
        ...


@dataclass(frozen=True)
class Plugins:
    """What an app gives in place of our own; None: ours.

    `places` says which places a cell is in or at, instead of the release's place layer; a place
    that the context declares wins over both. `scorer` makes what scores the offers of a release.
    `explorer` draws on every placement, whatever the release says of it; its name, gamma and
    floor stand in each record. `identifier` answers `Session.identify`.
    """

    clock: Clock | None = None
    places: PlaceResolver | None = None
    scorer: ScorerFactory | None = None
    explorer: Explorer | None = None
    identifier: Identifier | None = None
