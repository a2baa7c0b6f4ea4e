"""Write the vectors of proto/vectors/: what every implementation of the contract must compute.

    python tools/make_vectors.py            # write
    python tools/make_vectors.py --check    # exit 1 where the committed vectors differ

The values come from the plainest arithmetic that says what docs/wire.md says:
fractions, searches in tables, bytes put together by hand. Nothing is imported
from the SDK, so that the vectors check it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import sys
from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "proto" / "vectors"

ONE = 2**24
HALF_LIVES = (1, 2, 3, 5, 7, 24, 168, 720, 1440, 2160, 8760)
STEP = Fraction(1, 1024)


# -- imprint


def mantissa(half_life: int, r: int) -> int:
    """2^24 · 2^(r / half-life), rounded, by bisection on integers alone."""
    low, high = 2**24, 2**25  # the value lies in [low, high)
    wanted = 2 ** (24 * half_life + r)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**half_life <= wanted else (low, middle)
    # Above low + 1/2? Both sides are doubled and raised, to stay with integers. It is never equal.
    up: bool = (2 * low + 1) ** half_life < wanted * 2**half_life
    return low + up


def growth(hours: int, half_life: int) -> Fraction:
    """What a vote is multiplied by, `hours` after the landmark."""
    if half_life == 0:
        return Fraction(1)
    doublings = math.floor(Fraction(hours, half_life))
    rest = hours - doublings * half_life
    return Fraction(mantissa(half_life, rest), ONE) * Fraction(2) ** doublings


def contribution(weight: int, salience: int, hours: int, half_life: int) -> int:
    """What one event adds to one marker; every product is rounded down."""
    vote = math.floor(Fraction(weight * salience, 256))
    if half_life == 0:
        return vote
    doublings = math.floor(Fraction(hours, half_life))
    rest = hours - doublings * half_life
    grown = math.floor(vote * Fraction(mantissa(half_life, rest), ONE))
    return math.floor(grown * Fraction(2) ** doublings)


def ilog2_q8(x: int) -> int:
    """Whole doublings and, in 1/256, how far x is from one power of two to the next."""
    power = 1
    while power * 2 <= x:
        power *= 2
    doublings = len(bin(power)) - 3
    return doublings * 256 + math.floor(Fraction(x - power, power) * 256)


def weight(kind_weight: int, money_weight: int, amount_micros: int) -> int:
    """Weight of an interaction with an amount."""
    units = math.floor(Fraction(max(amount_micros, 0), 1_000_000))
    louder = math.floor(Fraction(money_weight * ilog2_q8(1 + units), 256))
    return min(kind_weight + louder, 32 * ONE)


def imprint_vectors() -> dict[str, Any]:
    """Mantissas, contributions and weights."""
    rng = random.Random(1)
    tables = []
    for half_life in HALF_LIVES:
        count = min(half_life, 24)
        wanted = sorted({0, half_life - 1, *rng.sample(range(half_life), count)})
        tables.append(
            {
                "half_life_hours": half_life,
                "values": [{"r": r, "mantissa": mantissa(half_life, r)} for r in wanted],
            }
        )
    contributions = []
    for half_life in (0, *HALF_LIVES):
        furthest = 25 * half_life if half_life else 10**5
        for hours in sorted({0, 1, -1, furthest, -furthest, *rng.sample(range(-4000, 20), 4)}):
            given = rng.choice([0, 1, ONE // 8, ONE, 2 * ONE + 12_345, 32 * ONE])
            salience = rng.choice([1, 255, 256, 300, 4096])
            contributions.append(
                {
                    "weight_q24": given,
                    "salience_q8": salience,
                    "hours": hours,
                    "half_life_hours": half_life,
                    "contribution": contribution(given, salience, hours, half_life),
                }
            )
    weights = [
        {
            "weight_q24": kind,
            "money_weight_q24": money,
            "amount_micros": amount,
            "result_q24": weight(kind, money, amount),
        }
        for kind, money in ((0, 0), (ONE, 0), (2 * ONE, ONE // 4), (31 * ONE, 3 * ONE))
        for amount in (-5_000_000, 0, 999_999, 1_000_000, 4_990_000, 37_500_000, 10**13)
    ]
    return {
        "about": "docs/wire.md, section Imprint. Weights and mantissas in 2^24 fixed point, "
        "saliences in 1/256, hours since the landmark.",
        "mantissa": tables,
        "contribution": contributions,
        "weight": weights,
    }


# -- encoding


def code_value(code: int) -> int:
    """What a code stands for, in steps of 2^-10."""
    exponent, digit = divmod(code, 8)
    return digit if exponent == 0 else (8 + digit) * 2 ** (exponent - 1)


VALUES = [code_value(code) for code in range(256)]


def quantise(strength_q24: int) -> int:
    """The greatest code that stands for no more than the strength."""
    return bisect_right(VALUES, math.floor(Fraction(strength_q24, ONE) / STEP)) - 1


def quantise2(value: int) -> int:
    """One more than the half octaves that lie below a state value; 0 for 0."""
    code = 0
    while 2**code <= value**2:  # 2^(code / 2) <= value
        code += 1
    return code


def encode(
    state: dict[int, int],
    half_lives: list[int],
    as_of: int,
    profile: dict[int, int],
    most: int,
    distinct: list[int],
) -> list[tuple[int, int, int]]:
    """(index, code, code of quantiser 2) of those that rank highest at hour `as_of`, ascending by
    index: the strongest, or where `distinct` says something the most distinct."""
    strengths = {
        index: math.floor(value / growth(as_of, half_lives[index]))
        for index, value in state.items()
    }
    for index, strength in profile.items():
        strengths[index] = max(strengths.get(index, 0), strength)

    def rank(index: int, strength: int) -> int:
        if not distinct:
            return strength
        weight = ([*distinct, *[192] * len(half_lives)])[index]
        return (ilog2_q8(ONE + strength) - ilog2_q8(ONE)) * weight

    seen = [(-rank(i, s), i, quantise(s)) for i, s in strengths.items() if quantise(s) > 0]
    return sorted(
        (index, code, quantise2(max(state.get(index, 0), profile.get(index, 0))))
        for _, index, code in sorted(seen)[:most]
    )


def encoding_vectors() -> dict[str, Any]:
    """Codes, and rows from states."""
    rng = random.Random(2)
    strengths = sorted(
        {0, 1, 2**14 - 1, 2**14, ONE, ONE - 1, ONE + 1, 2**62, 2**63 - 1}
        | {v * 2**14 + d for v in rng.sample(VALUES, 40) for d in (-1, 0, 1) if v}
        | {rng.randrange(2 ** rng.randrange(1, 50)) for _ in range(40)}
    )
    rows = []
    for case in range(18):
        n = rng.choice([0, 1, 5, 40, 100])
        half_lives = [rng.choice([0, 3, 24, 720, 2160]) for _ in range(max(n, 4))]
        as_of = 0 if n == 0 else rng.randrange(-3000, 70)
        state = {}
        for index in rng.sample(range(len(half_lives)), n):
            factor = rng.choice([Fraction(1, 3000), Fraction(1, 3), Fraction(1), Fraction(7)])
            grown = growth(as_of, half_lives[index]) * ONE * factor
            state[index] = min(math.floor(grown), 2**63 - 1)
        profile = {i: rng.choice([ONE // 2, ONE, 3 * ONE]) for i in range(case % 4)}
        most = rng.choice([8, 64])
        known = n // 2 * (case - 12)  # of the last six cases some markers, then all and more
        distinct = [rng.choice([0, 3, 40, 192]) for _ in range(known)]
        encoded = encode(state, half_lives, as_of, profile, most, distinct)
        rows.append(
            {
                "half_lives_hours": half_lives,
                "as_of_hour": as_of,
                "max_markers": most,
                "distinct": distinct,
                "state": [list(item) for item in sorted(state.items())],
                "profile_q24": [list(item) for item in sorted(profile.items())],
                "indices": [index for index, _, _ in encoded],
                "codes": [code for _, code, _ in encoded],
                "codes_2": [code for _, _, code in encoded],
            }
        )
    return {
        "about": "docs/wire.md, section Rows. Strengths in 2^24 fixed point; a code stands for "
        "`value` steps of 2^-10; states and as_of_hour count from the landmark. `code_2` and "
        "`codes_2` are quantiser 2's, of state values; its rows have the hour 0. Subjects in hex, "
        "64-bit sums as text.",
        "dequantise": VALUES,
        "quantise": [
            {"strength_q24": s, "code": quantise(s), "code_2": quantise2(s)} for s in strengths
        ],
        "rows": rows,
        "row_sums": row_sum_vectors(),
    }


# -- row sums


def split_mix(x: int) -> int:
    """SplitMix64's finaliser."""
    x %= 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def row_sum(subject: bytes, consents: int, hour: int, row: list[tuple[int, int]]) -> int:
    """What a row adds to the sum of all."""
    step = 0x9E3779B97F4A7C15
    high, low = int.from_bytes(subject[:8], "big"), int.from_bytes(subject[8:], "big")
    key = split_mix(split_mix(high + step) ^ low)
    terms = [split_mix(key ^ (hour % 2**32) * 2**32 + consents)]
    terms += [split_mix((key + step) % 2**64 ^ index * 2**8 + code) for index, code in row]
    return sum(terms) % 2**64


def row_sum_vectors() -> list[dict[str, Any]]:
    """Row sums of rows of any size."""
    rng = random.Random(5)
    cases = []
    for n, hour in ((0, 0), (1, 0), (3, -7), (64, 0), (64, 4711)):
        subject, consents = rng.randbytes(16), rng.choice([0, 2, 6, 2**32 - 1])
        indices = sorted(rng.sample(range(2 ** rng.choice([8, 16, 32])), n))
        row = [(index, rng.randrange(1, 256)) for index in indices]
        cases.append(
            {
                "subject": subject.hex(),
                "consents": consents,
                "as_of_hour": hour,
                "indices": [index for index, _ in row],
                "codes": [code for _, code in row],
                "sum": str(row_sum(subject, consents, hour, row)),
            }
        )
    return cases


# -- hashing


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104 by hand; keys of at most 64 bytes."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).digest()


def hashing_vectors() -> dict[str, Any]:
    """Customer lookup hashes, key ids and interaction ids."""
    keys = [bytes(32), bytes(range(32)), hashlib.sha256(b"lookup").digest()]
    customers = ["1", "customer-42", "änne@example.org", "顧客", "x" * 200]
    return {
        "about": "docs/wire.md, section Hashes. Bytes in hex; text is hashed as UTF-8.",
        "lookup": [
            {"key": k.hex(), "customer": c, "hash": hmac_sha256(k, c.encode())[:16].hex()}
            for k in keys
            for c in customers
        ],
        "key_id": [
            {"public_key": k.hex(), "key_id": hashlib.sha256(k).hexdigest()[:16]} for k in keys
        ],
        "interaction": [
            {"interaction_id": c, "hash": hashlib.blake2b(c.encode(), digest_size=16).hexdigest()}
            for c in customers
        ],
    }


# -- frames


def little(value: int, size: int) -> bytes:
    """A number as little-endian bytes, two's complement."""
    return bytes(value >> 8 * i & 0xFF for i in range(size))


def frames_vectors() -> dict[str, Any]:
    """Frames one by one and behind one another."""
    rng = random.Random(3)
    frames = []
    for sequence, kind, time_ms, size in (
        (1, 1, 1_750_000_000_000, 12),
        (2, 0, 1_750_000_000_001, 0),
        (3, 6, -1, 1),
        (2**64 - 1, 65_535, 2**62, 40),
    ):
        subject, body = rng.randbytes(16), rng.randbytes(size)
        parts = [
            little(size, 4),
            little(sequence, 8),
            subject,
            little(kind, 2),
            little(time_ms, 8),
            body,
        ]
        frames.append(
            {
                "sequence": str(sequence),
                "subject": subject.hex(),
                "kind": kind,
                "time_ms": str(time_ms),
                "body": body.hex(),
                "bytes": b"".join(parts).hex(),
            }
        )
    return {
        "about": "docs/wire.md, section Frames. Bytes in hex; 64-bit numbers as text.",
        "frames": frames,
        "batch": "".join(str(frame["bytes"]) for frame in frames),
        "header_bytes": 38,
    }


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "imprint.json": imprint_vectors,
    "encoding.json": encoding_vectors,
    "hashing.json": hashing_vectors,
    "frames.json": frames_vectors,
}


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    check = parser.parse_args().check
    stale = []
    for name, make in FILES.items():
        path = TARGET / name
        text = json.dumps(make(), indent=1, ensure_ascii=False) + "\n"
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
    if stale:
        print("vectors are out of date; run tools/make_vectors.py:", *stale, sep="\n  ")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
