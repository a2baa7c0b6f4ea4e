"""What an interaction does to a genome, in integers only.

Theory. Strengths fade by half-life, so a plain sum would have to be touched
every hour. Instead every contribution is multiplied by its growth since a
fixed landmark hour, 2^(h / half-life): what happened later counts more, nothing
ever has to be touched again, and the strength at hour t is the sum divided by
the growth at t. The sum does not depend on the order, so a nightly build plus
live increments give the same genome as one pass over everything.

Rules.
- Everything is an integer: weights in 2^24 fixed point, saliences in 1/256,
  hours since the landmark. Floats differ from run to run; these do not.
- growth = 2^q · m / 2^24 with q, r = divmod(h, half-life) and m = mantissa(half-life)[r].
- A state value is the sum of contributions, held at 2^63 - 1: adding with a
  ceiling is still associative, so even there the order does not matter.
- More than 25 doublings after the landmark is an error: move the landmark.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final

import numpy as np

from edge_sdk.dna.genome import NOBODY, Row, quantise, quantise2
from edge_sdk.dna.markers import Vocabulary, marker, split
from edge_sdk.dna.schema import (
    HOUR_MS,
    MAX_DOUBLINGS,
    MAX_HALF_LIFE_HOURS,
    MAX_SALIENCE_Q8,
    MAX_WEIGHT_Q24,
    MOST_DISTINCT,
    ONE_Q24,
    DnaSchema,
)
from edge_sdk.errors import FormatError, LandmarkExhausted, UsageError

STATE_MAX: Final = (1 << 63) - 1
_SMALLEST_Q24: Final = 1 << 14  # what quantiser 1's code 1 stands for; fainter is left out
_ONE_LOG2_Q8: Final = 24 << 8
_MICROS: Final = 1_000_000
_STATE_HEAD: Final = struct.Struct("<BqI")
_STATE_VERSION: Final = 1
_NEVER: Final = -1


def hour_of(unix_ms: int) -> int:
    """Hours since the Unix epoch, rounded down."""
    return unix_ms // HOUR_MS


@lru_cache(maxsize=256)
def mantissa(half_life_hours: int) -> tuple[int, ...]:
    """2^24 · 2^(r / half-life) for r = 0 … half-life - 1, each rounded half to even.

    Raises `UsageError` for a half-life below 1 or above ten years.
    """
    if not 1 <= half_life_hours <= MAX_HALF_LIFE_HOURS:
        raise UsageError(f"a half-life that fades has 1 to {MAX_HALF_LIFE_HOURS} hours")
    from decimal import ROUND_HALF_EVEN, Context, Decimal  # few tables are ever worked out

    # 60 digits: after 10^5 products the error is below 10^-50, while no
    # irrational 2^(r/n) lies that close to a half.
    exact = Context(prec=60, rounding=ROUND_HALF_EVEN)
    step = exact.power(Decimal(2), exact.divide(Decimal(1), Decimal(half_life_hours)))
    values = []
    growth = Decimal(ONE_Q24)
    for _ in range(half_life_hours):
        values.append(int(growth.to_integral_value(ROUND_HALF_EVEN)))
        growth = exact.multiply(growth, step)
    return tuple(values)


def ilog2_q8(x: int) -> int:
    """log2 of a positive integer in 1/256, by its top bits: exact at powers of two, else below."""
    bits = x.bit_length() - 1
    top = x >> (bits - 8) if bits >= 8 else x << (8 - bits)
    return (bits << 8) + (top & 0xFF)


def event_weight(schema: DnaSchema, kind: str, amount_micros: int = 0, dwell_ms: int = 0) -> int:
    """Weight of an interaction in q24: that of its kind, and more with each doubling of the amount
    and of the time spent.

    A negative amount (a refund) weighs like none. Raises `UsageError` for an unknown kind.
    """
    rule = schema.kind(kind)
    units = max(amount_micros, 0) // _MICROS
    weight = rule.weight_q24 + ((rule.money_weight_q24 * ilog2_q8(1 + units)) >> 8)
    if rule.dwell_weight_q24:
        seconds = max(dwell_ms, 0) // 1000
        weight += (rule.dwell_weight_q24 * ilog2_q8(1 + seconds)) >> 8
    return min(weight, MAX_WEIGHT_Q24)


def beside(
    schema: DnaSchema, kind: str, tender: str, moment: Iterable[str]
) -> list[tuple[str, int]]:
    """(marker, salience_q8) that an interaction imprints beside its DNA.

    Of `tender` and the markers of the moment, those whose namespaces the kind names; a tender that
    is no marker gives none. Raises `UsageError` for an unknown kind.
    """
    wanted = schema.kind(kind).beside
    names = [name for name in moment if name.partition(":")[0] in wanted]
    if tender and "tender" in wanted:
        with suppress(UsageError):
            names.append(marker("tender", tender))
    return [(name, 256) for name in dict.fromkeys(names)]


def explode(
    schema: DnaSchema, kind: str, dna: Iterable[tuple[str, int]]
) -> list[tuple[str, int, int]]:
    """The markers that an interaction imprints: (marker, salience_q8, half-life in hours).

    The kind's prefix is put before each namespace. Saliences are held to
    1 … 4096. Raises `UsageError` for an unknown kind, `InvalidMarker`.
    """
    prefix = schema.kind(kind).marker_prefix
    exploded = []
    for name, salience_q8 in dna:
        namespace, _ = split(name)
        half_life = schema.half_life(prefix + namespace)
        exploded.append((prefix + name, _salience(salience_q8), half_life))
    return exploded


def _salience(salience_q8: int) -> int:
    return min(max(salience_q8, 1), MAX_SALIENCE_Q8)


def vote(weight_q24: int, salience_q8: int) -> int:
    """What one marker gets from one event before growth, in q24."""
    return (weight_q24 * salience_q8) >> 8


def grow(vote_q24: int, hours: int, half_life_hours: int) -> int:
    """A vote times its growth at `hours` since the landmark (may be negative).

    Raises `LandmarkExhausted` more than 25 half-lives after the landmark.
    """
    if half_life_hours == 0:
        return vote_q24
    q, r = divmod(hours, half_life_hours)
    if q > MAX_DOUBLINGS:
        raise LandmarkExhausted(
            f"{hours} hours after the landmark are more than {MAX_DOUBLINGS} half-lives "
            f"of {half_life_hours} hours"
        )
    grown = (vote_q24 * mantissa(half_life_hours)[r]) >> 24
    return grown << q if q >= 0 else grown >> -q


def shrink(state: int, hours: int, half_life_hours: int) -> int:
    """The strength in q24 that a state value has at `hours` since the landmark."""
    if half_life_hours == 0:
        return state
    q, r = divmod(hours, half_life_hours)
    scaled = (state << 24) >> q if q >= 0 else (state << 24) << -q
    return scaled // mantissa(half_life_hours)[r]


def contribution(weight_q24: int, salience_q8: int, hours: int, half_life_hours: int) -> int:
    """What one event adds to one marker's state; `hours` since the landmark.

    Raises `LandmarkExhausted` more than 25 half-lives after the landmark.
    """
    return grow(vote(weight_q24, salience_q8), hours, half_life_hours)


class GenomeState:
    """The full genome of one customer: marker index → int64 sum, and the newest imprint's hour.

    `newest_hour` counts from the Unix epoch and is None before the first imprint.
    """

    __slots__ = ("newest_hour", "values")

    def __init__(self, values: Mapping[int, int] | None = None, newest_hour: int | None = None):
        self.values: dict[int, int] = dict(values or {})
        self.newest_hour = newest_hour

    def add(self, index: int, contribution: int, hour: int) -> None:
        """Add one contribution of an event at `hour` (since the Unix epoch)."""
        self.gain([(index, contribution)], hour)

    def gain(self, contributions: Iterable[tuple[int, int]], hour: int) -> None:
        """Add all that one event at `hour` contributes: (index, contribution)."""
        values = self.values
        for index, contribution in contributions:
            total = values.get(index, 0) + contribution
            values[index] = min(total, STATE_MAX)
        self.touch(hour)

    def touch(self, hour: int) -> None:
        """Note that something happened at `hour`."""
        if self.newest_hour is None or hour > self.newest_hour:
            self.newest_hour = hour

    def merge(self, other: GenomeState) -> None:
        """Add everything that the other state holds."""
        for index, value in other.values.items():
            self.values[index] = min(self.values.get(index, 0) + value, STATE_MAX)
        if other.newest_hour is not None:
            self.touch(other.newest_hour)

    def to_bytes(self) -> bytes:
        """Canonical: equal states give equal bytes."""
        indices = sorted(self.values)
        newest = _NEVER if self.newest_hour is None else self.newest_hour
        return b"".join(
            (
                _STATE_HEAD.pack(_STATE_VERSION, newest, len(indices)),
                np.array(indices, dtype="<u4").tobytes(),
                np.array([self.values[index] for index in indices], dtype="<i8").tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> GenomeState:
        """Read what `to_bytes` wrote. Raises `FormatError`."""
        if len(data) < _STATE_HEAD.size:
            raise FormatError("a genome state is cut")
        version, newest, n = _STATE_HEAD.unpack_from(data)
        if version != _STATE_VERSION or len(data) != _STATE_HEAD.size + 12 * n:
            raise FormatError("a genome state is cut or of another version")
        indices = np.frombuffer(data, "<u4", n, _STATE_HEAD.size)
        values = np.frombuffer(data, "<i8", n, _STATE_HEAD.size + 4 * n)
        state = cls(newest_hour=None if newest == _NEVER else newest)
        state.values = dict(zip(indices.tolist(), values.tolist(), strict=True))
        return state

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(sorted(self.values.items()))

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GenomeState):
            return NotImplemented
        return self.values == other.values and self.newest_hour == other.newest_hour

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"GenomeState({len(self)} markers, newest hour {self.newest_hour})"


def profile_strengths(
    schema: DnaSchema, vocabulary: Vocabulary, markers: Iterable[tuple[str, int]]
) -> dict[int, int]:
    """Strengths in q24 by index of a customer's profile facts, (marker, salience_q8).

    Facts are set, not summed: of one that stands twice the stronger counts.
    Markers outside the vocabulary, and those of namespaces that are not a
    profile's, have none.
    """
    strengths: dict[int, int] = {}
    for name, salience_q8 in markers:
        index = vocabulary.index(name)
        weight = schema.profile_weight(split(name)[0])
        if index is not None and weight:
            strength = vote(weight, _salience(salience_q8))
            strengths[index] = max(strengths.get(index, 0), strength)
    return strengths


def rank(strength: int, index: int, distinct: bytes) -> int:
    """What a marker of this strength (q24) stays in a row by, under `DnaSchema.distinct`."""
    if not distinct:
        return strength
    weight = distinct[index] if index < len(distinct) else MOST_DISTINCT
    return (ilog2_q8(ONE_Q24 + strength) - _ONE_LOG2_Q8) * weight


def encode_row(
    state: GenomeState,
    profile: Mapping[int, int],
    schema: DnaSchema,
    vocabulary: Vocabulary,
    *,
    subject: bytes = NOBODY,
    consents: int = 0,
) -> Row:
    """Quantise a state and a profile (index → q24) into the row that devices hold.

    The `max_markers` of highest `rank` at the hour of the newest imprint stay, and of a
    namespace as many as its quota; ties go to the smaller index. Their codes are
    those of the schema's quantiser: 1 says the strength at that hour, 2 the state itself.
    """
    as_of = 0 if state.newest_hour is None else state.newest_hour - schema.landmark_hour
    half_lives = schema.half_lives(vocabulary)
    strengths = dict(profile)
    for index, value in state.values.items():
        strength = shrink(value, as_of, int(half_lives[index]))
        if strength >= _SMALLEST_Q24 and strength > strengths.get(index, 0):
            strengths[index] = strength
    ranked = sorted(
        (index for index, strength in strengths.items() if strength >= _SMALLEST_Q24),
        key=lambda index: (-rank(strengths[index], index, schema.distinct), index),
    )
    if schema.quotas:
        left = dict(schema.quotas)
        fits = []
        for index in ranked:
            namespace = vocabulary.name(index).partition(":")[0]
            room = left.get(namespace, 1)
            if room:
                fits.append(index)
                if namespace in left:
                    left[namespace] = room - 1
        ranked = fits
    kept = [(index, strengths[index]) for index in sorted(ranked[: schema.max_markers])]
    if schema.quantiser == 1:
        codes = [quantise(strength) for _, strength in kept]
    else:
        as_of = 0
        codes = [
            quantise2(max(state.values.get(index, 0), profile.get(index, 0))) for index, _ in kept
        ]
    return Row(
        subject=subject,
        consents=consents,
        as_of_hour=as_of,
        indices=np.array([index for index, _ in kept], dtype=np.uint32),
        codes=np.array(codes, dtype=np.uint8),
    )
