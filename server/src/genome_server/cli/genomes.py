"""`genome-server genomes`: look at genomes, compare them, group them, foresee what comes next.

Each command lives in a module of its own, `genomes_*.py`, whose `command` is the click command.
"""

from __future__ import annotations

import click

from genome_server.cli.lazy import Entry, LazyGroup

#: In the order in which a newcomer meets them.
COMMANDS: dict[str, Entry] = {
    "show": Entry("genomes_show", "Show the genome of one customer."),
    "compare": Entry("genomes_compare", "Say how alike two customers are, and why."),
    "similar": Entry("genomes_similar", "Find who is most like a customer."),
    "segments": Entry("genomes_segments", "Put customers into segments that explain themselves."),
    "best": Entry("genomes_best", "Show what the most valuable customers have."),
    "next": Entry("genomes_next", "Foresee what a customer does next, and when."),
    "regions": Entry("genomes_regions", "Show where what is wanted, as a table and a map."),
    "stock": Entry("genomes_stock", "Spread an inventory over stores by the genomes near them."),
}


@click.group("genomes", cls=LazyGroup, table=COMMANDS)
def command() -> None:
    """Look at genomes: show one, compare two, find who is alike, group, foresee.

    A genome is shown where the customer agreed to personalisation; what is said
    of groups counts those who agreed to learning.
    """
