"""What the deciding threads share: everything that a decision reads and counts."""

from __future__ import annotations

from edge_sdk.clock import DeviceClock
from edge_sdk.config import Config
from edge_sdk.decision import Tier
from edge_sdk.engine.caps import CapLedger
from edge_sdk.engine.fitting import Failures, fitted
from edge_sdk.engine.release import Release
from edge_sdk.plugins import Plugins
from edge_sdk.runtime.live import Customers, Live
from edge_sdk.runtime.local_state import LocalState
from edge_sdk.status import Counts, tier_of
from edge_sdk.store.genomes import GenomeView


class Room:
    """One client's memory. The background replaces its parts; the deciding threads read them."""

    def __init__(self, config: Config, clock: DeviceClock, plugins: Plugins | None = None) -> None:
        self.config = config
        self.plugins = plugins or Plugins()
        self.failures = Failures()
        self.clock = clock
        self.counts = Counts()
        self.local = LocalState()
        self.customers = Customers(self.local, config.genome_cache)
        self.ledger = CapLedger({})
        self.live = Live()

    def adopt(self, release: Release | None = None, genomes: GenomeView | None = None) -> None:
        """Decide from another release, or with other genomes, from now on. For one thread."""
        if release is not None:
            self.ledger.rebind(release.catalogue.caps)
        live = self.live
        self.live = Live(
            release if release is not None else live.release,
            genomes if genomes is not None else live.genomes,
        )

    def fitted(self, release: Release) -> Release:
        """A release with what the app put in place of ours."""
        return fitted(release, self.plugins, self.failures)

    def tier(self, now_ms: int) -> Tier:
        """How far the release may be trusted now."""
        release = self.live.release
        return Tier.EMPTY if release is None else tier_of(release.manifest, now_ms, self.config)

    def forked(self) -> Room:
        """In a forked child: the same knowledge, without the parent's locks and model session."""
        other = Room(self.config, self.clock, self.plugins)
        other.local = self.local.forked()
        other.customers = Customers(other.local, self.config.genome_cache)
        live = self.live
        release = live.release.renewed() if live.release is not None else None
        other.live = Live(release, live.genomes)
        # What was counted comes from the store again; the rules are known already.
        other.ledger = CapLedger(release.catalogue.caps if release is not None else {})
        return other
