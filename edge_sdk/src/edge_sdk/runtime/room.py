"""What the deciding threads share: everything that a decision reads and counts."""

from __future__ import annotations

from edge_sdk.clock import DeviceClock
from edge_sdk.condition import Counts, tier_of
from edge_sdk.config import Config
from edge_sdk.decision import Tier
from edge_sdk.engine.caps import CapLedger
from edge_sdk.engine.fitting import Failures, fitted
from edge_sdk.engine.release import Release
from edge_sdk.engine.withheld import InForce, Terms, Withholding
from edge_sdk.plugins import Plugins
from edge_sdk.runtime.claiming import Claims
from edge_sdk.runtime.live import Customers, Live
from edge_sdk.runtime.local_state import LocalState
from edge_sdk.runtime.past import Past
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
        self.ledger = CapLedger({}, elapsed=clock.elapsed_ms)
        self.claims = Claims(self.ledger)
        self.past = Past()
        self.live = Live()
        #: When the server was last heard, by its own clock; 0: never.
        self.contact_ms = 0

    def adopt(
        self,
        release: Release | None = None,
        genomes: GenomeView | None = None,
        in_force: InForce | None = None,
    ) -> None:
        """Decide from another release, with other genomes, or under what else is in force, from
        now on. For one thread."""
        if release is not None:
            self.ledger.rebind(release.catalogue.caps)
        live = self.live
        withholding = live.withholding
        chosen = release if release is not None else live.release
        said = in_force if in_force is not None else live.in_force
        if chosen is not None and (chosen is not live.release or said != live.in_force):
            withholding = Withholding(chosen.catalogue, said, withholding)
        self.live = Live(
            chosen, genomes if genomes is not None else live.genomes, said, withholding
        )
        if genomes is not None:
            self.past.review(lambda one: self.local.consents(one, genomes.consents(one)))

    def fitted(self, release: Release) -> Release:
        """A release with what the app put in place of ours."""
        return fitted(release, self.plugins, self.failures)

    def tier(self, now_ms: int, live: Live | None = None) -> Tier:
        """How far the release may be trusted now."""
        live = live or self.live
        if live.release is None:
            return Tier.EMPTY
        return tier_of(live.fresh_until_ms, now_ms, self.config)

    def terms(self, live: Live, now_ms: int) -> Terms:
        """What a decision from `live` is subject to now, whatever is asked."""
        tier = Tier.FRESH if now_ms < live.fresh_until_ms else self.tier(now_ms, live)
        # When the server was last heard, be it by what it signed.
        heard_ms = max(self.contact_ms, live.said_ms)
        return Terms(tier, live.withholding, now_ms - heard_ms, self.config.language)

    def forked(self) -> Room:
        """In a forked child: the same knowledge, without the parent's locks and model session."""
        other = Room(self.config, self.clock, self.plugins)
        other.local = self.local.forked()
        other.customers = Customers(other.local, self.config.genome_cache)
        live = self.live
        release = live.release.renewed() if live.release is not None else None
        other.contact_ms = self.contact_ms
        other.live = Live(release, live.genomes, live.in_force, live.withholding)
        # What was counted is known before the child has opened the store.
        other.ledger.rebind(release.catalogue.caps if release is not None else {})
        other.ledger.apply(self.ledger.rows())
        if self.ledger.source is not None:
            other.ledger.draw_on(self.ledger.source.forked())
        other.claims = self.claims.forked(other.ledger)
        return other
