"""Vowpal Wabbit as a policy: `--cb_explore_adf --squarecb` on the same stream.

It stands in the middle and is asked over a line that never fails: what it has learned counts at
once, everywhere. It hears an answer when the device that showed the offer next has a line, as our
server does; silence becomes a refusal when the outcome's window closes, as with us. It is told what
we are told: profile, moment and DNA of the offers, each offer's own marker among them; and, as far
as the settings say so, who it is and what own answers left in the genome.
"""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from typing import Any, Final

from edge_sdk.dna.markers import time_markers
from tests.bench.regret_history import Histories
from tests.bench.regret_loop import Judge, is_night
from tests.bench.world.covariates import Ints
from tests.bench.world.stream import TAKEN
from tests.bench.world.truth import DAY_MS, HOUR_MS

WINDOW_MS: Final = 24 * HOUR_MS


@dataclass(frozen=True)
class Setting:
    """How it is set up; the defaults are the best that was found, see docs/closed-loop.md.

    `replays`: how often a night's learning goes through all that is known, with fresh weights; 0
    learns each answer once, when it comes.
    """

    rate: float = 0.02
    gamma_scale: float = 300.0
    gamma_exponent: float = 0.5
    cb_type: str = "mtr"
    crosses: tuple[str, ...] = ("co", "go")
    own_id: bool = False
    genome: bool = True
    power_t: float | None = None
    l2: float = 0.0
    replays: int = 0
    bits: int = 20
    cost_of_yes: float = -1.0
    cost_of_no: float = 0.0

    @property
    def line(self) -> str:
        """The command line."""
        parts = [
            f"--cb_explore_adf --squarecb --cb_type {self.cb_type} -b {self.bits} -l {self.rate}",
            f"--gamma_scale {self.gamma_scale} --gamma_exponent {self.gamma_exponent} --quiet",
            *(f"--interactions {cross}" for cross in self.crosses),
        ]
        if self.power_t is not None:
            parts.append(f"--power_t {self.power_t}")
        if self.l2:
            parts.append(f"--l2 {self.l2}")
        return " ".join(parts)


class Wabbit:
    """Decides by Vowpal Wabbit."""

    def __init__(self, judge: Judge, setting: Setting) -> None:
        self._stream = stream = judge.stream
        self._world = world = stream.world
        self._setting = setting
        self._model = self._fresh()
        self._histories = Histories(world)
        self._offers = ["|o " + " ".join(map(_word, offer.dna)) for offer in world.offers]
        self._people = [" ".join(map(_word, markers)) for markers in world.real.people]
        self._draw = random.Random(int(stream.draws[0] * 2**53))
        # moment → (shared line, offers, the one shown, its chance, and when).
        self._shown: dict[int, tuple[str, Ints, int, float, int]] = {}
        self._waiting: dict[int, list[tuple[int, str, int]]] = {}
        self._settled: set[int] = set()
        self._open: list[int] = []
        self._known: list[list[str]] = []

    def decide(self, moment: int, at_ms: int, live: Ints) -> int:
        """Draw from the chances that it gives."""
        self._close_windows(at_ms)
        shared = self._shared(moment, at_ms)
        chances = self._asked(moment).predict([shared, *(self._offers[o] for o in live.tolist())])
        total, number = sum(chances), self._stream.draws[moment]
        at, left = 0, number * total
        while at < len(chances) - 1 and left >= chances[at]:
            left -= chances[at]
            at += 1
        self._shown[moment] = (shared, live, at, chances[at] / total, at_ms)
        self._open.append(moment)
        return int(live[at])

    def hear(self, moment: int, kind: str, at_ms: int) -> None:
        """Kept by the device until it has a line."""
        device = int(self._stream.device[moment])
        self._waiting.setdefault(device, []).append((moment, kind, at_ms))

    def sync(self, device: int, at_ms: int) -> None:
        """What a device heard is learned."""
        self._close_windows(at_ms)
        for moment, kind, heard_ms in self._waiting.pop(device, ()):
            _, live, at, _, shown_ms = self._shown[moment]
            person = self._stream.person(moment)
            self._histories.imprint(person, kind, int(live[at]), heard_ms)
            if moment not in self._settled and heard_ms <= shown_ms + WINDOW_MS:
                self._learn(moment, taken=kind == TAKEN)

    def hour(self, at_ms: int) -> None:
        """Learn all of it again at night, where it is set up so."""
        self._close_windows(at_ms)
        first_day = at_ms < self._world.begin_ms + DAY_MS
        if first_day or not self._setting.replays or not is_night(at_ms):
            return
        self._model.finish()
        self._model = self._fresh()
        order = random.Random(at_ms)
        for _ in range(self._setting.replays):
            for at in order.sample(range(len(self._known)), len(self._known)):
                self._model.learn(self._known[at])

    def close(self) -> None:
        """End it."""
        self._model.finish()

    def _asked(self, moment: int) -> Any:
        """The model that decides."""
        return self._model

    def _fresh(self) -> Any:
        import vowpalwabbit

        return vowpalwabbit.Workspace(self._setting.line)

    def _close_windows(self, at_ms: int) -> None:
        """Whoever said nothing within the window and a day, in which devices report, said no."""
        while self._open and self._shown[self._open[0]][4] + WINDOW_MS + DAY_MS // 4 <= at_ms:
            moment = self._open.pop(0)
            if moment not in self._settled:
                self._learn(moment, taken=False)

    def _learn(self, moment: int, *, taken: bool) -> None:
        self._settled.add(moment)
        shared, live, at, chance, _ = self._shown[moment]
        lines = [self._offers[offer] for offer in live.tolist()]
        cost = self._setting.cost_of_yes if taken else self._setting.cost_of_no
        lines[at] = f"{at}:{cost:g}:{chance:.6g} {lines[at]}"
        self._model.learn([shared, *lines])
        if self._setting.replays:
            self._known.append([shared, *lines])

    def _shared(self, moment: int, at_ms: int) -> str:
        stream, real = self._stream, self._world.real
        row, person = int(stream.row[moment]), stream.person(moment)
        days, hour = divmod(at_ms // HOUR_MS, 24)
        clock = time_markers((days + 3) % 7 + 1, hour)
        said = [f"{name}_{value}" for name, value in real.context[row].items()]
        parts = [f"shared |p {self._people[person]} |c {' '.join([*said, *map(_word, clock)])}"]
        if self._setting.own_id:
            parts.append(f"|i u{person}")
        if self._setting.genome:
            strengths = self._histories.strengths(person, at_ms)
            parts.append("|g " + " ".join(f"{_word(name)}:{w:.4g}" for name, w in strengths))
        return " ".join(parts)


class WabbitAtDevices(Wabbit):
    """The same at our devices: each decides by the model of when it last had a line.

    It learns as before, in the middle and at once; every hour its model is there to be taken. So
    it says what a line that never fails is worth.
    """

    def __init__(self, judge: Judge, setting: Setting) -> None:
        super().__init__(judge, setting)
        self._folder = tempfile.TemporaryDirectory()
        self._newest = self._copy()
        self._holds = dict.fromkeys(range(judge.stream.devices), self._newest)

    def sync(self, device: int, at_ms: int) -> None:
        """What it heard is learned, and it takes what is newest."""
        super().sync(device, at_ms)
        self._holds[device] = self._newest

    def hour(self, at_ms: int) -> None:
        """What was learned up to now can be taken."""
        super().hour(at_ms)
        self._newest = self._copy()

    def close(self) -> None:
        """End all of them."""
        super().close()
        self._holds.clear()
        self._folder.cleanup()

    def _asked(self, moment: int) -> Any:
        return self._holds[int(self._stream.device[moment])]

    def _copy(self) -> Any:
        import vowpalwabbit

        path = f"{self._folder.name}/model"
        self._model.save(path)
        return vowpalwabbit.Workspace(f"-i {path} --quiet")


def _word(marker: str) -> str:
    return marker.replace(":", "_").replace("|", "_").replace(" ", "_")
