"""Whom showing a campaign helps: from the log to what is said. A shell round `uplift`.

The persons and what they did are those of `lift`: by their first decision, drawn by a hash. What is
known of a person is the genome of the id that entered, as it was just before that decision: its
profile, and what it had done. Ids that were linked to it are left aside, because who redeems
something is linked by it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edge_sdk.dna.genome import Genome
from edge_sdk.dna.imprint import hour_of
from genome_server.doings.money import money_kinds
from genome_server.doings.reading import DONE, doings, frames_of
from genome_server.errors import Refused, UsageError
from genome_server.genomes.events import Imprint
from genome_server.genomes.rows import Profiles, needed_schema, row_of
from genome_server.learning.history import History, PastImprint
from genome_server.learning.job import sources_of
from genome_server.learning.survey import event_reader
from genome_server.lift.balance import balance
from genome_server.lift.campaigns import Campaign, find_campaign, kinds_of
from genome_server.lift.reading import Asked, read
from genome_server.log.reader import LogReader
from genome_server.times import DAY_MS
from genome_server.value.uplift import Flags, People, Uplift, learn

if TYPE_CHECKING:
    from edge_sdk.dna.markers import Vocabulary
    from edge_sdk.dna.schema import DnaSchema
    from genome_server.home import Tenant
    from genome_server.lift.rules import Rows
    from genome_server.store.protocol import Store

MEASURES: Final = ("customers", "amount")
"""What is compared: the share of persons who did it, or the money by person."""

Progress = Callable[[str], AbstractContextManager[Callable[..., None]]]


@dataclass(frozen=True)
class Question:
    """What is asked. `kinds` empty: all successes; `days` None: the campaign's window. Times are
    Unix milliseconds, `measure` is one of `MEASURES`; `seed` draws the parts."""

    campaign: str
    kinds: tuple[str, ...] = ()
    days: float | None = None
    since_ms: int = 0
    until_ms: int | None = None
    measure: str = "customers"
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Moved:
    """What is said of a campaign's persons. `uplift` None: too few, or nothing is known of them;
    `shown` and `held` count those whose window is over."""

    question: Question
    campaign: Campaign
    kinds: tuple[str, ...]
    window_ms: int
    shown: int
    held: int
    currency: str
    uplift: Uplift | None
    vocabulary: Vocabulary

    @property
    def sure(self) -> bool:
        """Whether it can be said whom showing helps."""
        return self.uplift is not None and self.uplift.sure


def ask(tenant: Tenant, store: Store, question: Question, now_ms: int, progress: Progress) -> Moved:
    """Answer as of `now_ms` (Unix ms) or the moment that is asked about.

    Raises UsageError for what is not known, Refused where there is nothing to compare or the groups
    are no fair draw, and LogFormatError.
    """
    schema = needed_schema(store)
    campaign = find_campaign(
        question.campaign, dict(store.documents("placement")), dict(store.documents("offer"))
    )
    kinds, paid = kinds_of(question.kinds, campaign, schema), money_kinds(schema)
    if question.measure == "amount" and paid.isdisjoint(kinds):
        raise UsageError(f"no money counts in {', '.join(kinds)}: leave out --of amount")
    if not tenant.log_path.exists():
        raise Refused("nothing has happened yet: there is no log")
    asked = Asked(
        campaign=campaign,
        kinds=frozenset(kinds),
        paid=paid,
        window_ms=campaign.window_ms if question.days is None else round(question.days * DAY_MS),
        since_ms=question.since_ms,
        until_ms=question.until_ms,
    )
    vocabulary = store.vocabulary()
    with LogReader(tenant.log_path) as log:
        with progress("Reading the log") as advance:
            told = read(log, store, schema, asked, advance)
        keep = told.rows.over(min(now_ms, told.as_of_ms)) & _both(told.rows)
        _check_balance(told.rows, campaign)
        with progress("Reading what they had done") as advance:
            people = _people(store, log, schema, vocabulary, told.rows, keep, question, advance)
    return Moved(
        question=question,
        campaign=campaign,
        kinds=kinds,
        window_ms=told.rows.window_ms,
        shown=int((~people.held).sum()),
        held=int(people.held.sum()),
        currency=told.rows.currency,
        uplift=learn(people, question.seed) if len(people) else None,
        vocabulary=vocabulary,
    )


def expected(store: Store, moved: Moved, subject: bytes, now_ms: int) -> float | None:
    """The difference that showing is expected to make to a customer, by the genome as it is now;
    None where there is none. Raises Refused where nothing can be said of anybody, and for a genome
    of another schema."""
    if moved.uplift is None or not moved.sure:
        raise Refused("it cannot be told whom showing helps: nothing is said of anybody")
    record, schema = store.genome(subject), needed_schema(store)
    if record is None:
        return None
    if record.epoch != schema.epoch:
        raise Refused("genomes are of another DNA schema: run genome-server build")
    genome = Genome(row_of(record), schema, moved.vocabulary)
    index, weight = genome.features(hour_of(now_ms))
    bag = list(zip(index.tolist(), weight.tolist(), strict=True))
    return float(moved.uplift.of(People.of([bag]))[0])


def _both(rows: Rows) -> Flags:
    """Who entered where both groups have somebody, bool[n]."""
    entered = rows.entered
    found = np.zeros(len(entered), bool)
    for placement in np.unique(entered.placement):
        inside = entered.placement == placement
        held = entered.held[inside]
        found[inside] = held.any() and not held.all()
    return found


def _check_balance(rows: Rows, campaign: Campaign) -> None:
    """Raises Refused where the groups cannot be what was drawn."""
    for number in np.unique(rows.entered.placement).tolist():
        placement = campaign.placements[number]
        if not 0 < placement.share < 1:
            continue
        inside = rows.entered.placement == number
        held = int(rows.entered.held[inside].sum())
        found = balance(placement.id, int(inside.sum()), held, placement.share)
        if not found.fair:
            raise Refused(
                f"{held:,} of {int(inside.sum()):,} are held out in {placement.id}, and not "
                f"{placement.share:.1%}: no fair draw; see genome-server lift {placement.id}"
            )


def _people(
    store: Store,
    log: LogReader,
    schema: DnaSchema,
    vocabulary: Vocabulary,
    rows: Rows,
    keep: Flags,
    question: Question,
    advance: Callable[..., None],
) -> People:
    """Those who are kept, with their genomes as they were when they entered."""
    entered = rows.entered
    numbers = np.flatnonzero(keep).tolist()
    since = {entered.subject[n]: int(entered.at_ms[n]) for n in numbers}
    imprints: defaultdict[bytes, list[PastImprint]] = defaultdict(list)
    reader = event_reader(sources_of(store, log))
    end = log.end()
    frames = frames_of(log, DONE, stop=end, heard=lambda count: advance(count, total=end))
    for doing in doings(frames, since.__contains__):
        if doing.at_ms >= since[doing.frame.subject]:
            continue
        effect = reader.read(doing.frame)
        if isinstance(effect, Imprint):
            past = PastImprint(doing.at_ms, effect.hour, effect.votes)
            imprints[doing.frame.subject].append(past)
    profiles = Profiles(schema, vocabulary, homes=False)
    facts = {row.subject: row.markers for row in store.customers(since)}
    bags = []
    for n in numbers:
        subject, at_ms = entered.subject[n], int(entered.at_ms[n])
        strengths = profiles.strengths(facts.get(subject, ()))
        history = History(strengths, imprints.pop(subject, ()), schema, vocabulary)
        bags.append([(i, warm) for i, warm, _ in history.features(at_ms, before_ms=at_ms)])
    done = rows.amount if question.measure == "amount" else (rows.times > 0).astype(np.float64)
    return People.of(bags, entered.held[keep], entered.placement[keep], done[keep])
