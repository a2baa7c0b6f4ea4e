"""`genome-server status`: what there is, and what to do next."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

_DOCUMENTS = {
    "products": "product",
    "contents": "content",
    "offers": "offer",
    "placements": "placement",
    "places": "place",
}
_SOON_DAYS = 3
_WORTH_COUNTING = 100


@click.command()
@common_options
def command(console: Console) -> None:
    """Say what a tenant holds, what waits to be done, and what to do next."""
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        facts = gather(tenant, store)
    console.result(facts, lambda: _print(console, facts))


def gather(tenant: Tenant, store: Store) -> dict[str, Any]:
    """All that the command says, as `--json` prints it."""
    from genome_server.cli.tally import count_log
    from genome_server.ingest.importing import notes_of
    from genome_server.things.kept import learnt

    tally = count_log(store, tenant.log_path)
    facts: dict[str, Any] = {
        "tenant": tenant.name,
        "home": str(tenant.dir.parent.parent),
        "counts": {
            "customers": store.customer_count(),
            **{name: store.document_count(kind) for name, kind in _DOCUMENTS.items()},
        },
        "vocabulary": len(store.vocabulary()),
        "log": {"events": tally.offset, **tally.kinds, "outcomes": dict(tally.outcomes)},
        "genomes": _genomes(tenant, store, tally.offset),
        "model": _model(tenant, store),
        "release": _release(store),
        "audiences": {a.name: store.audience_size(a.name) for a in store.audiences()},
        "devices": _devices(store),
        "loose_ends": notes_of(store),
        "learnt": learnt(store) is not None,
    }
    facts["pending"] = _pending(facts)
    facts["next"] = _next(facts)
    return facts


def _genomes(tenant: Tenant, store: Store, events: int) -> dict[str, Any]:
    from genome_server.dna_file import load_schema
    from genome_server.genomes.rows import GENOMES, built_schema

    schema = load_schema(tenant.dna_path, store)
    built = built_schema(store)
    taken = store.consumer_offset(GENOMES, built.epoch) if built is not None else 0
    return {
        "count": store.genome_count(),
        "built": built is not None,
        "schema_epoch": schema.epoch,
        "built_epoch": built.epoch if built is not None else None,
        "events_waiting": max(0, events - taken),
    }


def _model(tenant: Tenant, store: Store) -> dict[str, Any] | None:
    from genome_server.models.shelf import current_model

    model = current_model(tenant.models_dir, store)
    return None if model is None else {"id": model.id}


def _release(store: Store) -> dict[str, Any] | None:
    from genome_server.ingest.importing import CHANGED_KEY

    newest = store.release()
    if newest is None:
        return None
    changed = [
        kind for kind in _DOCUMENTS if int(store.meta(CHANGED_KEY + kind) or 0) > newest.created_ms
    ]
    now_ms = time.time_ns() // 1_000_000
    return {
        "version": newest.version,
        "created_ms": newest.created_ms,
        "expires_ms": newest.expires_ms,
        "expires_in_days": round((newest.expires_ms - now_ms) / DAY_MS, 1),
        "schema_epoch": newest.schema_epoch,
        "releases": len(store.releases()),
        "changed_since": changed,
    }


def _devices(store: Store) -> dict[str, int]:
    devices = store.devices()
    since = time.time_ns() // 1_000_000 - DAY_MS
    active = [device for device in devices if not device.revoked]
    return {
        "enrolled": len(active),
        "seen_today": sum(device.seen_ms >= since for device in active),
        "revoked": len(devices) - len(active),
        "thin_clients": sum(not thin.revoked for thin in store.thins()),
    }


def _pending(facts: dict[str, Any]) -> list[str]:
    """What is done but has not taken effect everywhere, in words."""
    genomes, release = facts["genomes"], facts["release"]
    pending = []
    if genomes["built"] and genomes["built_epoch"] != genomes["schema_epoch"]:
        pending.append("the DNA schema or the profiles' namespaces changed since the last build")
    elif genomes["built"] and genomes["events_waiting"]:
        pending.append(f"{genomes['events_waiting']:,} events are not in the genomes yet")
    if release is not None:
        if release["changed_since"]:
            changed = " and ".join(release["changed_since"])
            pending.append(f"{changed} changed since release {release['version']}")
        if genomes["built"] and release["schema_epoch"] != genomes["built_epoch"]:
            pending.append("the genomes were built anew for a schema that no release has yet")
        if release["expires_in_days"] <= _SOON_DAYS:
            pending.append(
                f"release {release['version']} ends in {release['expires_in_days']} days"
            )
    return pending


def _next(facts: dict[str, Any]) -> str | None:
    """The one thing to do next."""
    counts, genomes, release = facts["counts"], facts["genomes"], facts["release"]
    if not any(counts.values()):
        return "nothing is imported yet: genome-server import products FILE"
    for kind in ("offers", "placements"):
        if not counts[kind]:
            return f"no {kind} yet: genome-server import {kind} FILE"
    stale = genomes["built_epoch"] != genomes["schema_epoch"]
    if stale and (counts["customers"] or facts["log"]["events"]):
        return "genomes are not built (anew): run genome-server build"
    if release is None:
        if facts["model"] is None:
            return "no model yet: run genome-server train, or publish --untrained without one"
        return "no release yet: run genome-server publish"
    if genomes["built"] and release["schema_epoch"] != genomes["built_epoch"]:
        return (
            f"devices get no genomes: release {release['version']} is of schema epoch "
            f"{release['schema_epoch']}, the genomes of {genomes['built_epoch']}: "
            "run genome-server publish"
        )
    if release["changed_since"] or release["expires_in_days"] <= _SOON_DAYS:
        return "devices do not have the newest yet: run genome-server publish"
    if not facts["devices"]["enrolled"]:
        return "no device yet: genome-server devices enrol --audience NAME --name NAME"
    return None


def _print(console: Console, facts: dict[str, Any]) -> None:
    genomes, release, devices = facts["genomes"], facts["release"], facts["devices"]
    log = facts["log"]
    kinds = ", ".join(
        f"{count:,} {name}" for name, count in log.items() if isinstance(count, int) and count
    )
    lines = {
        "tenant": f"{facts['tenant']} in {facts['home']}",
        **{name: f"{count:,}" for name, count in facts["counts"].items()},
        "vocabulary": f"{facts['vocabulary']:,} markers",
        "log": kinds or "empty",
        "outcomes": ", ".join(f"{n:,} {k}" for k, n in sorted(log["outcomes"].items())) or "none",
        "genomes": f"{genomes['count']:,} (schema epoch {genomes['built_epoch'] or 'none yet'})",
        "model": facts["model"]["id"] if facts["model"] else "none",
        "release": _spoken_release(release),
        "audiences": ", ".join(f"{n} ({size:,})" for n, size in facts["audiences"].items()),
        "devices": f"{devices['enrolled']:,} enrolled, "
        f"{devices['seen_today']:,} seen within a day, "
        f"{devices['revoked']:,} revoked, {devices['thin_clients']:,} thin clients",
    }
    for name, text in lines.items():
        console.print(f"{name:<12}{text}")
    for note in [*facts["pending"], *facts["loose_ends"]]:
        console.print(f"{'pending':<12}{note}")
    if not facts["learnt"] and facts["counts"]["products"] >= _WORTH_COUNTING:
        console.print(f"{'hint':<12}what is rare in the catalogue: genome-server dna learn")
    if facts["next"]:
        console.print(f"{'next':<12}{facts['next']}")


def _spoken_release(release: dict[str, Any] | None) -> str:
    if release is None:
        return "none"
    return f"{release['version']}, ends in {release['expires_in_days']} days"
