"""`genome-server uplift`: whom showing helps, learned from who is held out."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.cli.whose import agreed_to_be_shown, source_option, subject_named

if TYPE_CHECKING:
    from genome_server.value.moved import Moved
    from genome_server.value.uplift import ByMarker, Measured

_MARKERS: Final = 10


class Moment(click.ParamType[int]):
    """A date or time, as Unix milliseconds; UTC unless it says otherwise."""

    name = "time"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read a date such as 2026-06-01, or a time."""
        if isinstance(value, int):
            return value
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date or time such as 2026-06-01T08:00", param, ctx)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        return int(when.timestamp() * 1000)


@click.command("uplift")
@click.argument("campaign")
@click.option("--kind", "kinds", multiple=True, help="What counts.  [default: all successes]")
@click.option(
    "--of", "measure", type=click.Choice(["customers", "amount"]), default="customers",
    show_default=True, help="How many do it, or for how much money each.",
)  # fmt: skip
@click.option(
    "--days", type=click.FloatRange(0, 366, min_open=True),
    help="For so long from the first decision on.  [default: outcome_window_hours, or 7]",
)  # fmt: skip
@click.option("--since", type=Moment(), help="When the hold-out began, or was changed last.")
@click.option("--until", type=Moment(), help="As of this time; later events do not count.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws whom is learned from.")
@click.option("--customer", help="What showing does to this customer.")
@source_option
@common_options
def command(
    console: Console,
    campaign: str,
    kinds: tuple[str, ...],
    measure: str,
    days: float | None,
    since: int | None,
    until: int | None,
    seed: int,
    customer: str | None,
    source: str,
) -> None:
    """Say whom CAMPAIGN helps: a placement with a hold-out, an offer, a campaign of offers.

    Learned from who was shown something and who was held out, by their genomes as they were before,
    and judged on customers that were not learned from. Where the order that is learned is no
    better than none, nothing is said of anybody, and it ends with 1.
    """
    from genome_server.value.moved import Question, ask, expected

    question = Question(campaign, kinds, days, since or 0, until, measure, seed)
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        subject = None
        if customer is not None:
            subject = subject_named(store, source, customer)
            agreed_to_be_shown(store, subject)
        now_ms = time.time_ns() // 1_000_000
        moved = ask(tenant, store, question, now_ms, console.progress)
        data = _json(moved)
        if subject is not None and moved.sure:
            data["customer"] = {"id": customer, "expected": expected(store, moved, subject, now_ms)}
    console.result(data, lambda: _print(console, moved, data.get("customer")))
    if not moved.sure:
        raise click.exceptions.Exit(EXIT_REFUSED)


def _json(moved: Moved) -> dict[str, Any]:
    found = moved.uplift
    data: dict[str, Any] = {
        "campaign": {"kind": moved.campaign.kind, "name": moved.campaign.name},
        "kinds": list(moved.kinds),
        "of": moved.question.measure,
        "currency": moved.currency,
        "window_days": moved.window_ms / 86_400_000,
        "shown": moved.shown,
        "held_out": moved.held,
        "sure": moved.sure,
    }
    if found is None:
        return data
    data["all"] = vars(found.all)
    data["qini"] = {
        "area": found.area,
        "low": found.low,
        "high": found.high,
        "curve": found.curve.tolist(),
    }
    if moved.sure:
        name = moved.vocabulary.name
        data["fifths"] = [vars(one) for one in found.fifths]
        data["markers"] = [
            {
                "marker": name(one.marker),
                "having": vars(one.having),
                "others": vars(one.others),
                "low": one.low,
                "high": one.high,
            }
            for one in found.markers
        ]
        data["none_of"] = [name(one.marker) for one in found.markers if one.unmoved]
    return data


def _print(console: Console, moved: Moved, customer: dict[str, Any] | None) -> None:
    from genome_server.value.uplift import LEAST_OF_EACH, LEAST_WITH

    found = moved.uplift
    console.print(f"{moved.campaign}: {moved.shown:,} customers shown, {moved.held:,} held out.")
    if found is None:
        console.print(
            f"Whom showing helps cannot be told: it takes {LEAST_OF_EACH:,} of either group, and "
            f"markers that {LEAST_WITH:,} of them have and {LEAST_WITH:,} have not."
        )
        return

    def said(one: Measured) -> tuple[str, ...]:
        return f"{one.persons:,}", *(_amount(moved, v) for v in (one.difference, one.low, one.high))

    told = said(found.all)
    console.print(f"Showing makes a difference of {told[1]} ({told[2]} to {told[3]}) to each.")
    area = [_amount(moved, value) for value in (found.area, found.low, found.high)]
    if not moved.sure:
        console.print(
            "Whom it helps more than others cannot be told: an order by genomes is no better than "
            f"none (area of the Qini curve {area[0]}, {area[1]} to {area[2]}). Show it to all, or "
            "to nobody; with more customers ask again."
        )
        return
    console.print(
        f"It can be told whom: the area of the Qini curve is {area[0]} ({area[1]} to {area[2]})."
    )
    console.print()
    names = ("most", "2nd", "3rd", "4th", "least")
    rows = [(name, *said(one)) for name, one in zip(names, found.fifths, strict=True)]
    console.table(("fifth that it helps", "customers", "difference", "from", "to"), rows)
    console.print()
    rows = [_row(moved, one) for one in found.markers[:_MARKERS]]
    console.table(("marker", "customers", "having it", "others", "apart from", "to"), rows)
    unmoved = [moved.vocabulary.name(one.marker) for one in found.markers if one.unmoved]
    if unmoved:
        console.print()
        console.print(
            f"It does not help who has {', '.join(unmoved)}. To leave them out, say so in the "
            f"offers: none_of: [{', '.join(unmoved)}]"
        )
    if customer is not None:
        value = customer["expected"]
        console.print(
            "\nThis customer has no genome."
            if value is None
            else f"\nFor this customer {_amount(moved, value)} is expected."
        )


def _row(moved: Moved, one: ByMarker) -> tuple[str, ...]:
    values = (one.having.difference, one.others.difference, one.low, one.high)
    name = moved.vocabulary.name(one.marker)
    return name, f"{one.having.persons:,}", *(_amount(moved, value) for value in values)


def _amount(moved: Moved, value: float) -> str:
    if moved.question.measure == "amount":
        return f"{value:+,.3f} {moved.currency}".rstrip()
    return f"{value:+.2%}"
