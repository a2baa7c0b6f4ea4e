"""Whether the groups are as large as they should be. Free of I/O.

Theory. Who is held out follows from a hash, so of the persons of a placement a known share is, give
or take chance. Where it is not, who is compared depends on the group: events of one group are lost,
or something between the draw and this table treats the groups differently. Then no difference means
anything. The test may be looked at every day: it is a likelihood ratio against all other shares
(beta-binomial, Lindon and Malek 2020), which in a fair draw ever exceeds 1 / `UNFAIR` with a chance
of at most `UNFAIR`. The other shares lie about the stated one, near it or all over the place: that
is sharp where little is lost of many, or most of a few. Which it is nobody knows beforehand, so the
ratio is the mean over `_PRIORS`, which is such a ratio, too.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

UNFAIR: Final = 0.001
"""Below this chance groups are not believed to be a fair draw."""
_PRIORS: Final = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)


class Balance(NamedTuple):
    """Persons of a placement: how many, how many of them are held out, the share that should be,
    and the chance (at all looks together) of such a difference in a fair draw."""

    placement: str
    persons: int
    held: int
    share: float
    chance: float

    @property
    def fair(self) -> bool:
        """Whether the groups can be a fair draw."""
        return self.chance >= UNFAIR


def balance(placement: str, persons: int, held: int, share: float) -> Balance:
    """How well a number of held out persons fits the share (0 < share < 1)."""
    fair = held * math.log(share) + (persons - held) * math.log1p(-share)
    odds = [_log_evidence(prior, persons, held, share) - fair for prior in _PRIORS]
    most = max(odds)
    mean = most + math.log(math.fsum(math.exp(one - most) for one in odds) / len(odds))
    return Balance(placement, persons, held, share, math.exp(-max(mean, 0.0)))


def _log_evidence(prior: float, persons: int, held: int, share: float) -> float:
    before = (prior * share, prior * (1.0 - share))
    after = (before[0] + held, before[1] + persons - held)
    return _log_beta(*after) - _log_beta(*before)


def _log_beta(one: float, other: float) -> float:
    return math.lgamma(one) + math.lgamma(other) - math.lgamma(one + other)
