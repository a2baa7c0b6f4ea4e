"""`genome-server genomes segments`: groups of customers that explain themselves."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import click

from genome_server.cli.output import Console, common_options
from genome_server.errors import Refused

_SHOWN = 4


@click.command("segments")
@click.option(
    "--count", type=click.IntRange(1, 100), default=8, show_default=True, help="At most so many."
)
@click.option("--anew", is_flag=True, help="Begin from nothing, not from the last segments.")
@click.option(
    "--least", type=click.IntRange(10), default=20, show_default=True,
    help="Fewest people that a segment has.",
)  # fmt: skip
@common_options
def command(console: Console, count: int, anew: bool, least: int) -> None:
    """Put customers into segments, and say what each has more than all.

    Made from the genomes of those who agreed to learning. Segments are kept, in place of the last
    ones: the next begin where these are, so they keep their number, name and, but for those who
    changed, their people. So --count 1, to try it, leaves nothing of the others to go on from;
    --anew then makes what the genomes say, under new numbers.
    """
    from genome_server.compare.reading import read_genomes
    from genome_server.compare.segments_kept import make_segments
    from genome_server.compare.telling import roughly, share

    with closing(console.tenant().open_store()) as store:
        with console.progress("reading genomes") as advance:
            genomes = read_genomes(store, advance=advance)
        made = make_segments(store, genomes, count, anew=anew, least=least)
        vocabulary = store.vocabulary()
    if not made.segments:
        raise Refused(f"fewer than {least} customers agreed to learning: no group is large enough")
    everybody, outside = sum(one.people for one in made.segments), roughly(made.outside)
    facts: dict[str, Any] = {
        "stayed": None if made.stayed is None else round(made.stayed, 2),
        "outside": outside,
        "gone": list(made.gone),
        "segments": [
            {
                "id": one.id,
                "name": one.name,
                "new": one.new,
                "people": roughly(one.people),
                "share": round(share(one.people, everybody), 6),
                "markers": [
                    {
                        "marker": vocabulary.name(trait.marker),
                        "share": round(trait.share, 6),
                        "share_of_all": round(trait.share_of_all, 6),
                        "lift": round(trait.lift, 4),
                    }
                    for trait in one.traits
                ],
            }
            for one in made.segments
        ],
    }

    def render() -> None:
        rows = []
        for one, fact in zip(made.segments, facts["segments"], strict=True):
            told = (
                f"{vocabulary.name(t.marker)} {t.share:.0%} (×{t.lift:.1f})"
                for t in one.traits[:_SHOWN]
            )
            name = f"{one.name} (new)" if one.new and made.stayed is not None else one.name
            people, of_all = f"{fact['people']:,}", f"{fact['share']:.0%}"
            rows.append((one.id, name, people, of_all, ", ".join(told)))
        console.table(("id", "name", "people", "share", "more than all"), rows)
        if made.stayed is not None:
            console.note(f"{made.stayed:.0%} of them are in the segment that they were in before")
        if made.gone:
            named = ", ".join(f"“{name}”" for name in made.gone)
            console.note(f"no longer kept, since nothing here goes on from them: {named}")
        if outside:
            console.note(f"about {outside:,} have no marker yet and are in none")

    console.result(facts, render)
