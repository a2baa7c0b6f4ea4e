"""One question about a campaign, from the log to the answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from genome_server.doings.categories import strongest
from genome_server.doings.money import money_kinds
from genome_server.errors import Refused, UsageError
from genome_server.genomes.consents import tells_home
from genome_server.genomes.rows import needed_schema
from genome_server.lift.campaigns import (
    Campaign,
    arms_of,
    find_campaign,
    find_experiment,
    kinds_of,
)
from genome_server.lift.estimates import ERROR, Contrast, Interval
from genome_server.lift.judging import Outcome, Verdict, judge
from genome_server.lift.needs import Due
from genome_server.lift.reading import Asked, Told, read
from genome_server.lift.rules import BASE, Rows
from genome_server.log.reader import LogReader
from genome_server.times import DAY_MS

if TYPE_CHECKING:
    from genome_server.home import Tenant
    from genome_server.store.protocol import Store

EFFECT: Final = 0.1
"""The lift for which a day is told, where nobody says another."""
#: Of an arm that nobody is known to have drawn.
_NO_GROUP: Final = -1

Advance = Callable[..., None]
Progress = Callable[[str], AbstractContextManager[Advance]]


@dataclass(frozen=True)
class Question:
    """What is asked. `kinds` empty: see `campaigns.kinds_of`; `days` None: the
    placement's window, or a week. `by` is a namespace of markers; with `own_products` only what
    was done with the products that the offers name counts. Times in Unix milliseconds."""

    campaign: str
    kinds: tuple[str, ...] = ()
    days: float | None = None
    since_ms: int = 0
    until_ms: int | None = None
    effect: float = EFFECT
    by: str | None = None
    own_products: bool = False


@dataclass(frozen=True)
class Answer:
    """What is said, of what, as of when (Unix ms). `first_ms` is when the first person entered;
    the intervals of `among` answers hold together."""

    question: Question
    campaign: Campaign
    kinds: tuple[str, ...]
    window_ms: int
    first_ms: int
    as_of_ms: int
    verdict: Verdict
    money: bool
    currency: str
    elsewhere: int
    newest_ms: int
    outcomes: int
    older: int
    without_consent: int
    later: int
    among: int = 1

    def to_json(self) -> dict[str, Any]:
        """What --json prints."""
        verdict = self.verdict
        one, base = ("arm", "base") if self.campaign.experiment else ("shown", "held_out")
        return {
            "campaign": {"kind": self.campaign.kind, "name": self.campaign.name},
            "experiment": self.campaign.experiment,
            "among": self.among,
            "kinds": list(self.kinds),
            "window_days": self.window_ms / DAY_MS,
            "first_ms": self.first_ms,
            "as_of_ms": self.as_of_ms,
            "currency": self.currency,
            one: asdict(verdict.shown),
            base: asdict(verdict.held),
            "outcomes": {told.name: _outcome(told, one, base) for told in verdict.outcomes},
            "fair": verdict.fair,
            "balance": [{**said._asdict(), "fair": said.fair} for said in verdict.balances],
            "segments": _segments(verdict, one, base),
            "under_way": verdict.under_way,
            "first_over_ms": verdict.first_over_ms,
            "per_day": verdict.per_day,
            "left_out": {
                "without_consent": self.without_consent,
                "met_it_later": self.later,
                "decisions_of_older_devices": self.older,
                "one_sided": verdict.one_sided,
                "outcomes": self.outcomes,
                "other_currencies": self.elsewhere,
            },
            "met_both": verdict.both,
            "met_earlier": verdict.earlier,
            "redrawn": verdict.redrawn,
        }


def ask(
    tenant: Tenant, store: Store, question: Question, now_ms: int, progress: Progress
) -> Answer:
    """Answer a question as of `now_ms` or, where it says one, an earlier moment (Unix ms).

    Raises UsageError for what is not known, Refused where there is nothing to compare, and
    LogFormatError.
    """
    offers = dict(store.documents("offer"))
    campaign = find_campaign(question.campaign, dict(store.documents("placement")), offers)
    if not any(one.share > 0 for one in campaign.placements) and question.until_ms is None:
        what = campaign if campaign.kind == "placement" else "no placement"
        raise Refused(
            f"{what} holds {'nobody' if what is campaign else 'anybody'} out: state `holdout` in "
            "its document and publish; of a hold-out that has ended, say --until when it did"
        )
    heard = _hear(tenant, store, question, campaign, now_ms, progress)
    return _answer(question, campaign, heard, heard.told.rows, heard.segments)


def ask_arms(
    tenant: Tenant, store: Store, question: Question, now_ms: int, progress: Progress
) -> list[Answer]:
    """Answer a question about each arm of a placement, compared with those who stay with it. The
    intervals of all arms hold together. Raises like `ask`."""
    placements = dict(store.documents("placement"))
    experiment = find_experiment(question.campaign, placements)
    if not experiment.placements and question.until_ms is None:
        raise Refused(
            f"{experiment} has no arms: state `experiment` in its document and publish; of an "
            "experiment that has ended, say --until when it did"
        )
    if experiment.placements and not any(one.share > 0 for one in experiment.placements):
        raise Refused(
            f"nobody stays with {experiment}, so there is nothing to compare its arms with: let "
            "their shares come to less than 1"
        )
    heard = _hear(tenant, store, question, experiment, now_ms, progress)
    arms = arms_of(experiment, heard.told.groups)
    group, answers = heard.told.rows.entered.group, []
    for arm in arms:
        inside = (group == heard.told.groups.get(arm.name, _NO_GROUP)) | (group == BASE)
        names = None
        if heard.segments is not None:
            names = [one for one, kept in zip(heard.segments, inside.tolist(), strict=True) if kept]
        rows = heard.told.rows.only(inside)
        answers.append(_answer(question, arm, heard, rows, names, among=len(arms)))
    return answers


@dataclass(frozen=True, eq=False)
class _Heard:
    """What a log tells, as of when (Unix ms); `segments` has that of each person, if asked for."""

    told: Told
    kinds: tuple[str, ...]
    money: bool
    as_of_ms: int
    segments: list[str | None] | None


def _hear(
    tenant: Tenant,
    store: Store,
    question: Question,
    campaign: Campaign,
    now_ms: int,
    progress: Progress,
) -> _Heard:
    schema = needed_schema(store)
    kinds = kinds_of(question.kinds, campaign, schema)
    paid = money_kinds(schema)
    asked = Asked(
        campaign=campaign,
        kinds=frozenset(kinds),
        paid=paid,
        window_ms=None if question.days is None else round(question.days * DAY_MS),
        since_ms=question.since_ms,
        until_ms=question.until_ms,
        products=_products(campaign, store) if question.own_products else None,
    )
    if not tenant.log_path.exists():
        raise Refused("nothing has happened yet: there is no log")
    with LogReader(tenant.log_path) as log, progress("Reading the log") as advance:
        told = read(log, store, schema, asked, advance)
    segments = None if question.by is None else _segments_of(store, told.rows, question.by)
    as_of_ms = min(now_ms, told.as_of_ms)
    return _Heard(told, kinds, not paid.isdisjoint(kinds), as_of_ms, segments)


def _answer(
    question: Question,
    campaign: Campaign,
    heard: _Heard,
    rows: Rows,
    segments: list[str | None] | None,
    *,
    among: int = 1,
) -> Answer:
    """What is said of some of the persons; `among` answers hold together."""
    told = heard.told
    verdict = judge(
        rows,
        campaign,
        heard.as_of_ms,
        effect=question.effect,
        money=heard.money,
        by=(question.by, segments) if question.by is not None and segments is not None else None,
        error=ERROR / among,
    )
    return Answer(
        question=question,
        campaign=campaign,
        kinds=heard.kinds,
        window_ms=rows.window_ms,
        first_ms=int(told.rows.entered.at_ms[0]),
        as_of_ms=heard.as_of_ms,
        verdict=verdict,
        money=heard.money,
        among=among,
        currency=rows.currency,
        elsewhere=rows.elsewhere,
        newest_ms=rows.newest_ms,
        outcomes=rows.outcomes,
        older=told.older,
        without_consent=rows.entered.left_out.without_consent,
        later=rows.entered.left_out.later,
    )


def _products(campaign: Campaign, store: Store) -> frozenset[str]:
    found = frozenset(
        product
        for name, document in store.documents("offer")
        if campaign.offers is None or name in campaign.offers
        for product in document.get("products") or ()
    )
    if not found:
        raise Refused(f"no offer of {campaign} names `products`; leave out --own-products")
    return found


def _segments_of(store: Store, rows: Rows, namespace: str) -> list[str | None]:
    """What the profile of each person states under a namespace, by all ids that count."""
    if tells_home(f"{namespace}:"):
        raise UsageError(f"where somebody lives is no segment: --by {namespace}")
    ids = {one for ids in rows.entered.ids for one in ids}
    facts = {row.subject: row.markers for row in store.customers(ids)}
    found = [
        strongest([fact for one in sorted(ids) for fact in facts.get(one, ())], namespace)
        for ids in rows.entered.ids
    ]
    if not any(found):
        raise Refused(f"no profile of those who are compared has a marker {namespace}:…")
    return found


def _outcome(one: Outcome, shown: str, held: str) -> dict[str, Any]:
    contrast: Contrast = one.contrast

    def due(when: Due | None) -> dict[str, Any] | None:
        return None if when is None else when._asdict()

    def limits(interval: Interval | None) -> list[float | None] | None:
        if interval is None:
            return None
        return [interval.low, interval.high if interval.high < float("inf") else None]

    return {
        shown: contrast.shown,
        held: contrast.held,
        "difference": contrast.difference,
        "planned": limits(contrast.planned),
        "always": limits(contrast.always),
        "lift": contrast.lift,
        "lift_planned": limits(contrast.lift_planned),
        "lift_always": limits(contrast.lift_always),
        "sure": contrast.sure,
        "due": {"stated": due(one.stated), "seen": due(one.seen)},
    }


def _segments(verdict: Verdict, shown: str, held: str) -> dict[str, Any] | None:
    found = verdict.segments
    if found is None:
        return None
    return {
        "namespace": found.namespace,
        "chance_if_alike": found.differ,
        "segments": [
            {
                "name": one.name,
                shown: one.shown,
                held: one.held,
                "difference": one.contrast.difference,
                "always_together": list(one.contrast.always),
                "guess": one.guess,
            }
            for one in found.segments
        ],
    }
