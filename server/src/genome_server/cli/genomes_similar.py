"""`genome-server genomes similar`: who is most like a customer."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named
from genome_server.errors import Refused

_WHY = 3


@click.command("similar")
@click.argument("customer")
@source_option
@click.option(
    "-k", "count", type=click.IntRange(1, 100), default=10, show_default=True, help="How many."
)
@common_options
def command(console: Console, customer: str, source: str, count: int) -> None:
    """Find the customers most like CUSTOMER, and what makes each alike.

    Looks in an index beside the store, which is made anew when genomes changed. Only those who
    agreed to personalisation are in it.
    """
    from genome_server.compare.distance import One, compare
    from genome_server.compare.neighbours_file import open_index

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        subject = subject_named(store, source, customer)
        agreed_to_be_shown(store, subject)
        with console.progress("making the index") as advance:
            index = open_index(tenant, store, advance=advance)
        row = index.row_of(subject)
        if row is None:
            raise Refused("this customer has no genome yet; run: genome-server build")
        found = index.similar(row, count)
        vocabulary = store.vocabulary()
        subjects = [index.subject(one) for one, _ in found]
        names: dict[bytes, list[str]] = {}
        for one, of, name in store.external_ids(subjects):
            names.setdefault(one, []).append(name if of == source else f"{of}/{name}")
    rarity = index.known.rarity(len(vocabulary))
    mine = One(*index.genome(row))
    similar: list[dict[str, Any]] = []
    for (other, similarity), one in zip(found, subjects, strict=True):
        why = compare(mine, One(*index.genome(other)), rarity).shared[:_WHY]
        similar.append(
            {
                "customer": sorted(names.get(one, [])),
                "subject": one.hex(),
                "similarity": round(similarity, 6),
                "shared": [vocabulary.name(shared.marker) for shared in why],
            }
        )

    def render() -> None:
        console.table(
            ("customer", "similarity", "above all"),
            [
                (
                    ", ".join(one["customer"]) or one["subject"],
                    f"{one['similarity']:.3f}",
                    ", ".join(one["shared"]),
                )
                for one in similar
            ],
        )
        if not similar:
            console.print("Nobody shares a marker with this customer.")

    console.result({"customer": customer, "of": len(index), "similar": similar}, render)
