"""What a campaign is: a placement, an offer, or the offers that belong together. Free of I/O.

Rules.
- NAME is a placement, an offer or the campaign that offers say they belong to; where it is several
  of these, `placement:NAME`, `offer:NAME` or `campaign:NAME` says which.
- Of a placement, whatever was chosen there counts. Of offers, what was chosen of them in any
  placement with a hold-out.
- The window is what the placement states as its `outcome_window_hours`; of several the longest that
  any states. Where none is stated it is a week: what a decision is credited with within a day (the
  default of placements) is not all that showing does.
- What counts, where nothing else is said, is the goal that its placements state; where they state
  none, or not all the same, every kind that the DNA schema calls a success.
- An experiment is a placement with arms. Each arm is compared with the placement itself, hold-outs
  of both included, for as long as the longest window of all. Where its document has no arms any
  more, those that decided in it are all, with what their documents state now.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from edge_sdk.dna.schema import HOUR_MS, DnaSchema
from edge_sdk.engine.arms import Experiment
from edge_sdk.engine.slates import Slate
from genome_server.documents import placement_spec
from genome_server.errors import UsageError
from genome_server.times import DAY_MS

WINDOW_MS: Final = 7 * DAY_MS
_KINDS: Final = ("placement", "offer", "campaign")
_MILLION: Final = 1_000_000

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Drawn:
    """A placement in which people are drawn: the share (0 to 1) that its document holds out."""

    id: str
    share: float
    slate: Slate | None

    def holds_out(self, subject: bytes) -> bool:
        """Whether the document, as it is now, holds a customer out."""
        return self.slate is not None and self.slate.holds_out(subject, b"")

    def draws(self, subject: bytes, *, held: bool) -> bool:
        """Whether the document, as it is now, draws a customer into this group."""
        return self.holds_out(subject) == held


@dataclass(frozen=True)
class DrawnArm(Drawn):
    """An arm; `share` is that of its placement in the two together (0: it is no arm any more)."""

    experiment: Experiment | None = None

    def draws(self, subject: bytes, *, held: bool) -> bool:
        """Whether the document, as it is now, draws a customer into this arm, or (`held`) lets them
        stay with the placement."""
        experiment = self.experiment
        if experiment is None:
            return True
        return experiment.draw(subject, b"") == (experiment.base if held else self.id)


@dataclass(frozen=True)
class Campaign:
    """What is asked about. `offers` None: everything. The number of a placement is its index.

    `experiment` is the placement with arms where those are asked about, else empty: all of them, or
    the one that is the campaign's name. `goal` has the kinds of interaction that all its placements
    state as theirs; empty: they do not. `ended` has, of an experiment that has no arms any more,
    the window in milliseconds of every placement that states one.
    """

    kind: str
    name: str
    offers: frozenset[str] | None
    placements: tuple[Drawn, ...]
    window_ms: int
    experiment: str = ""
    goal: frozenset[str] = frozenset()
    ended: Mapping[str, int] = field(default_factory=dict)

    def window_with(self, met: Iterable[str]) -> int:
        """The window in milliseconds where these placements decided in the experiment."""
        return max((self.ended[name] for name in met if name in self.ended), default=self.window_ms)

    @property
    def groups(self) -> tuple[str, str]:
        """What the two groups are called: who is told of, and whom they are compared with."""
        return (self.name, self.experiment) if self.experiment else ("shown", "held out")

    def __str__(self) -> str:
        """As a person says it."""
        return f"{self.kind} {self.name}" + (f" of {self.experiment}" if self.kind == "arm" else "")


def find_campaign(said: str, placements: Documents, offers: Documents) -> Campaign:
    """The campaign of this name. Raises UsageError where there is none, or more than one."""
    tags = {str(one["campaign"]) for one in offers.values() if one.get("campaign")}
    known = dict(zip(_KINDS, (placements, offers, tags), strict=True))
    kind, colon, name = said.partition(":")
    if colon and kind in known:
        kinds = [kind] if name in known[kind] else []
    else:
        name = said
        kinds = [kind for kind in _KINDS if name in known[kind]]
    if not kinds:
        names = sorted({*placements, *offers, *tags})
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"there is no placement, offer or campaign {name!r}{hint}")
    if len(kinds) > 1:
        raise UsageError(
            f"{name!r} is {' and '.join(kinds)}: say " + " or ".join(f"{k}:{name}" for k in kinds)
        )
    return _campaign(kinds[0], name, placements, offers)


def _campaign(kind: str, name: str, placements: Documents, offers: Documents) -> Campaign:
    chosen = placements
    belongs: frozenset[str] | None = None
    if kind == "placement":
        chosen = {name: placements[name]}
    elif kind == "offer":
        belongs = frozenset((name,))
    else:
        belongs = frozenset(one for one, doc in offers.items() if doc.get("campaign") == name)
    drawn = tuple(_drawn(one, doc) for one, doc in sorted(chosen.items()))
    where = [one for one, doc in chosen.items() if kind == "placement" or doc.get("holdout")]
    window_ms, goal = _window(where, chosen), _goal(where, chosen)
    return Campaign(kind, name, belongs, drawn, window_ms, goal=goal)


def find_experiment(said: str, placements: Documents) -> Campaign:
    """The experiment of a placement of this name; its `placements` are the arms of the document,
    which may have none any more. Raises UsageError where there is no such placement, and for one
    that is an arm."""
    name = find_campaign(f"placement:{said.removeprefix('placement:')}", placements, {}).name
    spec = placement_spec({"id": name, **placements[name]})
    found = Experiment.of(spec)
    arms = found.arms if found is not None else {}
    for base, document in placements.items():
        if name in (document.get("experiment") or {}).get("arms", {}):
            raise UsageError(f"{name} is an arm of {base}: genome-server lift {base} --arms")
    rest = _MILLION - sum(arms.values())
    drawn = tuple(
        DrawnArm(arm, rest / (rest + ppm) if rest + ppm else 0.0, None, found)
        for arm, ppm in arms.items()
    )
    window_ms, goal = _window((name, *arms), placements), _goal((name,), placements)
    ended = {} if arms else {one: ms for one in placements if (ms := _stated(one, placements))}
    return Campaign("placement", name, None, drawn, window_ms, name, goal, ended)


def arms_of(experiment: Campaign, met: Iterable[str]) -> list[Campaign]:
    """Each arm of an experiment as a campaign: those of the document, and where that has none any
    more those that were `met`."""
    drawn = experiment.placements or tuple(DrawnArm(name, 0.0, None) for name in sorted(met))
    return [
        replace(experiment, kind="arm", name=one.id, placements=(one,))
        for one in drawn
        if one.id != experiment.name
    ]


def kinds_of(said: Sequence[str], campaign: Campaign, schema: DnaSchema) -> tuple[str, ...]:
    """The kinds of interaction that count: those that are `said`, else the campaign's goal, else
    all that the schema calls a success. Raises UsageError where there are none."""
    names = {rule.name: rule.label for rule in schema.kinds}
    unknown = [name for name in said if name not in names]
    if unknown:
        raise UsageError(
            f"the DNA schema has no kind {unknown[0]!r}; it has {', '.join(sorted(names))}"
        )
    if said:
        return tuple(dict.fromkeys(said))
    goods = {name for name, label in names.items() if label > 0}
    found = tuple(sorted((goods & campaign.goal) or goods))
    if not found:
        raise UsageError("no kind of the DNA schema is a success; say which one counts: --kind buy")
    return found


def _goal(names: Iterable[str], placements: Documents) -> frozenset[str]:
    """The goal that all of these placements state; empty where one states none, or another."""
    stated = {frozenset(map(str, placements[name].get("goal") or ())) for name in names}
    return stated.pop() if len(stated) == 1 else frozenset()


def _window(names: Iterable[str], placements: Documents) -> int:
    """The longest that any of these placements states, in milliseconds."""
    stated = [_stated(name, placements) for name in names]
    return max((ms for ms in stated if ms), default=WINDOW_MS)


def _stated(name: str, placements: Documents) -> int:
    """The window that a placement states, in milliseconds; 0: none."""
    return int(placements.get(name, {}).get("outcome_window_hours") or 0) * HOUR_MS


def _drawn(name: str, document: Mapping[str, Any]) -> Drawn:
    spec = placement_spec({"id": name, **document})
    return Drawn(name, spec.holdout_ppm / _MILLION, Slate.of(spec))
