"""A decision with what is imported now: on a release that is assembled and thrown away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edge_sdk.context import Context
from edge_sdk.dna.genome import Genome
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.engine.decide import decide
from edge_sdk.engine.explain import explain_record
from edge_sdk.engine.release import Release
from genome_edge.v1 import dna_pb2, release_pb2
from genome_server.dna_file import load_schema
from genome_server.errors import Refused, UsageError
from genome_server.genomes.rows import row_of
from genome_server.ingest.nearest import KnownIds
from genome_server.learning.export import ModelFacts, untrained_model
from genome_server.models.shelf import current_model
from genome_server.releases.assemble import assemble, without_offers, without_tables
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

_GONE = "offer {!r} is left out: this machine does not know its zone"


@dataclass(frozen=True)
class Preview:
    """What would be shown, and why not the rest."""

    placement: str
    moment: str
    model: str | None
    slots: list[dict[str, Any]]
    losers: dict[str, tuple[float | None, list[str]]]
    carriers: list[tuple[str, str, float]]
    unknown: list[str]

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "placement": self.placement,
            "moment": self.moment,
            "model": self.model,
            "slots": self.slots,
            "losers": {
                name: {"score": score, "reasons": reasons}
                for name, (score, reasons) in self.losers.items()
            },
            "carriers": [
                {"marker": marker, "source": source, "difference": difference}
                for marker, source, difference in self.carriers
            ],
            "unknown": self.unknown,
        }


def preview(
    tenant: Tenant,
    store: Store,
    *,
    placement: str | None,
    slots: int,
    cell: str | None,
    place: str | None,
    activity: str | None,
    moment: str | None,
    channel: str | None,
    language: str | None,
    stage: str | None,
    attributes: Sequence[str],
    customer: str | None,
    source: str,
) -> Preview:
    """Decide without recording anything.

    Raises UsageError for a moment that cannot be, Refused for a placement or
    customer that is not known.
    """
    context = Context(
        cell=cell,
        place=place,
        activity=activity,
        time=_time(moment),
        channel=channel,
        language=language,
        stage=stage,
        attributes=_attributes(attributes),
    )
    asked = _placement(store, placement)
    release, model, left_out = _release(tenant, store)
    consents, genome = _customer(store, release, source, customer)
    decision, record = decide(
        release, context, asked, slots, genome=genome, consents=consents, seed=0
    )
    explained = explain_record(record, decision)
    return Preview(
        decision.placement,
        repr(context),
        model,
        [
            {
                "offer": slot.offer.id if slot.offer else None,
                "reason": str(slot.reason),
                "score": slot.score,
                "propensity": slot.propensity,
            }
            for slot in decision.slots
        ],
        {one.offer: (one.score, [str(why) for why in one.reasons]) for one in explained.losers},
        [(one.marker, one.source, one.difference) for one in explained.carriers],
        [*map(str, decision.unknown), *map(_GONE.format, left_out)],
    )


def _release(tenant: Tenant, store: Store) -> tuple[Release, str | None, list[str]]:
    """What would be published now, its model, and the offers that it cannot have."""
    schema = load_schema(tenant.dna_path, store)
    model = current_model(tenant.models_dir, store)
    vocabulary = store.vocabulary()
    if model is None:
        facts = ModelFacts(vocabulary.lineage, len(vocabulary))
        content, name = untrained_model(facts), None
    else:
        content, name = model.content, model.id
    parts = assemble(store, schema, content, dry_run=True)
    left_out = without_tables(parts)
    parts = without_offers(parts, left_out)
    used = Vocabulary.from_proto(dna_pb2.Vocabulary.FromString(parts["vocabulary"]))
    now_ms = time.time_ns() // 1_000_000
    manifest = release_pb2.Manifest(
        format=1,
        tenant=tenant.name,
        created_ms=now_ms,
        expires_ms=now_ms + DAY_MS,
        lineage=schema.lineage(used),
    )
    return Release.from_parts(manifest, parts), name, left_out


def _placement(store: Store, name: str | None) -> str:
    known = [found for found, _ in store.documents("placement")]
    if name is None:
        if len(known) == 1:
            return known[0]
        raise UsageError(f"give --placement: one of {', '.join(known) or '(none is imported)'}")
    if name not in known:
        raise Refused(KnownIds("placement", known).unknown(name))
    return name


def _customer(
    store: Store, release: Release, source: str, name: str | None
) -> tuple[int, Genome | None]:
    if name is None:
        return 0, None
    subject = store.subject_of(source, name)
    if subject is None:
        known = (n for _, s, n in store.external_ids() if s == source)
        raise Refused(KnownIds("customer", known).unknown(name))
    customer = store.customer(subject)
    consents = (customer.consents or 0) if customer is not None else 0
    record = store.genome(subject)
    if record is None:
        return consents, None
    if record.epoch != release.schema.epoch:
        raise Refused("genomes are of another DNA schema: run genome-server build")
    return consents, Genome(row_of(record), release.schema, release.vocabulary)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--time {text!r} is no time such as 2026-03-01T18:05:00+01:00") from None


def _attributes(pairs: Sequence[str]) -> dict[str, str]:
    made = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--attr {pair!r}: write NAME=VALUE")
        made[name] = value
    return made
