"""Bodies of many events taken apart into columns: what is usual in them.

Step by step, one field of each body in a step, whatever order the fields come in. A body is unusual
that has explicit DNA, consent or a link, an unknown field, a message or a name that comes twice,
text beyond ASCII where nobody reads it, a number beyond 56 bits, or very many fields; of such a
body nothing is said.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

_Ints = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]

# Where in a body we are, and what to do with a field there.
NO_PAYLOAD, _TIME, INTERACTION, OUTCOME = range(4)
(
    _UNUSUAL,
    _PASSED,
    _TEXT,
    _ENTER_TIME,
    _ENTER_INTERACTION,
    _ENTER_OUTCOME,
    WALL,
    OFFSET,
    KNOWN,
    ID,
    KIND,
    PRODUCT,
    OFFER,
    AMOUNT,
    _BESIDE,
) = range(15)
_ENTERED: Final = {_ENTER_TIME: _TIME, _ENTER_INTERACTION: INTERACTION, _ENTER_OUTCOME: OUTCOME}
_NAMING: Final = frozenset({KIND, PRODUCT, OFFER})
_VARINT, _DELIMITED = 0, 2
_FIELDS: Final = {
    NO_PAYLOAD: {
        (1, _DELIMITED): _ENTER_TIME,
        (2, _DELIMITED): _ENTER_INTERACTION,
        (4, _DELIMITED): _ENTER_OUTCOME,
    },
    _TIME: {
        (1, _VARINT): WALL,
        (2, _VARINT): _PASSED,
        (3, _DELIMITED): _PASSED,
        (4, _VARINT): OFFSET,
        (5, _VARINT): KNOWN,
    },
    INTERACTION: {
        (1, _DELIMITED): ID,
        (2, _DELIMITED): KIND,
        (3, _DELIMITED): PRODUCT,
        (4, _DELIMITED): OFFER,
        (6, _VARINT): AMOUNT,
        (7, _DELIMITED): _TEXT,
        (8, _VARINT): _PASSED,
        (9, _DELIMITED): _TEXT,
        (10, _VARINT): _PASSED,
        (11, _DELIMITED): _TEXT,
        (12, _DELIMITED): _TEXT,
    },
    OUTCOME: {
        (1, _DELIMITED): _PASSED,
        (2, _VARINT): _PASSED,
        (3, _DELIMITED): KIND,
        (4, _DELIMITED): OFFER,
        (5, _VARINT): AMOUNT,
        (6, _DELIMITED): ID,
        (7, _DELIMITED): _TEXT,
    },
}
"""By place: (number, wire type) of the fields of an Event that are usual."""


# Fields of an interaction that count where the schema says so of a kind.
TENDER, DWELL, MOMENT = 9, 10, 11


@lru_cache(maxsize=8)
def _actions(counted: frozenset[int]) -> _Bytes:
    table = np.full((len(_FIELDS), 256), _UNUSUAL, np.uint8)
    for place, fields in _FIELDS.items():
        for (number, wire), action in fields.items():
            table[place, number << 3 | wire] = action
    for number in counted:
        wire = _VARINT if number == DWELL else _DELIMITED
        table[INTERACTION, number << 3 | wire] = _UNUSUAL if number == DWELL else _BESIDE
    return table


# Bits of a varint that fit without a sign; and what is read beyond the end of the last body.
_MOST_BITS: Final = 56
# Fields of a usual body. A step costs the same for one body as for many: none may ask for
# half a million of them.
_MOST_FIELDS: Final = 128
PADDING: Final = bytes(16)


class Fields:
    """What the bodies of n events say; where `unusual`, it is not known."""

    def __init__(self, n: int) -> None:
        self.unusual = np.zeros(n, bool)
        self.timed = np.zeros(n, bool)
        self.payload = np.full(n, NO_PAYLOAD)
        self.values = {code: np.zeros(n, np.int64) for code in (WALL, OFFSET, KNOWN, AMOUNT)}
        self.begin = {code: np.zeros(n, np.int64) for code in (ID, KIND, PRODUCT, OFFER)}
        self.end = {code: np.zeros(n, np.int64) for code in (ID, KIND, PRODUCT, OFFER)}
        # The part of the body that says what was done to what, and where the amount ends if that
        # belongs to it.
        self.low = np.full(n, np.iinfo(np.int64).max)
        self.high = np.zeros(n, np.int64)
        self.paid = np.zeros(n, np.int64)
        # The part with everything that goes beside its DNA; whole fields, others may be among them.
        self.beside_low = np.full(n, np.iinfo(np.int64).max)
        self.beside_high = np.zeros(n, np.int64)

    def beside(self, rows: _Ints, at: _Ints, end: _Ints) -> None:
        """Note a field, from `at` to `end`, of what goes beside the DNA of some events."""
        self.beside_low[rows] = np.minimum(self.beside_low[rows], at)
        self.beside_high[rows] = end

    def take(
        self, code: int, rows: _Ints, at: _Ints, value: _Ints, begin: _Ints, end: _Ints
    ) -> None:
        """Note a field of some events: its tag at `at`, its content from `begin` to `end`."""
        if code in self.values:
            # The one number that is a zigzag: 0, -1, 1, -2 ...
            self.values[code][rows] = (value >> 1) ^ -(value & 1) if code == OFFSET else value
        elif code in self.begin:
            self.begin[code][rows], self.end[code][rows] = begin, end
        if code == AMOUNT or code in _NAMING:
            self.low[rows] = np.minimum(self.low[rows], at)
            self.paid[rows] = end
            if code != AMOUNT:
                self.high[rows] = end

    def text(self, raw: bytes, code: int, row: int) -> bytes:
        """The content of a field of one event."""
        return raw[self.begin[code][row] : self.end[code][row]]

    def enter(self, code: int, rows: _Ints) -> npt.NDArray[np.bool_]:
        """Note a message within; where there was one already, it is unusual."""
        if code == _ENTER_TIME:
            again = self.timed[rows]
            self.timed[rows] = True
        else:
            again = self.payload[rows] != NO_PAYLOAD
            self.payload[rows] = _ENTERED[code]
        return again


def take_apart(
    data: _Bytes, begin: _Ints, end: _Ints, counted: frozenset[int] = frozenset()
) -> Fields:
    """The fields of the bodies that lie from `begin` to `end`; 16 bytes follow the last one.

    Of the fields of an interaction in `counted` (by number), what goes beside its DNA is found too;
    one with a time spent is unusual.
    """
    table = _actions(counted)
    found = Fields(len(begin))
    rows, at, stop = np.arange(len(begin)), begin.copy(), end.copy()
    place = np.full(len(begin), NO_PAYLOAD)
    plain: _Ints | None = None
    for _ in range(_MOST_FIELDS):
        if not len(rows):
            break
        back = (at == stop) & (place != NO_PAYLOAD)
        if back.any():
            place[back], stop[back] = NO_PAYLOAD, end[rows[back]]
        going = at < stop
        if not going.all():
            rows, at, stop, place = (column[going] for column in (rows, at, stop, place))
        tags = data[at]
        actions = table[place, tags]
        value, inside, unusual = _varints(data, at + 1)
        after = inside + np.where(tags & 7 == _DELIMITED, value, 0)
        unusual |= (actions == _UNUSUAL) | (after > stop)
        after[unusual] = at[unusual]
        to = after.copy()
        for code in np.flatnonzero(np.bincount(actions)).tolist():
            those = np.flatnonzero((actions == code) & ~unusual)
            if code in _ENTERED:
                unusual[those] |= found.enter(code, rows[those])
                place[those], stop[those], to[those] = _ENTERED[code], after[those], inside[those]
            elif code in (_TEXT, _BESIDE):
                # Nobody reads it here; a reader would refuse an event whose text is none.
                plain = _beyond_ascii(data) if plain is None else plain
                unusual[those] |= plain[after[those]] != plain[inside[those]]
                if code == _BESIDE:
                    found.beside(rows[those], at[those], after[those])
            else:
                if code in found.end:
                    # Of two names the last one counts; a reader would refuse one that is no text.
                    unusual[those] |= found.end[code][rows[those]] != 0
                columns = (rows, at, value, inside, after)
                found.take(code, *(column[those] for column in columns))
        at = to
        if unusual.any():
            found.unusual[rows[unusual]] = True
            rows, at, stop, place = (column[~unusual] for column in (rows, at, stop, place))
    found.unusual[rows] = True
    return found


def _varints(data: _Bytes, at: _Ints) -> tuple[_Ints, _Ints, npt.NDArray[np.bool_]]:
    """The numbers that begin there, what follows them, and whether they are too long."""
    byte = data[at].astype(np.int64)
    value, after = byte & 0x7F, at + 1
    more = np.flatnonzero(byte & 0x80)
    for shift in range(7, _MOST_BITS, 7):
        if not len(more):
            break
        byte = data[after[more]].astype(np.int64)
        value[more] |= (byte & 0x7F) << shift
        after[more] += 1
        more = more[byte >= 0x80]
    long = np.zeros(len(at), bool)
    long[more] = True
    return value, after, long


def _beyond_ascii(data: _Bytes) -> _Ints:
    """At each place, how many bytes before it are no ASCII."""
    counts = np.zeros(len(data) + 1, np.int64)
    np.cumsum(data >= 0x80, out=counts[1:])
    return counts
