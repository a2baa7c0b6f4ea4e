"""Who is compared in a hold-out or an experiment, and what of their doings counts. Free of I/O.

    meetings = Meetings(since_ms)          # 1. every decision, link and consent of the log
    entered = enter(meetings, customers)   # 2. who is compared: one row for each person
    done = Done(entered, window_ms, …)     # 3. every doing of theirs
    done.rows()                            # (person, group, entered, times, amount)

Rules.
- The unit is the person: linked ids are one. What an id decided and did counts only where that id
  counts for learning (`genomes.consents`). Who is erased is in no log, and what nobody in
  particular did belongs to nobody.
- A person enters with their first decision in a placement in which anything was chosen, shown or
  held out, and belongs to the group of that decision for good. Up to that moment nothing was
  different between the groups, so what is chosen by it (who is compared, from when on) is chosen
  alike. Nothing that comes later may decide who is compared, because later the groups differ.
- In an experiment they enter with their first decision that was drawn, whatever came of it: what
  is chosen differs by arm, and may not decide who is compared.
- So, of a campaign of some offers, those are compared in whose first decision one of its offers was
  chosen. Who met it later met it after their group had been treated differently: caps, dismissals
  and genomes had already been at work. These are counted and left out. Of several placements, each
  draws anew, and the earliest such decision counts.
- Who later meets the other group too (under another id, on an older device, after another draw)
  stays in the first one and is counted. To leave them out would not do: of those who have two ids a
  smaller share stays among the held out, and such people are not like others. What remains is that
  an effect is measured too small, never one that is not there.
- An id that said nothing about consent and counts because of a link lets a person enter only once
  the link is known: else who was shown something, and linked because of it, would be compared, and
  who was not would not.
- What counts is done within the window from the entry on. Both groups can do it without any
  decision being named, so what names one (an outcome) does not count.
- Money is added up as everywhere (`doings.money`): in the usual currency of what counts, refunds
  taken off. A refund is no purchase.
- Of what the order of the log is nothing depends, but for one interaction id that says two things.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from genome_server.doings.money import usual_currency
from genome_server.doings.reading import Doing
from genome_server.genomes.consents import counting, told
from genome_server.genomes.events import ConsentSaid, LinkSaid
from genome_server.genomes.rows import SubjectState
from genome_server.learning.persons import Persons
from genome_server.store.rows import CONSENT_LEARNING, CustomerRow
from genome_server.store.words import Word

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NEVER: Final = 2**62
"""A moment that does not come, in Unix milliseconds."""
BASE: Final = 1
"""The group that others are compared with: the held out (0 is shown), or in an experiment those who
stay with the placement itself (0, 2, 3 … are its arms)."""
_MICROS: Final = 1e6


class Met(NamedTuple):
    """A decision in which something was chosen for somebody. Compared by time, then by its id.

    `hit`: something of the campaign was chosen. `offset` is its place in the log.
    """

    at_ms: int
    decision: bytes
    hit: bool
    offset: int
    subject: bytes


class Meetings:
    """Takes what the log says of decisions, links and consents, in any order.

    Decisions before `since_ms` (Unix) count for nothing but `earlier`.
    """

    def __init__(self, since_ms: int = 0) -> None:
        self.since_ms = since_ms
        self.persons = Persons()
        self.words: dict[bytes, dict[int, Word]] = {}
        self.earlier: set[bytes] = set()
        self.hit_ever: set[bytes] = set()
        # By group: the first decision of a subject in a placement.
        self._first: defaultdict[int, dict[tuple[bytes, int], Met]] = defaultdict(dict)

    def meet(self, placement: int, met: Met, *, group: int) -> None:
        """Take a decision in the placement of this number."""
        if met.at_ms < self.since_ms:
            self.earlier.add(met.subject)
            return
        if met.hit:
            self.hit_ever.add(met.subject)
        key, firsts = (met.subject, placement), self._first[group]
        known = firsts.get(key)
        if known is None or met < known:
            firsts[key] = met

    def hear(self, said: LinkSaid | ConsentSaid) -> None:
        """Take a word on a link or a consent."""
        if isinstance(said, LinkSaid):
            self.persons.hear(said)
            return
        words = self.words.setdefault(said.subject, {})
        word = (said.time_ms, said.granted)
        known = words.get(said.purpose, word)
        words[said.purpose] = max(known, word, key=lambda one: (one[0], not one[1]))

    def placements(self, group: int) -> set[int]:
        """Numbers of the placements with decisions of a group."""
        return {placement for _, placement in self._first[group]}

    def subjects(self) -> set[bytes]:
        """Everybody who met something, and all who are linked to them."""
        found = {subject for firsts in self._first.values() for subject, _ in firsts}
        for subject in tuple(found):
            found.update(self.persons.members(self.persons.root(subject)))
        return found

    def by_person(self) -> dict[bytes, dict[int, list[tuple[Met, int]]]]:
        """By person (the id that stands for them) and placement: first decisions and groups."""
        found: defaultdict[bytes, dict[int, list[tuple[Met, int]]]] = defaultdict(dict)
        for group, firsts in self._first.items():
            for (subject, placement), met in firsts.items():
                root = self.persons.root(subject)
                found[root].setdefault(placement, []).append((met, group))
        return found


@dataclass(frozen=True)
class LeftOut:
    """How many persons met something and are not compared, and why.

    `later` met the campaign only after their first decision in a placement.
    """

    without_consent: int = 0
    later: int = 0


@dataclass(frozen=True, eq=False)
class Entered:
    """n persons who are compared, in the order in which they entered.

    `subject` is the id under which one did, `ids` all of theirs that count. `at_ms` int64[n] is
    when (Unix), `group` int64[n] which group, `placement` int64[n] the number of the placement,
    `offset` int64[n] where in the log the decision is; `other_ms` int64[n] when another group was
    met first, NEVER if not. `earlier` bool[n]: there were decisions for them before `since_ms`.
    """

    subject: list[bytes]
    ids: list[tuple[bytes, ...]]
    at_ms: Ints
    group: Ints
    placement: Ints
    offset: Ints
    other_ms: Ints
    earlier: Flags
    left_out: LeftOut

    def __len__(self) -> int:
        """How many persons there are."""
        return len(self.subject)

    @property
    def held(self) -> Flags:
        """Who is of the group that others are compared with, bool[n]."""
        return np.asarray(self.group == BASE)

    def only(self, kept: Flags) -> Entered:
        """Those of `kept`, bool[n]."""
        at = np.flatnonzero(kept)
        return Entered(
            subject=[self.subject[row] for row in at.tolist()],
            ids=[self.ids[row] for row in at.tolist()],
            at_ms=self.at_ms[at],
            group=self.group[at],
            placement=self.placement[at],
            offset=self.offset[at],
            other_ms=self.other_ms[at],
            earlier=self.earlier[at],
            left_out=self.left_out,
        )


class _Entry(NamedTuple):
    met: Met
    group: int
    placement: int
    other_ms: int
    ids: tuple[bytes, ...]
    earlier: bool


def enter(
    meetings: Meetings,
    customers: Mapping[bytes, CustomerRow],
    placements: Collection[int] | None = None,
) -> Entered:
    """Who is compared. `customers` are those of `meetings.subjects()` that the store knows;
    `placements` the numbers of those with a hold-out (None: all)."""
    entries: list[_Entry] = []
    without = later = 0
    for root, met in meetings.by_person().items():
        members = meetings.persons.members(root)
        counted, silent = _counting(meetings, customers, members)
        if not counted:
            without += 1
            continue
        since = meetings.persons.linked_since(root) if silent else 0
        found = [
            entry
            for placement, firsts in met.items()
            if placements is None or placement in placements
            if (entry := _entry(placement, firsts, counted, silent, since)) is not None
        ]
        chosen = min((one for one in found if one.met.hit), default=None)
        if chosen is None:
            later += bool(found) and not meetings.hit_ever.isdisjoint(counted)
            continue
        earlier = not meetings.earlier.isdisjoint(counted)
        entries.append(chosen._replace(earlier=earlier))
    entries.sort()
    return Entered(
        subject=[one.met.subject for one in entries],
        ids=[one.ids for one in entries],
        at_ms=np.array([one.met.at_ms for one in entries], np.int64),
        group=np.array([one.group for one in entries], np.int64),
        placement=np.array([one.placement for one in entries], np.int64),
        offset=np.array([one.met.offset for one in entries], np.int64),
        other_ms=np.array([one.other_ms for one in entries], np.int64),
        earlier=np.array([one.earlier for one in entries], bool),
        left_out=LeftOut(without, later),
    )


def _counting(
    meetings: Meetings, customers: Mapping[bytes, CustomerRow], members: Collection[bytes]
) -> tuple[tuple[bytes, ...], frozenset[bytes]]:
    """The ids of a person that count for learning, and those of them that never said anything."""
    known = {}
    states = {}
    for one in members:
        words = meetings.words.get(one, {})
        states[one] = SubjectState(consents={p: (at, not yes) for p, (at, yes) in words.items()})
        row = told(customers.get(one), one, words)
        if row is not None:
            known[one] = row
    counted = counting(states, known, CONSENT_LEARNING)
    silent = frozenset(
        one
        for one in counted
        if one not in known or not (known[one].consents or 0) & CONSENT_LEARNING
    )
    return tuple(counted), silent


def _entry(
    placement: int,
    firsts: list[tuple[Met, int]],
    counted: tuple[bytes, ...],
    silent: frozenset[bytes],
    linked_ms: int,
) -> _Entry | None:
    """How a person entered in a placement."""
    mine = [
        (met, group)
        for met, group in firsts
        if met.subject in counted and (met.subject not in silent or met.at_ms >= linked_ms)
    ]
    if not mine:
        return None
    met, group = min(mine)
    others = (one.at_ms for one, other in mine if other != group)
    return _Entry(met, group, placement, min(others, default=NEVER), counted, earlier=False)


@dataclass(frozen=True, eq=False)
class Rows:
    """What the persons of `entered` did within `window_ms` of entering.

    `times` int64[n]: how often; `amount` float64[n]: for how much, in `currency` ("": none is
    named). `elsewhere` payments were in other currencies and are in no amount. `newest_ms` is when
    the newest of what counts was done (Unix; 0: never). `outcomes` named a decision and do not
    count. Which windows are over is asked with `over`.
    """

    entered: Entered
    window_ms: int
    times: Ints
    amount: Floats
    currency: str
    elsewhere: int
    newest_ms: int
    outcomes: int

    def __len__(self) -> int:
        """How many persons there are."""
        return len(self.entered)

    def only(self, kept: Flags) -> Rows:
        """The persons of `kept`, bool[n]."""
        entered = self.entered.only(kept)
        return replace(self, entered=entered, times=self.times[kept], amount=self.amount[kept])

    def over(self, as_of_ms: int) -> Flags:
        """Whose window is over at a moment, bool[n]."""
        return np.asarray(self.entered.at_ms + self.window_ms <= as_of_ms)


class Done:
    """Takes doings of the persons who are compared; each once, as `doings.reading` gives them.

    `kinds` are those that count, `paid` those of all kinds in which money counts. With `products`
    only what was done with one of these counts.
    """

    def __init__(
        self,
        entered: Entered,
        window_ms: int,
        kinds: Collection[str],
        paid: Collection[str],
        products: Collection[str] | None = None,
    ) -> None:
        self._entered = entered
        self._window_ms = window_ms
        self._kinds, self._paid = frozenset(kinds), frozenset(paid)
        self._products = products
        self._row = {one: row for row, ids in enumerate(entered.ids) for one in ids}
        self._since = entered.at_ms.tolist()
        self._times = np.zeros(len(entered), np.int64)
        self._amounts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._payments: Counter[str] = Counter()
        self._newest_ms = 0
        self._outcomes = 0

    def whose(self, subject: bytes) -> bool:
        """Whether a subject's doings are asked for."""
        return subject in self._row

    def counts(self, kind: str) -> bool:
        """Whether doings of a kind count."""
        return kind in self._kinds

    def take(self, doing: Doing) -> None:
        """Take what somebody did."""
        said = doing.said
        row = self._row.get(doing.frame.subject)
        if row is None or said.kind not in self._kinds:
            return
        if not 0 <= doing.at_ms - self._since[row] < self._window_ms:
            return
        if doing.is_outcome:
            self._outcomes += 1
            return
        if self._products is not None and said.product not in self._products:
            return
        self._newest_ms = max(self._newest_ms, doing.at_ms)
        amount = said.amount_micros if said.kind in self._paid else 0
        self._times[row] += amount >= 0
        if amount:
            self._amounts[said.currency][row] += amount
            self._payments[said.currency] += 1

    def rows(self) -> Rows:
        """What was taken."""
        names = [name for name in self._payments if name]
        numbers = [number for number, name in enumerate(names) for _ in range(self._payments[name])]
        payments = np.array(numbers, np.int64)
        usual = usual_currency(payments, np.ones(len(payments), bool), names)
        currency = names[usual] if usual >= 0 else ""
        micros: Counter[int] = Counter()
        for name in {currency, ""}:
            for row, amount in self._amounts[name].items():
                micros[row] += amount
        amounts = np.zeros(len(self._entered))
        amounts[list(micros)] = [value / _MICROS for value in micros.values()]
        counted = sum(self._payments[name] for name in {currency, ""})
        return Rows(
            entered=self._entered,
            window_ms=self._window_ms,
            times=self._times,
            amount=amounts,
            currency=currency,
            elsewhere=self._payments.total() - counted,
            newest_ms=self._newest_ms,
            outcomes=self._outcomes,
        )
