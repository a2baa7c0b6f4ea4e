"""What a decision reads, as it is at one moment, and who a customer is in it.

A `Live` is never changed: another release or other genomes make another one, which takes its place
in a single assignment. So a decision is made from one whole release and takes no lock.

Consent comes first. The bits of a customer are read without a look at the strengths beside them;
only where PERSONALISATION is among them (or was granted here since) is a genome made. Nobody
agreed to anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING, Final, NamedTuple

from edge_sdk import numbers
from edge_sdk.arguments import is_text
from edge_sdk.decision import Unknown
from edge_sdk.dna.genome import NOBODY, Genome, PendingImprint, Row
from edge_sdk.engine.release import Release
from edge_sdk.engine.withheld import InForce, Withholding
from edge_sdk.errors import UsageError
from edge_sdk.lazy import later
from edge_sdk.runtime.local_state import LocalState, Pending
from edge_sdk.store.genomes import GenomeView, compatible
from edge_sdk.store.state import StoredImprint
from edge_sdk.values import dataclass

if TYPE_CHECKING:
    from edge_sdk.dna import imprint
    from edge_sdk.runtime import earlier
else:
    imprint = later("edge_sdk.dna.imprint")
    earlier = later("edge_sdk.runtime.earlier")

PERSONALISATION: Final = 1 << numbers.PERSONALISATION
_NO_GENOMES: Final = GenomeView()
_NOTHING_SAID: Final = InForce()


@dataclass(frozen=True, eq=False)
class Live:
    """A release, the genome rows that can be read under it, and what is in force of it."""

    release: Release | None = None
    genomes: GenomeView = _NO_GENOMES
    in_force: InForce = _NOTHING_SAID
    #: What keeps offers of this release back; None: there is no release.
    withholding: Withholding | None = None
    #: Lookups and consents count whatever the rows are encoded with; strengths do not.
    readable: bool = field(init=False)
    #: When the release grows stale; 0 without one.
    fresh_until_ms: int = field(init=False)
    #: When the server said the newest of this.
    said_ms: int = field(init=False)

    def __post_init__(self) -> None:
        lineage = self.genomes.lineage
        fits = (
            self.release is not None
            and lineage is not None
            and compatible(lineage, self.release.manifest.lineage)
        )
        object.__setattr__(self, "readable", fits)
        span = self.fresh_span
        object.__setattr__(self, "fresh_until_ms", span[1] if span is not None else 0)
        published = int(self.release.manifest.created_ms) if self.release is not None else 0
        object.__setattr__(self, "said_ms", max(self.in_force.said_ms, published))

    @property
    def fresh_span(self) -> tuple[int, int] | None:
        """From when, and until when, the release is fresh by the newest that vouches for it."""
        if self.release is None:
            return None
        own = self.release.manifest
        return self.in_force.fresh or (int(own.created_ms), int(own.expires_ms))

    def row(self, subject: bytes) -> Row | None:
        """The row of a subject, where it can be read under the release."""
        return self.genomes.row(subject) if self.readable else None


class Visitor(NamedTuple):
    """Whom a decision is for. `subject` is 16 bytes, zeros for nobody; `genome` is None where there
    is none or it may not be read; `private`: the genome must not be written to disk."""

    subject: bytes
    consents: int
    genome: Genome | None
    private: bool = False
    unknown: tuple[Unknown, ...] = ()


ANYBODY: Final = Visitor(NOBODY, 0, None)


class Customers:
    """Finds customers and makes their genomes, and keeps those made. Takes no lock."""

    def __init__(self, local: LocalState, keep: int) -> None:
        self.local = local
        self._keep = keep
        # By subject: what they were made from, the consents of the row, and who they are.
        self._made: dict[bytes, tuple[Live, int, Pending, Visitor]] = {}

    def subject_of(self, live: Live, customer: str | None) -> bytes | None:
        """The subject of an app's own id or of 32 hex characters; None: not known here.

        Raises UsageError for what is neither text nor None.
        """
        if customer is None:
            return NOBODY
        if not (type(customer) is str and customer.isascii()) and not is_text(customer):
            raise UsageError(f"customer must be text or None, not {type(customer).__name__}")
        subject = live.genomes.subject_of(customer)
        return _from_hex(customer) if subject is None else subject

    def visitor(self, live: Live, customer: str | None) -> Visitor:
        """Whom `customer` stands for: nobody, with a word about it, where it is not known."""
        if customer is None:
            return ANYBODY
        subject = self.subject_of(live, customer)
        if subject is None:
            return ANYBODY._replace(unknown=(Unknown("customer", customer, None),))
        known = self._made.get(subject)
        if known is not None and known[0] is not live:
            known = None
        said = known[1] if known is not None else live.genomes.consents(subject)
        consents = self.local.consents(subject, said)
        if not consents & PERSONALISATION:
            return Visitor(subject, consents, None)
        pending = self.local.pending(subject)
        if known is None or known[2] is not pending:
            genome = make_genome(live.release, live.row(subject), pending)
            if len(self._made) >= self._keep:
                self._made = {}
            visitor = Visitor(subject, consents, genome)
            known = self._made[subject] = (live, said, pending, visitor)
        visitor = known[3]
        return visitor if visitor.consents == consents else visitor._replace(consents=consents)


def _from_hex(text: str) -> bytes | None:
    """The 16 bytes that 32 hex characters name; None for anything else."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(text) == 32 and len(found) == 16 else None  # no spaces between them


def make_genome(
    release: Release | None, row: Row | None, pending: Iterable[StoredImprint | earlier.Earlier]
) -> Genome | None:
    """What a decision reads of a customer; None where nothing is known that could be read."""
    if release is None:
        return None
    imprints = [given for one in pending if (given := _given(release, one)) is not None]
    if row is None and not imprints:
        return None
    return Genome(row, release.schema, release.vocabulary, imprints)


def _given(release: Release, one: StoredImprint | earlier.Earlier) -> PendingImprint | None:
    """What an imprint gives to each marker under this release; None where it gives nothing."""
    if isinstance(one, earlier.Earlier):
        return one.votes(release)
    given = tuple((index, q24) for index, q24, _ in earlier.votes(release, one.interaction))
    return PendingImprint(imprint.hour_of(one.time_ms), given) if given else None
