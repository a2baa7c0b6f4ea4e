"""Our side of the closed loop with the gate in between: the hourly job of the exploration page.

Rules.
- A training is `genome-server train` in full, with the evaluation that the gate asks for.
- A model goes out through the gate. While one waits the gate is asked anew every hour, and all else
  that changed goes out with the model that devices have (`publish --keep-model`).
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from genome_server.errors import Refused, TooLittleToLearn
from genome_server.learning.job import run_training
from genome_server.releases.publish import publish
from tests.bench.regret_devices import Published
from tests.bench.regret_house import House
from tests.bench.regret_loop import is_night


@dataclass
class GatedHouse(House):
    """Our policy, which publishes through the gate."""

    _waiting: bool = False

    def hour(self, at_ms: int) -> None:
        """As ours; and publish every hour while a model waits."""
        self._now_ms = at_ms
        if self._train() or self._waiting or is_night(at_ms):
            self._publish(trained=self._trained is not None)

    def _learn(self) -> bool:
        with closing(self._tenant.open_store()) as store:
            self._build(store)
        try:
            run_training(self._tenant, self.settings, now_ms=self._now_ms)
        except TooLittleToLearn:
            return False
        return True

    def _publish(self, *, trained: bool) -> Published:
        """Publish what is there now with the newest model, or else with the one that is out."""
        rows = self._prepare()
        self._waiting = False
        try:
            done = publish(self._tenant, untrained=not trained, now_ms=self._now_ms)
        except Refused:
            self._waiting = True
            done = publish(self._tenant, keep_model=True, now_ms=self._now_ms)
        self._newest = Published(self._load(done.manifest), rows, self._now_ms)
        return self._newest
