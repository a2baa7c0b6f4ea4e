"""What is believed, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.sync.keys import CallSigner, DeviceKey, ServerClock, call_message, enrol_message
from genome_server.services import credentials
from genome_server.services.errors import CallRefusedError

NOW = 1_800_000_000_000
METHOD = "/genome_edge.v1.ReportService/Report"
TENANT_KEY = DeviceKey.generate()
DEVICE_KEY = DeviceKey.generate()
CREDENTIAL = credentials.issue(TENANT_KEY, "acme", "dev-1", DEVICE_KEY.public, NOW)


def reason(call: object) -> str:
    with pytest.raises(CallRefusedError) as caught:
        call()  # type: ignore[operator]
    return caught.value.reason


def test_a_credential_says_who_and_is_signed() -> None:
    claimed = credentials.parse(CREDENTIAL)
    assert (claimed.tenant, claimed.device_id) == ("acme", "dev-1")
    assert claimed.public_key == DEVICE_KEY.public
    credentials.check_issuer(claimed, TENANT_KEY.public)
    other = DeviceKey.generate().public
    assert reason(lambda: credentials.check_issuer(claimed, other)) == "UNAUTHENTICATED"


@given(st.integers(0, len(CREDENTIAL) - 1), st.integers(1, 255))
def test_no_byte_of_a_credential_can_be_changed(position: int, flip: int) -> None:
    changed = bytearray(CREDENTIAL)
    changed[position] ^= flip

    def believe() -> None:
        credentials.check_issuer(credentials.parse(bytes(changed)), TENANT_KEY.public)

    assert reason(believe) == "UNAUTHENTICATED"


def test_what_the_sdk_signs_is_believed() -> None:
    clock = ServerClock(0, wall_ms=lambda: NOW)
    made = dict(CallSigner(DEVICE_KEY, CREDENTIAL, clock).metadata(METHOD))
    proof, at = made["genome-edge-proof-bin"], int(made["genome-edge-time"])
    assert isinstance(proof, bytes)

    def check(**changes: object) -> None:
        given: dict[str, object] = {
            "public_key": DEVICE_KEY.public, "proof": proof, "method": METHOD,
            "time_ms": at, "credential": CREDENTIAL, "now_ms": NOW, **changes,
        }  # fmt: skip
        credentials.check_proof(**given)  # type: ignore[arg-type]

    check()
    check(now_ms=NOW + credentials.MAX_SKEW_MS)
    check(now_ms=NOW - credentials.MAX_SKEW_MS)
    assert reason(lambda: check(now_ms=NOW + credentials.MAX_SKEW_MS + 1)) == "CLOCK_SKEW"
    assert reason(lambda: check(now_ms=NOW - credentials.MAX_SKEW_MS - 1)) == "CLOCK_SKEW"
    for wrong in (
        {"public_key": DeviceKey.generate().public},
        {"method": "/genome_edge.v1.SyncService/Sync"},
        {"time_ms": at + 1},
        {"credential": CREDENTIAL + b"x"},
        {"proof": proof[:-1]},
        {"public_key": b"short"},
    ):
        assert reason(lambda wrong=wrong: check(**wrong)) == "UNAUTHENTICATED"


def test_the_refusal_of_a_clock_tells_the_time() -> None:
    proof = DEVICE_KEY.sign(call_message(METHOD, 5, CREDENTIAL))
    with pytest.raises(CallRefusedError) as caught:
        credentials.check_proof(DEVICE_KEY.public, proof, METHOD, 5, CREDENTIAL, NOW)
    assert caught.value.facts == {"server_time_ms": str(NOW)}


def test_an_enrolment_proves_the_private_key() -> None:
    proof = DEVICE_KEY.sign(enrol_message("acme.CODE"))
    credentials.check_enrolment(DEVICE_KEY.public, proof, "acme.CODE")
    with pytest.raises(CallRefusedError):
        credentials.check_enrolment(DEVICE_KEY.public, proof, "acme.OTHER")
    assert reason(lambda: credentials.check_enrolment(b"x", proof, "c")) == "INVALID_ARGUMENT"


def test_secrets_name_their_tenant_and_nothing_else() -> None:
    code, bearer = credentials.new_code("acme-1"), credentials.new_bearer("acme-1")
    assert credentials.tenant_of(code) == credentials.tenant_of(bearer) == "acme-1"
    assert credentials.tenant_of("nothing") == ""
    assert code != credentials.new_code("acme-1")
    assert len(code) == len("acme-1.ABCD-EFGH-JKMN-PQRS")
    assert credentials.secret_hash(code) != credentials.secret_hash(bearer)


@given(st.binary(min_size=16, max_size=16), st.integers(1, 2**63))
def test_a_presence_token_says_who_until_when(subject: bytes, expires_ms: int) -> None:
    key = bytes(range(32))
    token = credentials.presence_token(key, subject, expires_ms)
    assert credentials.read_presence(key, token, expires_ms - 1) == (subject, expires_ms)
    assert reason(lambda: credentials.read_presence(key, token, expires_ms)) == "TOKEN_EXPIRED"
    assert reason(lambda: credentials.read_presence(bytes(32), token, 0)) == "TOKEN_INVALID"


@pytest.mark.parametrize("token", ["", "x", "!!!!", "AAAA", "é" * 54, "A" * 54, "A" * 10_000])
def test_what_is_no_token(token: str) -> None:
    assert reason(lambda: credentials.read_presence(bytes(32), token, 0)) == "TOKEN_INVALID"


def test_a_token_cannot_be_prolonged() -> None:
    key, subject = bytes(range(32)), b"s" * 16
    mac = credentials.presence_token(key, subject, NOW)
    longer = credentials.presence_token(bytes(32), subject, NOW + 1)
    forged = longer[:32] + mac[32:]
    assert reason(lambda: credentials.read_presence(key, forged, 0)) == "TOKEN_INVALID"
