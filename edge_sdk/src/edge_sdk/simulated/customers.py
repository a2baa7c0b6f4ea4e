"""The customers of a `FakeEdge`: what a test says of them, held as a device would hold it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edge_sdk.dna.genome import Row, quantise
from edge_sdk.dna.schema import ONE_Q24
from edge_sdk.engine.offers import dna_from_document
from edge_sdk.engine.release import Release
from edge_sdk.errors import UsageError
from edge_sdk.numbers import Purpose
from edge_sdk.store.genomes import GenomeView, pack_row
from edge_sdk.store.lookup_file import lookup_hash
from genome_edge.v1 import dna_pb2

_KEY: Final = bytes(32)
_CUSTOMER_FIELDS: Final = ("genome", "consent")


@dataclass(frozen=True, eq=False)
class Everybody(GenomeView):
    """Every id is that of a customer: one without a genome."""

    lineage: dna_pb2.Lineage | None = None
    patches: dict[bytes, bytes | int] = field(default_factory=dict)

    def subject_of(self, customer: str) -> bytes | None:
        """A subject that follows from the id; a subject in hex is itself."""
        hex_ = re.fullmatch("[0-9a-f]{32}", customer)
        return bytes.fromhex(customer) if hex_ else _subject(customer)


def _subject(customer: str) -> bytes:
    return hashlib.blake2b(customer.encode(), digest_size=16).digest()


def genome_of(customer: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Strengths by marker of a customer, as a test gave them. Raises UsageError."""
    for name in given:
        if name not in _CUSTOMER_FIELDS:
            allowed = " and ".join(_CUSTOMER_FIELDS)
            raise UsageError(f"customers[{customer!r}] may have {allowed}, not {name!r}")
    dna = dna_from_document(given.get("genome"), f"customers[{customer!r}].genome")
    return {one.marker: one.salience_q8 / 256 for one in dna}


def genomes_of(
    release: Release,
    genomes: Mapping[str, Mapping[str, float]],
    customers: Mapping[str, Mapping[str, Any]] | None,
    now_hour: int,
) -> GenomeView:
    """What a device would hold of the customers: `genomes` by the app's id, and their consents.
    Raises UsageError."""
    lineage = release.manifest.lineage
    if customers is None:
        return Everybody(lineage=lineage)
    rows = {}
    for name, strengths in genomes.items():
        numbered = {release.vocabulary.index(one) or 0: s for one, s in strengths.items()}
        consents = sum({1 << _purpose(purpose) for purpose in customers[name].get("consent", ())})
        rows[_subject(name)] = pack_row(
            Row(
                _subject(name),
                consents,
                now_hour - release.schema.landmark_hour,
                np.array(sorted(numbered), np.uint32),
                np.array(
                    [quantise(round(s * ONE_Q24)) for _, s in sorted(numbered.items())], np.uint8
                ),
            )
        )
    return GenomeView(
        lineage=lineage,
        count=len(rows),
        key=_KEY,
        patches=dict(rows),
        lookups={lookup_hash(_KEY, name): _subject(name) for name in customers},
    )


def _purpose(name: str) -> int:
    try:
        return Purpose[name.upper()]
    except KeyError:
        known = ", ".join(one.name.lower() for one in Purpose)
        raise UsageError(f"consent {name!r} does not exist; there are {known}") from None
