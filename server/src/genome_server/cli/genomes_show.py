"""`genome-server genomes show`: the genome of one customer, in words or as a page."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named
from genome_server.derived import NAMESPACE
from genome_server.errors import Refused

if TYPE_CHECKING:
    from genome_server.compare.matrix import Genomes
    from genome_server.compare.neighbours_file import Known
    from genome_server.store.protocol import Store


@click.command("show")
@click.argument("customer")
@source_option
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page about it to this file, for people.",
)  # fmt: skip
@common_options
def command(console: Console, customer: str, source: str, page: Path | None) -> None:
    """Show the genome of CUSTOMER: markers by namespace, with strengths, and as of when.

    A strength is what the marker has now, that is, at the hour of the customer's newest
    interaction: what was done, the more recent the more. Shown are the strongest, as many as a
    row has places for (`max_markers` in dna.yaml); the server keeps all.
    """
    from genome_server.compare.neighbours_file import open_rarity
    from genome_server.compare.reading import read_some
    from genome_server.pages import write_private

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        subject = subject_named(store, source, customer)
        agreed_to_be_shown(store, subject)
        with store.snapshot():
            genomes = read_some(store, [subject])
            everything = read_some(store, [subject], hour=genomes.hour, whole=True)
        row = genomes.row_of(subject)
        if row is None:
            raise Refused("this customer has no genome yet; run: genome-server build")
        facts = _facts(store, genomes, row, len(everything.row(row)[0]))
        if page is not None:
            with console.progress("reading genomes") as advance:
                known = open_rarity(tenant, store, advance=advance)
            text = _page(store, genomes, row, known, customer)
            write_private(page, text)
            facts["page"] = str(page)

    def render() -> None:
        shown, in_all = sum(map(len, facts["markers"].values())), facts["of"]
        console.print(f"as of {facts['as_of']}, {_spoken(shown, in_all)}")
        for namespace, markers in facts["markers"].items():
            derived = "  (derived by the last build)" if namespace == NAMESPACE else ""
            console.print(f"{namespace}{derived}")
            for value, strength in markers.items():
                console.print(f"  {strength:8.3f}  {value}")
        if page is not None:
            console.note(f"page: {page}")

    console.result({"customer": customer, **facts}, render)


def _spoken(shown: int, in_all: int) -> str:
    """How many markers are shown of how many that there are, in words."""
    if shown == in_all:
        return f"all {in_all} markers"
    return f"{shown} of {in_all} markers: the strongest that a row has places for"


def _facts(store: Store, genomes: Genomes, row: int, in_all: int) -> dict[str, Any]:
    vocabulary = store.vocabulary()
    markers, strengths = genomes.row(row)
    told = [
        (*vocabulary.name(marker).split(":", 1), strength)
        for marker, strength in zip(markers.tolist(), strengths.tolist(), strict=True)
    ]
    told.sort(key=lambda fact: (fact[0], -fact[2], fact[1]))
    as_of = dt.datetime.fromtimestamp(genomes.hour * 3600, tz=dt.UTC)
    return {
        "as_of": as_of.isoformat(timespec="minutes"),
        "of": in_all,
        "markers": {
            namespace: {value: round(strength, 6) for _, value, strength in facts}
            for namespace, facts in groupby(told, key=lambda fact: fact[0])
        },
    }


def _page(store: Store, genomes: Genomes, row: int, known: Known, customer: str) -> str:
    import numpy as np

    from genome_server.compare.matrix import weigh
    from genome_server.compare.page import Fact, Picture, page_of
    from genome_server.compare.segments import LEAST_PEOPLE
    from genome_server.compare.segments_kept import segment_of
    from genome_server.compare.telling import share

    vocabulary = store.vocabulary()
    markers, strengths = genomes.row(row)
    size = len(vocabulary)
    weights = weigh(np.array([0, len(markers)]), markers, strengths, known.rarity(size))
    counts = known.counts(size)[markers]
    told = []
    for marker, strength, weight, count in zip(
        markers.tolist(), strengths.tolist(), weights.tolist(), counts.tolist(), strict=True
    ):
        namespace, value = vocabulary.name(marker).split(":", 1)
        common = share(count, known.people) if count >= LEAST_PEOPLE else None
        told.append(Fact(namespace, value, strength, weight * weight, common))
    name = segment_of(store, markers, weights)
    as_of = dt.datetime.fromtimestamp(genomes.hour * 3600, tz=dt.UTC).strftime(
        "%d %B %Y, %H:%M UTC"
    )
    notes = [f"Belongs to the segment “{name}”."] if name is not None else []
    return page_of(Picture(f"Genome of {customer}", as_of, told, notes))
