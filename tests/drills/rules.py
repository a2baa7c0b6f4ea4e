"""Random releases, moments and histories: what the engine decides is what the rules say.

A round is a random release with some decisions, and another one with a history of them; both are
made by the engine and by the reference in tests/reference, which is written from the rules and
not from the code. Areas lie at pentagons, poles and the antimeridian, times at leap days and where
clocks are moved. What is found is made as small as it can be before it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from tests.drills.findings import Findings
from tests.property import agreement, histories

SHORT: Final = 100
LONG: Final = 20_000
UNIT: Final = "worlds"

_Worlds = dict[str, st.SearchStrategy[Any]]
PROPERTIES: Final[dict[str, tuple[Callable[..., None], _Worlds]]] = {
    "decisions": (agreement.agree, agreement.decisions()),
    "histories": (histories.live, histories.histories()),
}
#: Rounds that are drawn together; with ROUND=k those of k are played again.
_TOGETHER: Final = 100


def play(
    folder: Path,
    seed: int,
    rounds: int,
    progress: Callable[[int], None],
    first: int = 0,
) -> Findings:
    """Draw `rounds` worlds, and some more to make whole lots of them."""
    found = Findings()
    begin = first - first % _TOGETHER
    while begin < first + rounds:
        for name, (holds, worlds) in PROPERTIES.items():
            try:
                _drawn(holds, worlds, f"{seed}:{begin}:{name}")()
            except Exception as error:
                told = "\n".join([str(error), *getattr(error, "__notes__", ())])
                found.fail(begin, f"{name}: {told}")
        begin += _TOGETHER
        found.tried += _TOGETHER
        progress(begin - first)
    return found


def _drawn(holds: Callable[..., None], worlds: _Worlds, name: str) -> Callable[[], None]:
    """What holds of all `worlds`, asked of some that follow from a name."""
    limits = settings(
        max_examples=_TOGETHER,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    drawn: Callable[[], None] = seeded(name)(limits(given(**worlds)(holds)))
    return drawn
