"""What a context means under a release: markers, their numbers, places, channel.

The same contexts come again and again (a kiosk has a few dozen in its life), so what one means is
worked out once and then found under what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from edge_sdk.context import Context, LocalTime
from edge_sdk.dna.markers import time_markers
from edge_sdk.engine.places import PlaceResolver
from edge_sdk.engine.policy import Floats, Indices
from edge_sdk.engine.record import NO_INDICES, NO_WEIGHTS
from edge_sdk.engine.release import Release

_REMEMBERED: Final = 1024
_CHANNEL: Final = "channel:"
_PLACE: Final = "place:"
# Offers are written in it; few release ask for it as a marker.
LANGUAGE: Final = "language:"


class Moment(NamedTuple):
    """A context in a release's terms.

    `names` are all its markers; `indices` int64[n] and `weights` float32[n] those that the
    vocabulary has; `conditions` the ids under which offers may ask for them; `unknown` names
    (kind, name) that the app said and the release does not know.
    """

    names: tuple[str, ...]
    indices: Indices
    weights: Floats
    conditions: tuple[int, ...]
    places: frozenset[str]
    channel: str
    unknown: tuple[tuple[str, str], ...]


NO_MOMENT: Final = Moment((), NO_INDICES, NO_WEIGHTS, (), frozenset(), "", ())


def moment_of(
    release: Release,
    context: Context,
    local: LocalTime,
    default_channel: str,
    resolver: PlaceResolver | None = None,
    language: str = "",
) -> Moment:
    """What `context` means at `local`, on `default_channel` where it names none, in `language`."""
    places: Sequence[tuple[str, float]] = ()
    if context.place is None and context.cell is not None:
        places = (resolver or release.places).resolve(context.cell)
    channel = context.channel or default_channel
    key = (
        context.declared,
        context.basket,
        local.weekday,
        local.hour,
        channel,
        language,
        tuple(places),
    )
    known: Moment | None = release.moments.get(key)
    if known is None:
        known = _work_out(release, context, local, channel, language, places)
        if len(release.moments) >= _REMEMBERED:
            release.moments = {}
        release.moments[key] = known
    return known


def recorded_moment(
    release: Release, names: Sequence[str], indices: Indices, weights: Floats, channel: str
) -> Moment:
    """The moment of a record, which holds its markers and features as they were used."""
    return Moment(
        tuple(names),
        indices,
        weights,
        _conditions(release, names),
        _places(names),
        channel,
        (),
    )


def _work_out(
    release: Release,
    context: Context,
    local: LocalTime,
    channel: str,
    language: str,
    places: Sequence[tuple[str, float]],
) -> Moment:
    saliences: dict[str, float] = dict.fromkeys(context.declared, 1.0)
    for name, salience in places:
        saliences[name] = max(salience, saliences.get(name, 0.0))
    saliences.update(dict.fromkeys(time_markers(local.weekday, local.hour), 1.0))
    if channel:
        saliences[_CHANNEL + channel] = 1.0
    if language:
        saliences[LANGUAGE + language] = 1.0
    unknown = [
        ("marker", name)
        for name in context.declared
        if release.catalogue.condition(name) is None and not name.startswith(LANGUAGE)
    ]
    for product in context.basket:
        dna = release.products.dna(product)
        if dna is None:
            unknown.append(("product", product))
        for index, salience_q8 in dna or ():
            if index < len(release.vocabulary):
                name = release.vocabulary.name(index)
                saliences[name] = max(salience_q8 / 256, saliences.get(name, 0.0))
    numbered = [(release.vocabulary.index(name), saliences[name]) for name in saliences]
    known = [(index, salience) for index, salience in numbered if index is not None]
    return Moment(
        tuple(saliences),
        np.array([index for index, _ in known], np.int64),
        np.array([salience for _, salience in known], np.float32),
        _conditions(release, tuple(saliences)),
        _places(tuple(saliences)),
        channel,
        tuple(unknown),
    )


def _conditions(release: Release, names: Sequence[str]) -> tuple[int, ...]:
    found = (release.catalogue.condition(name) for name in names)
    return tuple(number for number in found if number is not None)


def _places(names: Sequence[str]) -> frozenset[str]:
    return frozenset(name for name in names if name.startswith(_PLACE))
