"""`genome-server genomes compare`: how alike two customers are, and why."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named
from genome_server.errors import Refused

_SHOWN = 10


@click.command("compare")
@click.argument("first")
@click.argument("second")
@source_option
@click.option(
    "--most", type=click.IntRange(1), default=_SHOWN, show_default=True,
    help="How many markers to show of each list; --json has all.",
)  # fmt: skip
@common_options
def command(console: Console, first: str, second: str, source: str, most: int) -> None:
    """Say how alike the customers FIRST and SECOND are, and which markers make it.

    The similarity is 1 where both genomes are the same and 0 where they share no marker; what the
    shared markers contribute adds up to it. A marker that only one has is listed with its share of
    that genome. Rare markers count for more than those that everybody has.
    """
    from genome_server.compare.distance import One, compare
    from genome_server.compare.neighbours_file import open_rarity
    from genome_server.compare.reading import read_some

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        subjects = []
        for customer, who in ((first, "first"), (second, "second")):
            subjects.append(subject_named(store, source, customer, f"the {who} customer"))
            agreed_to_be_shown(store, subjects[-1], f"the {who} customer")
        genomes = read_some(store, subjects)
        rows = [genomes.row_of(subject) for subject in subjects]
        for who, row in zip(("first", "second"), rows, strict=True):
            if row is None:
                raise Refused(f"the {who} customer has no genome yet; run: genome-server build")
        with console.progress("reading genomes") as advance:
            known = open_rarity(tenant, store, advance=advance)
        vocabulary = store.vocabulary()
    one, other = (One(*genomes.row(row)) for row in rows if row is not None)
    found = compare(one, other, known.rarity(len(vocabulary)))
    facts: dict[str, Any] = {
        "first": first,
        "second": second,
        "similarity": round(found.similarity, 6),
        "distance": round(found.distance, 6),
        "shared": [
            {
                "marker": vocabulary.name(one.marker),
                "contribution": round(one.contribution, 6),
                "first_strength": round(one.strength, 6),
                "second_strength": round(one.other_strength, 6),
            }
            for one in found.shared
        ],
        **{
            key: [
                {
                    "marker": vocabulary.name(one.marker),
                    "share": round(one.share, 6),
                    "strength": round(one.strength, 6),
                }
                for one in missing
            ]
            for key, missing in (
                ("only_first", found.only_first),
                ("only_second", found.only_second),
            )
        },
    }

    def render() -> None:
        console.print(f"similarity {found.similarity:.3f}, distance {found.distance:.3f}")
        console.print(f"\nboth, {len(found.shared)} markers")
        console.table(
            ("marker", "contributes", first, second),
            [
                (
                    one["marker"],
                    f"{one['contribution']:.3f}",
                    f"{one['first_strength']:.2f}",
                    f"{one['second_strength']:.2f}",
                )
                for one in facts["shared"][:most]
            ],
        )
        for key, customer in (("only_first", first), ("only_second", second)):
            console.print(f"\nonly {customer}, {len(facts[key])} markers")
            console.table(
                ("marker", "share of genome", "strength"),
                [
                    (one["marker"], f"{one['share']:.1%}", f"{one['strength']:.2f}")
                    for one in facts[key][:most]
                ],
            )

    console.result(facts, render)
