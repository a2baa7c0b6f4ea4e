"""The SDK computes what the vectors beside the contract say."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.dna.columns import row_sum_of
from edge_sdk.dna.genome import Row, dequantise, quantise, quantise2
from edge_sdk.dna.imprint import GenomeState, contribution, encode_row, event_weight, mantissa
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema, KindRule, NamespaceRule
from edge_sdk.outbox.frames import HEADER_BYTES, Frame, encode_frame, iter_frames
from edge_sdk.store.lookup_file import lookup_hash
from edge_sdk.sync.trust import key_id

VECTORS = Path(__file__).parents[2] / "proto" / "vectors"
LANDMARK = 480_000


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return document


def test_mantissas() -> None:
    for table in load("imprint.json")["mantissa"]:
        known = mantissa(table["half_life_hours"])
        assert len(known) == table["half_life_hours"]
        for value in table["values"]:
            assert known[value["r"]] == value["mantissa"]


def test_contributions() -> None:
    for case in load("imprint.json")["contribution"]:
        wanted = case.pop("contribution")
        assert contribution(**case) == wanted, case


def test_weights() -> None:
    for case in load("imprint.json")["weight"]:
        rule = KindRule("buy", case["weight_q24"], case["money_weight_q24"])
        schema = DnaSchema(1, LANDMARK, (), (rule,), 24)
        assert event_weight(schema, "buy", case["amount_micros"]) == case["result_q24"], case


def test_codes() -> None:
    vectors = load("encoding.json")
    assert [dequantise(code) * 1024 for code in range(256)] == vectors["dequantise"]
    for case in vectors["quantise"]:
        assert quantise(case["strength_q24"]) == case["code"], case
        assert quantise2(case["strength_q24"]) == case["code_2"], case


@pytest.mark.parametrize("quantiser", [1, 2])
@pytest.mark.parametrize("case", load("encoding.json")["rows"])
def test_rows(case: dict[str, Any], quantiser: int) -> None:
    half_lives = case["half_lives_hours"]
    schema = DnaSchema(
        epoch=1,
        landmark_hour=LANDMARK,
        namespaces=tuple(NamespaceRule(f"h{i}", h) for i, h in enumerate(half_lives)),
        kinds=(),
        default_half_life_hours=0,
        max_markers=case["max_markers"],
        distinct=bytes(case["distinct"]),
        quantiser=quantiser,
    )
    vocabulary = Vocabulary(bytes(16), [f"h{i}:x" for i in range(len(half_lives))])
    newest = LANDMARK + case["as_of_hour"] if case["state"] else None
    row = encode_row(
        GenomeState(dict(case["state"]), newest), dict(case["profile_q24"]), schema, vocabulary
    )
    assert row.as_of_hour == (case["as_of_hour"] if quantiser == 1 else 0)
    assert row.indices.tolist() == case["indices"]
    assert row.codes.tolist() == case["codes" if quantiser == 1 else "codes_2"]


@pytest.mark.parametrize("case", load("encoding.json")["row_sums"])
def test_row_sums(case: dict[str, Any]) -> None:
    row = Row(
        bytes.fromhex(case["subject"]),
        case["consents"],
        case["as_of_hour"],
        np.array(case["indices"], np.uint32),
        np.array(case["codes"], np.uint8),
    )
    assert row_sum_of(row) == int(case["sum"])


def test_hashes() -> None:
    vectors = load("hashing.json")
    for case in vectors["lookup"]:
        assert lookup_hash(bytes.fromhex(case["key"]), case["customer"]).hex() == case["hash"]
    for case in vectors["key_id"]:
        assert key_id(bytes.fromhex(case["public_key"])) == case["key_id"]
    for case in vectors["interaction"]:
        digest = hashlib.blake2b(case["interaction_id"].encode(), digest_size=16)
        assert digest.hexdigest() == case["hash"]


def test_frames() -> None:
    vectors = load("frames.json")
    assert vectors["header_bytes"] == HEADER_BYTES
    frames = [
        Frame(
            sequence=int(case["sequence"]),
            subject=bytes.fromhex(case["subject"]),
            kind=case["kind"],
            time_ms=int(case["time_ms"]),
            body=bytes.fromhex(case["body"]),
        )
        for case in vectors["frames"]
    ]
    for frame, case in zip(frames, vectors["frames"], strict=True):
        assert encode_frame(frame).hex() == case["bytes"]
    assert list(iter_frames(bytes.fromhex(vectors["batch"]))) == frames
