"""The decision: consent → candidates near here → eligibility → caps → score → explore → record.

Rules.
- Pure: everything that matters comes in as an argument, and nothing is read or written. No lock
  is taken. What `decide` raises is the caller's own mistake (`UsageError`); everything else ends
  in a decision with a reason.
- A genome is looked at only where the consents say PERSONALISATION.
- Priority comes first: while an eligible offer of a higher priority is left, lower ones are not
  drawn, whatever their scores.
- Later slots are drawn from what the slots before leave: neither their offers nor the others of
  their exclusivity groups.
- Offers under a cap over their campaign give way to what the slots before show of it, once that is
  as many as the cap leaves.
- Of one category a decision shows no more than the placement allows, and nothing that is worth less
  than it asks. Somebody who is held out is shown nothing of what is chosen; see `slates`.
- Where the placement that is asked for has arms, one of them decides in its place; see `arms`.
- The house default is shown in slot 0 where nothing else may be, within its own validity. It is
  not drawn, not scored and not a candidate.
- What `decide` looked at is in the record, so that `replay` gives the same decision from the record
  and the release. The record is a handful of references; encoding it is for later, elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from edge_sdk.arguments import MAX_NAME, is_text, is_whole, shown
from edge_sdk.context import Context
from edge_sdk.decision import Decision, Tier
from edge_sdk.dna.genome import NOBODY
from edge_sdk.engine.cap_views import NO_ROOMS, Rooms
from edge_sdk.engine.catalogue import Where
from edge_sdk.engine.choosing import answer
from edge_sdk.engine.moments import NO_MOMENT, moment_of
from edge_sdk.engine.noise import noise
from edge_sdk.engine.policy import Floats, Indices
from edge_sdk.engine.record import NO_INDICES, NO_REASONS, NO_WEIGHTS, Inputs, Record, coarse
from edge_sdk.engine.withheld import NOTHING, Terms, languages_of
from edge_sdk.errors import UsageError
from edge_sdk.numbers import PERSONALISATION

if TYPE_CHECKING:
    from edge_sdk.engine.explain import check_replay, explain, replay
    from edge_sdk.engine.places import PlaceResolver
    from edge_sdk.engine.release import Release

__all__ = ["GenomeView", "check_replay", "coarse", "decide", "explain", "replay"]

MAX_SLOTS: Final = 64
HOUR_MS: Final = 3_600_000
_PERSONALISATION: Final = 1 << PERSONALISATION
_NOTHING: Final[frozenset[str]] = frozenset()
_NO_TERMS: Final = Terms()


def __getattr__(name: str) -> Any:
    """What looks back is loaded when it is asked for."""
    if name not in ("check_replay", "explain", "replay"):
        raise AttributeError(name)
    from edge_sdk.engine import explain as looking_back

    return getattr(looking_back, name)


class GenomeView(Protocol):
    """What the engine reads of a genome."""

    def features(self, now_hour: int) -> tuple[Indices, Floats]:
        """Marker indices int64[n] and weights float32[n] at an hour since the Unix epoch."""
        ...


def decide(
    release: Release | None,
    context: Context,
    placement_id: str,
    slots: int = 1,
    *,
    genome: GenomeView | None = None,
    consents: int = 0,
    blocked: frozenset[str] = _NOTHING,
    seed: int | None = None,
    terms: Terms = _NO_TERMS,
    now_ms: int | None = None,
    decision_id: bytes | None = None,
    places: PlaceResolver | None = None,
    why_blocked: Mapping[str, tuple[str, int]] = NO_REASONS,
    rooms: Rooms = NO_ROOMS,
    subject: bytes = NOBODY,
    stage: Callable[[str], None] | None = None,
) -> tuple[Decision, Record]:
    """Choose offers for a moment.

    `consents` are the customer's bits, `blocked` the offers that `CapLedger.blocked` names, `seed`
    a uint64 and `decision_id` 16 bytes (random where left out), `now_ms` Unix milliseconds (the
    clock's where left out), `places` a place layer instead of the release's, `why_blocked` why each
    of `blocked` is kept away and until when, for the record alone, `rooms` what caps over campaigns
    leave where that is less than `slots` (see `CapLedger.blocking`), `subject` whom the decision is
    for (16 bytes), by which a placement may hold out or draw an arm. `stage`, for measurements, is
    called with the name of each stage when it is done.

    Always returns a decision with `slots` entries, and its record. Raises UsageError for a
    context, placement or number of slots that is not one.
    """
    if (
        type(context) is not Context
        or type(placement_id) is not str
        or len(placement_id) > MAX_NAME
        or not placement_id.isascii()
        or type(slots) is not int
        or not 1 <= slots <= MAX_SLOTS
    ):
        _check_call(context, placement_id, slots)  # looks closer
    if seed is None or decision_id is None:
        random = noise()
        seed = int.from_bytes(random[:8], "little") if seed is None else seed
        decision_id = decision_id or random[8:]
    tier = terms.tier if release is not None else Tier.EMPTY
    local = context.local_time(int(time.time() * 1000) if now_ms is None else now_ms)
    placement = release.placements.get(placement_id) if release is not None else None
    experiment = ""
    if release is not None and placement is not None and placement.experiment is not None:
        experiment = placement_id
        placement_id = placement.experiment.draw(subject, decision_id)
        placement = release.placements[placement_id]
    language = (context.language or terms.language).lower()
    withheld = NOTHING
    withholding = terms.withholding if release is not None else None
    if withholding is not None:
        withheld = withholding.always or withholding.at(languages_of(language), terms.offline_ms)
    moment = NO_MOMENT
    parents: tuple[int, ...] = ()
    regions: tuple[int, ...] = ()
    held_out = False
    if release is not None and placement is not None:
        moment = moment_of(release, context, local, placement.channel, places, language)
        parents, regions = release.catalogue.located(context.cell)
        if placement.slate is not None:
            held_out = placement.slate.holds_out(subject, decision_id)
    indices, weights = NO_INDICES, NO_WEIGHTS
    genome_used = False
    if genome is not None and consents & _PERSONALISATION:
        indices, weights = genome.features(local.ms // HOUR_MS)
        genome_used = True
    inputs = Inputs(
        decision_id,
        placement_id,
        slots,
        seed,
        tier,
        moment,
        Where(
            regions,
            moment.places,
            local.ms,
            local.weekday,
            local.hour,
            moment.channel,
            placement_id,
            tier == Tier.RESTRICTED,
        ),
        parents,
        context.cell,
        indices,
        weights,
        genome_used,
        consents,
        blocked,
        withheld,
        language,
        why_blocked,
        held_out,
        rooms,
        experiment,
    )
    if stage is not None:
        stage("context")
    return answer(release, inputs, stage=stage)


def _check_call(context: Context, placement_id: str, slots: int) -> None:
    if not isinstance(context, Context):
        raise UsageError(f"context must be a Context, not {type(context).__name__}")
    if not is_text(placement_id) or len(placement_id) > MAX_NAME:
        raise UsageError(f"placement must be the name of one, not {shown(placement_id)}")
    if not is_whole(slots) or not 1 <= slots <= MAX_SLOTS:
        allowed = f"a whole number from 1 to {MAX_SLOTS}"
        raise UsageError(f"slots={shown(slots)} is not allowed: {allowed}")
