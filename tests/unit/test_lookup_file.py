"""Customer ids find their subjects, and only with the key."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.errors import StoreCorrupt
from edge_sdk.store.lookup_file import LookupFile, lookup_hash
from tests.unit.stored_files import write_lookup

HASH = st.binary(min_size=16, max_size=16)


def test_a_hash_is_keyed() -> None:
    digest = hmac.new(b"key", "Jörg".encode(), hashlib.sha256).digest()[:16]
    assert lookup_hash(b"key", "Jörg") == digest
    assert lookup_hash(b"other", "Jörg") != digest


@given(pairs=st.dictionaries(HASH, HASH, max_size=20), missing=HASH)
def test_every_pair_comes_back(
    tmp_path_factory: pytest.TempPathFactory, pairs: dict[bytes, bytes], missing: bytes
) -> None:
    path = tmp_path_factory.mktemp("lookup") / "file"
    assert write_lookup(path, pairs.items()) == len(pairs)
    found = LookupFile.open(path)
    assert len(found) == len(pairs)
    assert dict(found) == pairs
    assert all(found.subject(hash_) == subject for hash_, subject in pairs.items())
    assert found.subject(missing) == pairs.get(missing)


def test_hashes_that_begin_alike(tmp_path: Path) -> None:
    pairs = {bytes(8) + bytes([0] * 7 + [i]): bytes([i]) * 16 for i in range(5)}
    write_lookup(tmp_path / "file", pairs.items())
    found = LookupFile.open(tmp_path / "file")
    assert [found.subject(hash_) for hash_ in pairs] == list(pairs.values())


def test_the_last_pair_of_a_hash_counts(tmp_path: Path) -> None:
    write_lookup(tmp_path / "file", [(b"h" * 16, b"a" * 16), (b"h" * 16, b"b" * 16)])
    assert LookupFile.open(tmp_path / "file").subject(b"h" * 16) == b"b" * 16


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_lookup(path, [(os.urandom(16), os.urandom(16)) for _ in range(2)])
    whole = path.read_bytes()
    padding = range(20, 32)
    for at in range(len(whole)):
        if at in padding:
            continue
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StoreCorrupt):
            LookupFile.open(path)
    for length in (0, 5, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(StoreCorrupt):
            LookupFile.open(path)
    path.unlink()
    with pytest.raises(StoreCorrupt):
        LookupFile.open(path)
