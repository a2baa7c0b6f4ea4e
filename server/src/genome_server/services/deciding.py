"""Deciding for clients that cannot embed the SDK: the same engine, on the server's own state.

What a device keeps in its store is found here instead: the release on the shelf,
the genome in the tenant's store, caps in a ledger that is read back from the log.
The server counts as one device. Nobody in particular counts for no cap: strangers
behind a thin client are not one customer.

Everything here blocks and is called in the pool.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_sdk.context import Context
from edge_sdk.decision import Decision
from edge_sdk.dna.genome import NOBODY, Genome
from edge_sdk.engine.cap_rules import REDEEM
from edge_sdk.engine.fitting import Failures
from edge_sdk.errors import FormatError, TrustError
from edge_sdk.runtime.claiming import Claims, claim_of, counted_as, within_caps
from edge_sdk.runtime.recent import Recent
from genome_edge.v1 import event_pb2
from genome_server.errors import Refused
from genome_server.genomes.rows import row_of
from genome_server.services.errors import CallRefusedError
from genome_server.services.in_force import Standing, load_release
from genome_server.services.redemptions import is_used_up
from genome_server.services.room import Room
from genome_server.services.server_caps import LoggedCaps
from genome_server.services.sync_plan import rows_fit
from genome_server.store.protocol import CONSENT_PERSONALISATION
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from edge_sdk.engine.cap_views import Blocked
    from edge_sdk.engine.record import Record
    from edge_sdk.engine.release import Release

#: Outcomes are welcome for this long at least, whatever a placement's window says.
REMEMBERED_MS = 30 * DAY_MS
#: Decisions whose full form is kept, for whoever asks why. With a large catalogue one has 100 KB.
_EXPLAINED = 128
#: A withdrawal that the log holds is in the store by then.
_WITHDRAWN_S = 600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Customer:
    """Who a decision is for, as far as the caller's audience may know: NOBODY for anyone else."""

    subject: bytes = NOBODY
    consents: int = 0
    genome: Genome | None = None


@dataclass(frozen=True)
class Remembered:
    """What a later outcome needs to know of a decision; an offer is empty where none was shown."""

    audience: str
    placement: str
    offers: tuple[str, ...]
    shown_on_view: bool

    def to_bytes(self) -> bytes:
        """Encode it as it is kept beside the log."""
        return json.dumps([self.audience, self.placement, self.offers, self.shown_on_view]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Remembered:
        """Read what `to_bytes` wrote."""
        audience, placement, offers, shown_on_view = json.loads(data)
        return cls(audience, placement, tuple(offers), shown_on_view)


class Decider:
    """Decides for one tenant. Thread-safe."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._redeeming = threading.Lock()
        self._release: Release | None = None
        self._tried = 0
        self._claims: Claims | None = None
        self._logged: LoggedCaps | None = None
        self._failures = Failures()
        self._standing = Standing(room.trust, room.shelf)
        self._full: Recent[bytes, tuple[Release, event_pb2.DecisionRecord]] = Recent(_EXPLAINED)
        self._withdrawn: dict[tuple[bytes, int], float] = {}
        room.follow(self._keep_up)

    def release(self) -> Release:
        """Return the newest release that can be used. Raises NO_RELEASE."""
        newest = self._room.shelf.newest()
        held = self._release
        # While one call loads a new release the others go on with the one from before.
        if (
            newest is not None
            and newest.version != self._tried
            and self._lock.acquire(blocking=held is None)
        ):
            try:
                self._try(newest.version)
            finally:
                self._lock.release()
        if self._release is None:
            raise CallRefusedError("NO_RELEASE", "nothing was published yet")
        return self._release

    def customer(self, audience: str, name: str, release: Release) -> Customer | None:
        """Find a customer of the audience by the app's own id; None where there is none in it."""
        store = self._room.store
        row = store.audience(audience)
        subject = store.subject_of(row.source, name) if row is not None else None
        if subject is None or not store.is_member(audience, subject):
            return None
        known = store.customer(subject)
        consents = self._holding(subject, (known.consents or 0) if known is not None else 0)
        # Consent comes first: without it the genome is not even read.
        if not consents & CONSENT_PERSONALISATION:
            return Customer(subject, consents)
        record = store.genome(subject)
        if record is None or not rows_fit(store, release.manifest.lineage):
            return Customer(subject, consents)
        try:
            genome = Genome(row_of(record), release.schema, release.vocabulary)
        except FormatError:
            log.exception("tenant %s: a genome cannot be read", self._room.name)
            return Customer(subject, consents)
        return Customer(subject, consents, genome)

    def decide(
        self, release: Release, context: Context, placement: str, slots: int, customer: Customer
    ) -> tuple[Decision, event_pb2.DecisionRecord]:
        """Choose offers, and return the record in its coarse form. Raises UsageError."""
        from edge_sdk.engine.decide import decide
        from edge_sdk.engine.record import coarse

        now_ms = time.time_ns() // 1_000_000
        claims = self._claims_of(release)

        def choose(blocked: Blocked, again: Record | None) -> tuple[Decision, Record]:
            return decide(
                release,
                context,
                placement,
                slots,
                genome=customer.genome,
                consents=customer.consents,
                blocked=blocked.offers,
                why_blocked=blocked.why,
                rooms=blocked.rooms,
                seed=again.inputs.seed if again is not None else None,
                decision_id=again.inputs.decision_id if again is not None else None,
                terms=self._standing.terms(release, now_ms),
                now_ms=now_ms,
                subject=customer.subject,
            )

        if customer.subject == NOBODY:  # strangers behind a thin client are not one customer
            decision, record = choose(claims.blocking(NOBODY, now_ms, slots), None)
        else:
            self._hear(release, customer.subject)
            decision, record, _ = within_caps(
                claims, release, customer.subject, now_ms, slots, choose
            )
        full = record.to_proto()
        self._full.put(full.decision_id, (release, full))
        return decision, coarse(full)

    def full(self, decision_id: bytes) -> tuple[Release, event_pb2.DecisionRecord] | None:
        """The release and the full record of one of the last decisions."""
        return self._full.get(decision_id)

    def withdrawn(self, subject: bytes, purpose: int) -> None:
        """A customer agrees no longer: that holds before the store has it from the log."""
        self._withdrawn[subject, purpose] = time.monotonic()

    def agreed(self, subject: bytes, purpose: int) -> None:
        """A customer agrees: that holds when the store has it."""
        self._withdrawn.pop((subject, purpose), None)

    def _holding(self, subject: bytes, consents: int) -> int:
        """The consents of the store, but for what was withdrawn here just now."""
        for key, at in list(self._withdrawn.items()):
            if time.monotonic() - at > _WITHDRAWN_S:
                self._withdrawn.pop(key, None)
            elif key[0] == subject:
                consents &= ~(1 << key[1])
        return consents

    def count(self, subject: bytes, offer: str, kind: str, at_ms: int, claim: bytes) -> None:
        """Count what happened with an offer against its caps, once for each claim."""
        release, claims = self._release, self._claims
        if release is not None and claims is not None and offer and subject != NOBODY:
            claims.count(subject, offer, counted_as(release.schema, kind), at_ms, claim)

    def may_redeem(
        self,
        release: Release,
        subject: bytes,
        offer: str,
        decision_id: bytes,
        slot: int,
        now_ms: int,
    ) -> bool:
        """Say whether caps allow a redemption, and count it then: of two at once, one is first."""
        rule = release.catalogue.caps.get(offer)
        with self._redeeming:
            self._hear(release, subject)
            if rule is not None and is_used_up(
                self._claims_of(release).ledger, release, rule, subject, now_ms
            ):
                return False
            self.count(subject, offer, REDEEM, now_ms, claim_of(decision_id, slot))
        return True

    def _try(self, version: int) -> None:
        """Use a release, once; one that is of no use is said so and passed over."""
        if version == self._tried:
            return
        try:
            self._use(load_release(self._room.shelf, version, self._failures))
        except (TrustError, Refused, OSError):
            log.exception("tenant %s: release %d is of no use", self._room.name, version)
        self._tried = version

    def _use(self, release: Release) -> None:
        if self._claims is None:
            self._logged = LoggedCaps(self._room.tenant.dir, self._room.reader, release)
            self._claims = Claims(self._logged.ledger)
        else:
            self._claims.ledger.rebind(release.catalogue.caps)
            self._claims.ledger.prune(time.time_ns() // 1_000_000)
        self._release = release

    def _keep_up(self) -> None:
        """Count what another process decided as the server: a list."""
        release, logged = self._release, self._logged
        if release is not None and logged is not None:
            logged.follow(release)

    def _hear(self, release: Release, subject: bytes) -> None:
        """Count what a customer did on devices."""
        if self._logged is not None and release.catalogue.caps:
            self._logged.hear(self._room.store, (subject,))

    def _claims_of(self, release: Release) -> Claims:
        assert self._claims is not None, release.version
        return self._claims
