"""What the server keeps for one tenant: the protocol, and the embedded default."""

from __future__ import annotations

from genome_server.store.protocol import (
    CONSENT_LEARNING,
    CONSENT_LOCATION,
    CONSENT_PERSONALISATION,
    AudienceRow,
    CustomerRow,
    DeleteReason,
    DeviceRow,
    GenomeChange,
    GenomeRecord,
    PutCount,
    ReleaseRow,
    Store,
    ThinRow,
)

__all__ = [
    "CONSENT_LEARNING",
    "CONSENT_LOCATION",
    "CONSENT_PERSONALISATION",
    "AudienceRow",
    "CustomerRow",
    "DeleteReason",
    "DeviceRow",
    "GenomeChange",
    "GenomeRecord",
    "PutCount",
    "ReleaseRow",
    "Store",
    "ThinRow",
]
