"""What a context means under a release: markers, their numbers, places, channel.

The same contexts come again and again (a kiosk has a few dozen in its life), so what one means is
worked out once and then found under what it says.

What went on before fades: its salience halves with each half-life in the moment that the DNA schema
gives its namespace, in eighths of a half-life, so that a moment is worked out anew only once in an
eighth. While something else of its namespace goes on, it counts as if it were a half-life older.
After `_FORGOTTEN` eighths it is out of the moment. Until then rules find it like any other marker:
they ask whether something is there, the score asks how much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
# Kinds of place, and what is at most some cells away from one.
_PLACES: Final = ("place:", "around-")
# Salience after so many eighths of a half-life; at a sixteenth it is forgotten.
_FADING: Final = tuple(2.0 ** (-step / 8) for step in range(32))
_FORGOTTEN: Final = len(_FADING)
# Offers are written in it; few release ask for it as a marker.
LANGUAGE: Final = "language:"


class Moment(NamedTuple):
    """A context in a release's terms.

    `names` are all its markers; `indices` int64[n] and `weights` float32[n] those that the
    vocabulary has; `conditions` the ids under which offers may ask for them; `unknown` names
    (kind, name) that the app said and the release does not know; `saliences_q8` the saliences of
    `names` in 1/256, none where all have 256.
    """

    names: tuple[str, ...]
    indices: Indices
    weights: Floats
    conditions: tuple[int, ...]
    places: frozenset[str]
    channel: str
    unknown: tuple[tuple[str, str], ...]
    saliences_q8: tuple[int, ...] = ()


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
        fading(release, context.earlier, context.declared) if context.earlier else (),
        context.noticed,
    )
    known: Moment | None = release.moments.get(key)
    if known is None:
        known = _work_out(release, context, local, channel, language, places, key[-2])
        if len(release.moments) >= _REMEMBERED:
            release.moments = {}
        release.moments[key] = known
    return known


def fading(
    release: Release, earlier: Iterable[tuple[str, float]], declared: Iterable[str] = ()
) -> tuple[tuple[str, int], ...]:
    """What of `earlier` (markers, each with its seconds ago) still counts beside what is declared:
    markers by name, each with how many eighths of its half-life older than now it counts."""
    found: dict[str, int] = {}
    now = {name[: name.index(":")] for name in declared}
    for name, ago_s in earlier:
        namespace = name[: name.index(":")]
        half_life_s = release.schema.moment_half_life(namespace)
        if half_life_s and ago_s < half_life_s * (_FORGOTTEN / 8):
            step = int(8 * ago_s / half_life_s) + (8 if namespace in now else 0)
            if step < _FORGOTTEN:
                found[name] = min(step, found.get(name, step))
    return tuple(sorted(found.items()))


def recorded_moment(
    release: Release,
    names: Sequence[str],
    indices: Indices,
    weights: Floats,
    channel: str,
    saliences_q8: Sequence[int] = (),
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
        tuple(saliences_q8),
    )


def _work_out(
    release: Release,
    context: Context,
    local: LocalTime,
    channel: str,
    language: str,
    places: Sequence[tuple[str, float]],
    faded: Sequence[tuple[str, int]],
) -> Moment:
    saliences: dict[str, float] = dict.fromkeys(context.declared, 1.0)
    unknown = [
        ("marker", name)
        for name in dict.fromkeys((*context.declared, *(name for name, _ in faded)))
        if release.catalogue.condition(name) is None and not name.startswith(LANGUAGE)
    ]
    for name, step in faded:
        saliences.setdefault(name, _FADING[step])
    for name, salience in context.noticed:
        saliences[name] = max(salience, saliences.get(name, 0.0))
    for name, salience in places:
        saliences[name] = max(salience, saliences.get(name, 0.0))
    saliences.update(dict.fromkeys(time_markers(local.weekday, local.hour), 1.0))
    if channel:
        saliences[_CHANNEL + channel] = 1.0
    if language:
        saliences[LANGUAGE + language] = 1.0
    for product in context.basket:
        dna = release.products.dna(product)
        if dna is None:
            unknown.append(("product", product))
        for index, salience_q8 in dna or ():
            if index < len(release.vocabulary):
                name = release.vocabulary.name(index)
                saliences[name] = max(salience_q8 / 256, saliences.get(name, 0.0))
    rounded = tuple(max(1, round(256 * salience)) for salience in saliences.values())
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
        rounded if any(salience != 256 for salience in rounded) else (),
    )


def _conditions(release: Release, names: Sequence[str]) -> tuple[int, ...]:
    found = (release.catalogue.condition(name) for name in names)
    return tuple(number for number in found if number is not None)


def _places(names: Sequence[str]) -> frozenset[str]:
    return frozenset(name for name in names if name.startswith(_PLACES))
