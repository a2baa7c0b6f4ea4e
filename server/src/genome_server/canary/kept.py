"""What is remembered of the canaries of a tenant: since when, with which bounds, and every look.

It lies in the store beside the releases, as text: the newest hundred, so that whoever asks later
finds out why a release went where it went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from genome_server.canary.rules import Action, Bounds, Verdict
from genome_server.store.protocol import ReleaseRow, Store

State = Literal["watched", "rolling back", "promoted", "rolled back", "ended"]
"""`rolling back`: that is decided, and not all of it is done."""

CLOCK_MS: Final = 60_000
"""A clock that is set right by less is not worth a word."""

_KEY: Final = "canaries"
_MOST_KEPT: Final = 100


@dataclass(frozen=True)
class Look:
    """Look number `number` (0: refusals, which are looked for all the time) at `at_ms` (Unix), and
    the `figures` it went by (`rules.figures`; empty: none were asked for)."""

    number: int
    at_ms: int
    action: str
    why: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Canary:
    """A release that is watched, or was, and `since_ms` when it went out (Unix)."""

    version: int
    channel: str
    since_ms: int
    bounds: Bounds
    looks: tuple[Look, ...] = ()
    state: State = "watched"

    def looked(self, now_ms: int) -> int:
        """The newest look that was taken until `now_ms` (Unix). Those that a clock which was ahead
        took later than that do not count: or none would be due until then."""
        until_ms = now_ms + CLOCK_MS
        return max((look.number for look in self.looks if look.at_ms <= until_ms), default=0)

    @property
    def decided(self) -> str:
        """Why it is to be rolled back."""
        back = Action.ROLL_BACK.value
        return next((look.why for look in reversed(self.looks) if look.action == back), "")

    def after(
        self,
        number: int,
        at_ms: int,
        verdict: Verdict,
        state: State | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> Canary:
        """With one more look, and what came of it."""
        look = Look(number, at_ms, verdict.action.value, verdict.why, figures or {})
        return replace(self, looks=(*self.looks, look), state=state or self.state)

    def ended(self, at_ms: int, why: str) -> Canary:
        """No longer watched: somebody decided otherwise."""
        return self.after(self.looked(at_ms), at_ms, Verdict(Action.WAIT, why), "ended")

    def to_json(self) -> dict[str, Any]:
        """It as plain data."""
        return {**asdict(self), "looks": [asdict(look) for look in self.looks]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Canary:
        """What `to_json` gave."""
        looks = tuple(Look(**look) for look in data["looks"])
        return cls(**{**data, "bounds": Bounds(**data["bounds"]), "looks": looks})


def begin(store: Store, row: ReleaseRow, bounds: Bounds) -> None:
    """Watch a release from now on. Call it in the transaction that issues the release."""
    keep(store, Canary(row.version, row.channel, row.created_ms, bounds))


def canaries(store: Store) -> list[Canary]:
    """All that are remembered, the oldest first."""
    said = store.meta(_KEY)
    return [] if said is None else [Canary.from_json(one) for one in json.loads(said)]


def keep(store: Store, canary: Canary) -> None:
    """Remember a canary as it is now, in place of what was known of its version."""
    with store.transaction():
        others = [one for one in canaries(store) if one.version != canary.version]
        found = sorted([*others, canary], key=lambda one: one.version)[-_MOST_KEPT:]
        store.set_meta(_KEY, json.dumps([one.to_json() for one in found], ensure_ascii=False))
