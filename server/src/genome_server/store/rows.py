"""What goes into a store and comes out of it: frozen values, checked by whoever makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from genome_server.store.words import Words

#: Bit sets of the purposes that a customer agreed to (ConsentPurpose of the contract).
CONSENT_PERSONALISATION = 1 << 1
CONSENT_LEARNING = 1 << 2
CONSENT_LOCATION = 1 << 3

#: The channel of devices and releases of which nothing else was said.
DEFAULT_CHANNEL = "stable"

#: What `put_documents` takes as a kind.
DOCUMENT_KINDS = ("product", "offer", "placement", "place", "content")

Document = dict[str, Any]
#: (epoch, lane, sequence): how far a device's own events of a lane got.
Mark = tuple[bytes, int, int]


class DeleteReason(IntEnum):
    """Why a device must forget a genome; numbered as in the contract."""

    ERASED = 1
    LEFT_AUDIENCE = 2
    CONSENT_WITHDRAWN = 3


class PutCount(NamedTuple):
    """How many of the rows given were new, different, or there already."""

    inserted: int
    changed: int
    unchanged: int


@dataclass(frozen=True)
class CustomerRow:
    """A customer as ingest knows it.

    `markers` is the profile: (marker, salience in 1/256). `consents` is a bit
    set; None when put means "nothing said" (and no consent for a new customer).
    `updated_ms` is when the source last changed it, 0 where not known: a row
    older than what is stored changes no profile, and consents only where nothing
    later was said of them. What is read has the markers of loyalty schemes too,
    and in `insight` what the last build derived (see `genome_server.derived`);
    neither is put this way. `silent` is read, too: no source and no device ever
    said anything about this customer's consent, which is not to have refused;
    and `words`, what was said and when.
    """

    subject: bytes
    markers: tuple[tuple[str, int], ...] = ()
    consents: int | None = None
    updated_ms: int = 0
    insight: str = ""
    silent: bool = field(default=False, compare=False)
    words: Words = field(default=Words(), compare=False)


@dataclass(frozen=True)
class GenomeRecord:
    """One customer's genome: the full state, and the row that devices get.

    `state` is `GenomeState.to_bytes()`, `row` a serialised GenomeBlock of one
    row, `newest_hour` hours since the Unix epoch of the newest imprint,
    `changed` the stamp of the last change (set by the store).
    """

    subject: bytes
    epoch: int
    state: bytes
    newest_hour: int
    row: bytes
    consents: int
    changed: int = 0


@dataclass(frozen=True)
class GenomeChange:
    """What a device that holds the audience must do about one subject.

    `row` is a serialised GenomeBlock of one row to put; None means delete, and
    `reason` says why. A row's `journal` says which markers changed at which
    stamps, for devices that had it: members since the stamp `joined`.
    """

    subject: bytes
    changed: int
    row: bytes | None
    reason: DeleteReason | None = None
    joined: int = 0
    journal: bytes = b""


class Tally(NamedTuple):
    """What a device with an audience holds once it has everything.

    `row_sum` is the sum of the row sums modulo 2^64.
    """

    rows: int
    row_sum: int


@dataclass(frozen=True)
class AudienceRow:
    """The customers whose genomes a device may hold.

    `rule` is {"all": true}, {"any_of": [markers]}, {"customers": [ids]} or
    {"none": true}. `identify` says whom `Identify` answers for: members, any,
    none. `lookup` gives devices the keyed hashes of customer ids of `source`
    under `lookup_key` (32 bytes).
    """

    name: str
    rule: Mapping[str, Any]
    identify: str = "members"
    lookup: bool = False
    lookup_key: bytes = b""
    source: str = "app"


@dataclass(frozen=True)
class DeviceRow:
    """An enrolled device. Times are milliseconds since the Unix epoch; 0: never.

    `channel` says which releases it gets.
    """

    id: str
    name: str
    audience: str
    public_key: bytes
    sdk_version: str = ""
    created_ms: int = 0
    seen_ms: int = 0
    revoked: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)
    channel: str = DEFAULT_CHANNEL


class Grant(NamedTuple):
    """What an enrolment code gives the device that uses it."""

    audience: str
    channel: str


@dataclass(frozen=True)
class ThinRow:
    """A thin client: it holds a bearer token, of which only the hash is kept."""

    name: str
    token_hash: bytes
    audience: str
    revoked: bool = False


@dataclass(frozen=True)
class ReleaseRow:
    """A published release. `manifest` is a serialised SignedManifest.

    It is for this share (0 … 1] of the devices of its channel. One that was
    withdrawn is given to nobody any more.
    """

    version: int
    channel: str
    created_ms: int
    expires_ms: int
    manifest: bytes
    schema_epoch: int
    share: float = 1.0
    withdrawn: bool = False

    def covers(self, device_id: str) -> bool:
        """Whether a device is among the share that gets this release.

        By a hash of version and device: each release has a share of its own, and
        one that grows keeps the devices that it had.
        """
        digest = hashlib.sha256(f"{self.version}:{device_id}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.share * 2**64
