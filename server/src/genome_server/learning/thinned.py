"""What an impression stands for that a device kept when it could not keep all.

A device that runs out of room gives impressions up by the flip of a coin and declares, for a range
of its sequences, with which probability p. Each that it kept stands for 1 / (1 - p) of them: so
examples weigh what they would have weighed had none been lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict

from genome_edge.v1 import event_pb2
from genome_server.log.reader import LoggedFrame

_CERTAIN = 1_000_000
# A device that says more is not believed: one example must not outweigh all others.
_MOST = 64.0

_Lane = tuple[str, bytes, int]


class Thinned:
    """The ranges that devices declared, by lane. Add all of them before the first question."""

    def __init__(self) -> None:
        self._ranges: defaultdict[_Lane, list[tuple[int, int, int]]] = defaultdict(list)
        self._sorted = True

    def add(self, frame: LoggedFrame, said: event_pb2.Evicted) -> None:
        """Note a declaration; one without a probability says nothing about what was kept."""
        if 0 < said.probability_ppm < _CERTAIN:
            lane = (frame.device, frame.epoch, frame.lane)
            declared = (said.first_sequence, said.last_sequence, said.probability_ppm)
            self._ranges[lane].append(declared)
            self._sorted = False

    def stands_for(self, frame: LoggedFrame) -> float:
        """How many impressions this one stands for: 1 where no coin was flipped."""
        if not self._sorted:
            for ranges in self._ranges.values():
                ranges.sort()
            self._sorted = True
        ranges = self._ranges.get((frame.device, frame.epoch, frame.lane), [])
        at = bisect_right(ranges, (frame.sequence, _CERTAIN << 64, 0)) - 1
        if at < 0 or frame.sequence > ranges[at][1]:
            return 1.0
        return min(_CERTAIN / (_CERTAIN - ranges[at][2]), _MOST)
