"""Fits a release with what an app put in place of our own, and keeps what fails from doing harm.

A plug-in is somebody else's code on the threads that decide. What it raises is logged once for
each kind of failure, and ours does the work instead.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edge_sdk.clock import wall_ms
from edge_sdk.context import unix_ms
from edge_sdk.engine.places import PlaceResolver
from edge_sdk.engine.policy import Drawn, Explorer, P, Scores
from edge_sdk.engine.release import Release
from edge_sdk.plugins import Clock, Plugins

log = logging.getLogger("edge_sdk")


def fitted(release: Release, plugins: Plugins, failures: Failures) -> Release:
    """The release as this app decides from it. The one given stays as it is."""
    places, explorer, scorer = plugins.places, plugins.explorer, plugins.scorer
    if places is None and explorer is None and scorer is None:
        return release
    other = copy.copy(release)
    other.is_fitted = True
    other._scoring = None
    other._lock = threading.Lock()
    other.moments = {}
    if places is not None:
        other.places = GuardedPlaces(places, release.places, failures)
    if explorer is not None:
        other.placements = {
            name: replace(one, explorer=GuardedExplorer(explorer, one.explorer, failures))
            for name, one in release.placements.items()
        }
    if scorer is not None:
        other._make_scorer = lambda: scorer(release.model, release.vocabulary)
    return other


class Failures:
    """Says each failure of a plug-in once."""

    def __init__(self) -> None:
        self._said: set[tuple[str, type[Exception]]] = set()

    def note(self, what: str, error: Exception) -> None:
        """Log it where it is news."""
        key = (what, type(error))
        if key not in self._said:
            self._said.add(key)
            log.error("the plug-in for %s failed; ours goes on: %r", what, error)


class GuardedClock:
    """An app's clock as milliseconds since the Unix epoch; the machine's where it fails."""

    def __init__(self, clock: Clock, failures: Failures) -> None:
        self._clock = clock
        self._failures = failures

    def __call__(self) -> int:
        """Now."""
        try:
            return unix_ms(self._clock().astimezone())
        except Exception as error:  # noqa: BLE001 theirs
            self._failures.note("clock", error)
            return wall_ms()


class GuardedPlaces:
    """An app's place resolver; the release's where it fails."""

    def __init__(self, theirs: PlaceResolver, ours: PlaceResolver, failures: Failures) -> None:
        self._theirs, self._ours, self._failures = theirs, ours, failures

    def resolve(self, cell: int) -> Sequence[tuple[str, float]]:
        """Place markers with their salience, the strongest first."""
        try:
            return tuple((str(name), float(weight)) for name, weight in self._theirs.resolve(cell))
        except Exception as error:  # noqa: BLE001 theirs
            self._failures.note("places", error)
            return self._ours.resolve(cell)


class GuardedExplorer:
    """An app's explorer; the placement's own where it fails or draws what is not there."""

    def __init__(self, theirs: Explorer, ours: Explorer, failures: Failures) -> None:
        self._theirs, self._ours, self._failures = theirs, ours, failures
        self.name, self.gamma, self.floor = theirs.name, theirs.gamma, theirs.floor

    def distribution(self, scores: Scores) -> npt.NDArray[np.int64]:
        """Chance of every candidate in 2^-32."""
        try:
            return self._theirs.distribution(scores)
        except Exception as error:  # noqa: BLE001 theirs
            self._failures.note("explorer", error)
            return self._ours.distribution(scores)

    def draw(self, scores: Scores, number: int) -> Drawn:
        """One of the candidates."""
        try:
            drawn = self._theirs.draw(scores, number)
            if 0 <= drawn.position < len(scores) and 0 < drawn.chance <= P:
                return drawn
            raise ValueError(f"{drawn} of {len(scores)} candidates")
        except Exception as error:  # noqa: BLE001 theirs
            self._failures.note("explorer", error)
            return self._ours.draw(scores, number)
