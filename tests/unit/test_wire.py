"""docs/wire.md says what the code does: every reason, every vector file, every prefix."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_sdk.config import Config
from edge_sdk.outbox import frames
from edge_sdk.sync import keys, roles, transport, trust
from edge_sdk.sync.transport import ErrorReason
from edge_sdk.sync.trust import Limits, Refusal
from genome_server.log import framing
from genome_server.services import credentials, errors, serve, sync_pieces, sync_plan

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def first_column(title: str) -> set[str]:
    """The code words in the first column of a section's tables."""
    return set(re.findall(r"^\| `([A-Z_]+)`[ *]*\|", section(title), re.MULTILINE))


def test_every_error_reason_is_explained_and_every_explained_one_exists() -> None:
    documented = first_column("Error reasons")
    assert documented == {reason.value for reason in ErrorReason}
    assert documented == set(errors._CODES)
    assert {reason.value for reason in framing.RefusalReason} <= documented


def test_every_reason_that_the_code_names_is_one() -> None:
    """A refusal made with a misspelt reason would be found only when it happens."""
    named: set[str] = set()
    for path in (ROOT / "server" / "src").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'CallRefusedError\(\s*"([A-Z_]+)"', source))
    assert named
    assert named <= {reason.value for reason in ErrorReason}


def test_every_reason_of_a_nack_is_explained_and_every_explained_one_exists() -> None:
    assert first_column("Reasons of a Nack") == {reason.value for reason in Refusal}


def test_the_reasons_after_which_a_device_leaves_are_marked() -> None:
    from edge_sdk.sync.machine import _HEALED_BY_HELLO

    marked = set(re.findall(r"^\| `([A-Z_]+)` \* \|", section("Reasons of a Nack"), re.MULTILINE))
    assert marked == {reason.value for reason in _HEALED_BY_HELLO}


def test_every_vector_file_is_listed_with_its_section() -> None:
    listed = dict(re.findall(r"^\| `(\w+\.json)` \| \[(\w+)\]", section("Vectors"), re.MULTILINE))
    assert set(listed) == {path.name for path in (ROOT / "proto" / "vectors").glob("*.json")}
    for title in listed.values():
        assert section(title)


def test_prefixes_and_keys_are_written_as_they_are_signed() -> None:
    for prefix in (
        keys.CALL_PREFIX,
        keys.ENROL_PREFIX,
        trust.MANIFEST_PREFIX,
        roles.ROOT_PREFIX,
        roles.TIMESTAMP_PREFIX,
        roles.STOP_LIST_PREFIX,
        roles.TIME_PREFIX,
        credentials.CREDENTIAL_PREFIX,
    ):
        assert prefix.decode().replace("\n", "\\n") in section("What is signed")
    signer = keys.CallSigner(keys.DeviceKey.generate(), b"", keys.ServerClock())
    for name, _ in signer.metadata("/a/b"):
        assert f"`{name}`" in section("Proving a call")
    assert f"`{transport.DETAILS_KEY}`" in section("Error reasons")
    assert trust.MANIFEST_PREFIX == b"genome-edge/manifest/v1\n"


def test_numbers_are_those_of_the_code() -> None:
    sizes = section("Deadlines, retries and sizes")
    limits, config = Limits(), Config()
    mebibyte = 1 << 20
    whole, rest = divmod(serve.MAX_REQUEST_BYTES, mebibyte)
    assert f"| a gRPC message to the server | {whole} MiB + {rest // 1024} KiB |" in sizes
    to_device = transport.MAX_RECEIVE_BYTES // mebibyte
    assert f"| a gRPC message to a device | {to_device} MiB |" in sizes
    assert (
        f"{framing.MAX_BATCH_BYTES // mebibyte} MiB and {framing.MAX_BATCH_EVENTS:,} events; "
        f"the SDK sends {config.batch_bytes // 1024} KiB and {config.batch_events}"
    ) in sizes
    assert f"| body of a frame | {frames.MAX_BODY_BYTES // mebibyte} MiB |" in sizes
    assert f"| a chunk of a part | {limits.chunk_bytes // mebibyte} MiB |" in sizes
    assert (
        f"| a manifest | {limits.manifest_bytes // mebibyte} MiB, {limits.signatures} signatures, "
        f"{limits.parts} parts |"
    ) in sizes
    assert (
        f"| {limits.part_bytes // mebibyte} MiB, {limits.release_bytes // mebibyte} MiB |" in sizes
    )
    assert (
        f"| cap events of a transaction | {limits.cap_events:,}; the server sends some "
        f"{sync_plan.MOST_COUNTED:,}, {sync_pieces.COUNTED_PER_PUT:,} in a `Put` |"
    ) in sizes
    assert f"{config.reconnect_min_s} s to {config.reconnect_max_s:.0f} s" in sizes
    assert f"| `Report` | {config.call_timeout_s:.0f} s |" in sizes
    assert f"device {config.heartbeat_s:.0f} s" in section("Sync")
    assert f"{frames.HEADER_BYTES} bytes before the body" in section("Frames")
    assert credentials.MAX_SKEW_MS == 5 * 60_000
    assert "within five\nminutes" in section("Proving a call")


def test_the_model_is_described_as_it_is_checked() -> None:
    from edge_sdk.engine import policy, release, scoring

    text = section("Model")
    types = {"tensor(int64)": "int64", "tensor(float)": "float32"}
    for name, (kind, rank) in {**scoring._INPUTS, **scoring._OUTPUTS}.items():
        found = re.search(rf"^\| (?:→ )?`{name}` \| (\w+) \[([^\]]*)\]", text, re.MULTILINE)
        assert found, name
        assert (found[1], found[2].count(",") + 1) == (types[kind], rank)
    assert f"`{policy.CONTRACT}`" in text
    assert f"to {release.GOLDEN_TOLERANCE:g}".replace("e-0", "e-") in text
    assert all(f"`{feature}`" in text for feature in trust.FEATURES)


@pytest.mark.parametrize("kind", list(frames.FrameKind))
def test_every_kind_of_frame_is_listed(kind: frames.FrameKind) -> None:
    assert re.search(rf"^\| {kind.value} \| `{kind.name}`", section("Frames"), re.MULTILINE)


def test_the_server_never_sends_more_than_a_device_takes() -> None:
    from genome_server.services import shelf, sync_pieces

    assert Limits().chunk_bytes >= shelf.CHUNK_BYTES
    # A row has at most max_markers indices of five bytes, a strength each, and its columns.
    assert sync_pieces.ROWS_PER_PUT * (64 * 6 + 16 + 32 + 20) < transport.MAX_RECEIVE_BYTES
