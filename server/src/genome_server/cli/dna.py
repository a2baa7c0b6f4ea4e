"""`genome-server dna`: explain the DNA of things, and learn what is rare and what tells apart."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genome_server.genomes.distinct import Counted
    from genome_server.store.protocol import Store
    from genome_server.things.catalogue import Learnt
    from genome_server.things.dna import Part, Things

_KINDS = ("offer", "content", "place")
_SHOWN_NAMESPACES = 20
_SHOWN_MARKERS = 10


@click.group("dna")
def command() -> None:
    """Explain the DNA of products, offers, content and places; count what is rare in it."""


@command.command("show")
@click.argument("thing", required=False)
@click.option("--text", help="Try a text instead, as the title of a product.")
@common_options
def show(console: Console, thing: str | None, text: str | None) -> None:
    """Explain the DNA of THING: a product's id, or offer:ID, content:ID, place:ID.

    Says of each marker which field it is from, which rule found it in which words, how many
    products have it, and its salience before and after that was weighed. Goes by what is
    imported and by dna.yaml as they are now; genomes go by it after the next build.

    \b
    genome-server dna show p-espresso
    genome-server dna show --text "ICE - CRUSHED/CUBED, 22 LB"
    """
    from genome_server.dna_file import read_things
    from genome_server.things.kept import things_under

    if (thing is None) == (text is None):
        raise UsageError("name one thing, such as p-1 or offer:taxi; or give a --text")
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        things = things_under(store, read_things(tenant.dna_path))
        if text is not None:
            kind, name, parts = "text", text, things.text(text)
        else:
            kind, name = _which(store, str(thing))
            document = store.document(kind, name)
            assert document is not None  # of `_which`
            parts = things.explain(kind, document)
        current = _is_built(store, things)

    def render() -> None:
        console.print(f"{kind} {name}")
        _print_parts(console, parts)
        if not current:
            console.note("note: the genomes go by other rules; run: genome-server build")

    data = {"kind": kind, "id": name, "built": current, "dna": [_as_json(part) for part in parts]}
    console.result(data, render)


@command.command("learn")
@click.option("--dry-run", is_flag=True, help="Say what would be learnt; keep nothing.")
@click.option("--forget", is_flag=True, help="Weigh nothing by rarity any more.")
@common_options
def learn(console: Console, *, dry_run: bool, forget: bool) -> None:
    """Learn from the products that are imported which markers tell them apart.

    What many products have counts less in DNA, and what too few have is left out; the section
    `rarity` of dna.yaml says how. Takes effect with the next build, which begins a new epoch, and
    then with the next release. Learn again when the catalogue has changed a lot.
    """
    from genome_server.dna_file import read_things
    from genome_server.things.catalogue import learn_catalogue
    from genome_server.things.kept import keep_learnt, learnt

    if dry_run and forget:
        raise UsageError("--dry-run and --forget exclude each other")
    tenant = console.tenant()
    settings = read_things(tenant.dna_path) if tenant.exists else None
    with closing(tenant.open_store()) as store:
        before = learnt(store)
        if forget:
            keep_learnt(store, None)
            data = {"forgotten": before is not None}
            said = "forgotten" if before else "nothing was learnt before"
            console.result(data, lambda: _print_next(console, said, changed=before is not None))
            return
        assert settings is not None  # there is a tenant: its store is open
        total = store.document_count("product")
        if not total:
            raise Refused("there are no products; run: genome-server import products FILE")
        with console.progress("Products", total) as advance:
            found = learn_catalogue(store, settings, lambda: advance(1))
        changed = before is None or before.digest != found.counts.digest
        if changed and not dry_run:
            keep_learnt(store, found.counts)

    def render() -> None:
        _print_learnt(console, found)
        said = "nothing was kept" if dry_run else "kept" if changed else "nothing has changed"
        _print_next(console, said, changed=changed and not dry_run)

    console.result(
        {
            "products": found.counts.products,
            "markers": len(found.counts.markers),
            "left_out": found.left_out,
            "brands": len(found.counts.brands),
            "changed": changed,
            "kept": changed and not dry_run,
            "namespaces": {name: vars(one) for name, one in found.namespaces.items()},
        },
        render,
    )


@command.command("count")
@click.option("--dry-run", is_flag=True, help="Say what would be counted; keep nothing.")
@click.option("--forget", is_flag=True, help="Let the strongest markers stay again.")
@common_options
def count(console: Console, *, dry_run: bool, forget: bool) -> None:
    """Count which markers tell customers apart, so that devices see those.

    A device sees some of a customer's markers. The strongest are often what everybody has; after
    this command those of few interactions go before them. It reads the log, and counts what those
    did who agreed to learning. Takes effect with the next build, which begins a new epoch, and
    then with the next release. Count again when a lot has happened since.
    """
    from genome_server.cli.build import log_of
    from genome_server.dna_file import load_schema
    from genome_server.genomes.distinct import table
    from genome_server.genomes.distinct_count import count as count_log
    from genome_server.genomes.distinct_kept import NOTHING, Kept, keep, kept

    if dry_run and forget:
        raise UsageError("--dry-run and --forget exclude each other")
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        before = kept(store)
        if forget:
            keep(store, NOTHING)
            said = "nothing was counted before" if before == NOTHING else "forgotten"
            console.result(
                {"forgotten": before != NOTHING},
                lambda: _print_next(console, said, changed=before != NOTHING),
            )
            return
        with log_of(tenant, store) as log:
            if log is None:
                raise Refused("nothing happened yet; run: genome-server import interactions FILE")
            schema = load_schema(tenant.dna_path, store)
            with console.progress("Reading the log", log.end()) as advance:
                found = count_log(store, log, schema, tenant.dna_path.parent, advance)
        _check_enough(found)
        made = Kept(found.interactions, table(found))
        changed = made.table != before.table
        if changed and not dry_run:
            keep(store, made)
        names = list(store.vocabulary())
    # By now the server may have met more markers than were counted.
    common = sorted((-n, names[i]) for i, n in enumerate(found.markers.tolist()) if n)
    shares = [(name, -n / found.interactions) for n, name in common[:_SHOWN_MARKERS]]

    def render() -> None:
        console.print(
            f"{found.interactions:,} interactions imprint {len(common):,} markers; "
            "what many of them do gives way:"
        )
        console.table(("marker", "of interactions"), [(n, f"{s:.1%}") for n, s in shares])
        said = "nothing was kept" if dry_run else "kept" if changed else "nothing has changed"
        _print_next(console, said, changed=changed and not dry_run)

    console.result(
        {
            "interactions": found.interactions,
            "markers": len(common),
            "changed": changed,
            "kept": changed and not dry_run,
            "most": dict(shares),
        },
        render,
    )


def _check_enough(found: Counted) -> None:
    from genome_server.genomes.distinct import FEWEST, FEWEST_PEOPLE

    if found.interactions < FEWEST or found.people < FEWEST_PEOPLE:
        raise Refused(
            f"too little to count: at least {FEWEST:,} interactions of {FEWEST_PEOPLE} customers "
            "who agreed to learning are needed. The strongest markers stay meanwhile"
        )


def _which(store: Store, thing: str) -> tuple[str, str]:
    """The kind and the id of a thing. Raises Refused where there is none."""
    from genome_server.ingest.nearest import KnownIds

    if store.document("product", thing) is not None:
        return "product", thing
    kind, colon, name = thing.partition(":")
    if not colon or kind not in (*_KINDS, "product"):
        kind, name = "product", thing
    if store.document(kind, name) is None:
        known = KnownIds(kind, (one for one, _ in store.documents(kind)))
        raise Refused(known.unknown(name))
    return kind, name


def _is_built(store: Store, things: Things) -> bool:
    """Whether the genomes in the store go by the same DNA of things, or there are none yet."""
    from genome_server.genomes.rows import built_schema
    from genome_server.things.kept import things_of

    schema = built_schema(store)
    return schema is None or things_of(store, schema.epoch).digest() == things.digest()


def _print_parts(console: Console, parts: Sequence[Part]) -> None:
    if not parts:
        console.print("it has no DNA")
        return
    rows = []
    for part in parts:
        found = part.rule if part.rule == "declared" else f"{part.rule} {part.said!r}".strip()
        rows.append(
            (
                part.marker,
                f"{part.before_q8 / 256:.3f}",
                f"{part.salience_q8 / 256:.3f}" if part.salience_q8 else "left out",
                part.field,
                found if part.said or part.rule == "declared" else part.rule,
                "" if part.products is None else f"{part.products:,}",
            )
        )
    console.table(("marker", "salience", "weighed", "field", "rule", "products"), rows)


def _as_json(part: Part) -> dict[str, Any]:
    return {
        "marker": part.marker,
        "salience": part.before_q8 / 256,
        "weighed": part.salience_q8 / 256,
        "kept": part.salience_q8 > 0,
        "field": part.field,
        "rule": part.rule,
        "said": part.said,
        "products": part.products,
    }


def _print_learnt(console: Console, found: Learnt) -> None:
    counts = found.counts
    console.print(
        f"{counts.products:,} products have {len(counts.markers):,} markers; {found.left_out:,} "
        f"are left out, {len(counts.markers) - found.left_out:,} stay"
    )
    shown = list(found.namespaces.items())[:_SHOWN_NAMESPACES]
    rows = [
        (name, f"{one.products / counts.products:.1%}", f"{one.markers:,}", f"{one.left_out:,}")
        for name, one in shown
    ]
    console.table(("namespace", "of products", "markers", "left out"), rows)
    if len(found.namespaces) > len(shown):
        console.print(f"and {len(found.namespaces) - len(shown)} namespaces more")


def _print_next(console: Console, said: str, *, changed: bool) -> None:
    console.print(f"{said}; next: genome-server build" if changed else said)
