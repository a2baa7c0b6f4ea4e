"""Apps in other languages: the same device by gRPC and by HTTP, from outside, as a process."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from edge_sdk.outbox.frames import FrameKind
from edge_sdk.sidecar.refusals import STATUSES
from edge_sdk.sidecar.service import Service
from genome_edge.v1 import decision_pb2, dna_pb2, event_pb2
from tests.e2e.sidecar_client import Lane, Served, refusal, served
from tests.unit.device_town import Town, now_ms, row, subject, until

ANN, BEN = subject(1), subject(2)
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
ORIGIN = "http://localhost:3000"
DOCS = Path(__file__).resolve().parents[2] / "docs" / "serve.md"

OFFERS: tuple[dict[str, Any], ...] = (
    {
        "id": "taxi",
        "content": {"title": "A taxi"},
        "texts": {"de": {"title": "Ein Taxi"}},
        "dna": ["service:taxi"],
        "value": 2.0,
        "assets": {"image": "asset/0123456789abcdef.png"},
    },
    {
        "id": "once",
        "content": {"title": "Only once"},
        "dna": ["service:train"],
        "value": 9.0,
        "placements": ["till"],
        "stop_after": {"redeem": True},
    },
)
PLACEMENTS: tuple[dict[str, Any], ...] = (
    {"id": "lobby", "slots": 2, "explorer": "greedy"},
    {"id": "till", "slots": 1, "explorer": "greedy", "shown": "view"},
)


def town() -> Town:
    made = Town(offers=OFFERS, placements=PLACEMENTS, files={"asset/0123456789abcdef.png": PICTURE})
    made.__dict__["genomes"] = [row(number, town=made) for number in (1, 2)]
    return made


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with served(folder, "--allow-origin", ORIGIN, town=town()) as one:
        until(lambda: one.post("decide", placement="lobby")["slots"][0]["offer"] == "taxi")
        yield one


def outcome(decision_id: str, kind: str, offer: str, event_id: str = "") -> event_pb2.Event:
    return event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms()),
        outcome=event_pb2.Outcome(
            decision_id=bytes.fromhex(decision_id), kind=kind, offer=offer, event_id=event_id
        ),
    )


def bought(name: str = "") -> event_pb2.Event:
    return event_pb2.Event(
        time=event_pb2.EventTime(wall_ms=now_ms()),
        interaction=event_pb2.Interaction(
            interaction_id=name, kind="buy", product="poems", region="8928308280fffff"
        ),
    )


# Deciding -----------------------------------------------------------------------------------------


def test_both_doors_give_the_same_answers(device: Served) -> None:
    moment = {"place": "hotel", "activity": "flight-search", "language": "de"}
    http = device.post("decide", placement="lobby", slots=2, moment=moment, customer=ANN.hex())
    with device.stubs() as (decisions, _):
        request = decision_pb2.DecideRequest(
            placement="lobby",
            slots=2,
            moment=json_format.ParseDict(moment, decision_pb2.Moment()),
            customer=ANN.hex(),
        )
        rpc = decisions.Decide(request, metadata=device.metadata, timeout=10)
    slot = http["slots"][0]
    assert (slot["offer"], slot["content"]["title"], slot["reason"]) == (
        "taxi",
        "Ein Taxi",
        "CHOSEN",
    )
    assert [s.offer for s in rpc.slots] == [s["offer"] for s in http["slots"]] == ["taxi", ""]
    assert rpc.slots[0].score == slot["score"] != 0
    assert dict(rpc.slots[0].assets) == slot["assets"]
    assert http["releaseVersion"] == str(rpc.release_version) == "1"
    assert http["slots"][1]["reason"] == rpc.slots[1].reason == "NO_MORE"
    assert http["decisionId"] != rpc.decision_id


def test_what_is_not_known_is_said_and_is_no_error(device: Served) -> None:
    answer = device.post("decide", placement="loby", customer="nobody at all")
    assert answer["reason"] == "UNKNOWN_PLACEMENT"
    assert "did you mean 'lobby'" in " ".join(answer["unknown"])
    assert any("customer" in one for one in answer["unknown"])


def test_a_retry_gets_the_first_answer(device: Served) -> None:
    asked = {"placement": "lobby", "requestId": "visit-1"}
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(device.post("decide", **asked)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with device.stubs() as (decisions, _):
        request = decision_pb2.DecideRequest(placement="lobby", request_id="visit-1")
        again = decisions.Decide(request, metadata=device.metadata, timeout=10).decision_id
    assert {answer["decisionId"] for answer in answers} == {again}
    assert device.post("decide", placement="lobby", requestId="visit-2")["decisionId"] != again
    said = device.ask("POST", "/v1/decide", {"placement": "lobby", "requestId": "x" * 500})
    assert said.reason == "INVALID_ARGUMENT"


def test_a_file_of_an_offer_is_had_with_its_address_alone(device: Served) -> None:
    address = device.post("decide", placement="lobby")["slots"][0]["assets"]["image"]
    path = address.removeprefix(f"http://{device.http}")
    said = device.ask("GET", path, Authorization=None)
    assert (said.status, said.body) == (200, PICTURE)
    assert said.headers["Content-Type"] == "image/png"
    assert said.headers["Content-Security-Policy"] == "sandbox"
    name, _, key = path.rpartition("?key=")
    for wrong in (name, f"{name}?key={'0' * len(key)}", f"{name[:-5]}f.png?key={key}"):
        assert device.ask("GET", wrong).status == 401, wrong
    other = f"/v1/assets/../../identity/device.pem?key={key}"
    assert device.ask("GET", other).status == 401


# What follows -------------------------------------------------------------------------------------


def test_outcomes_and_imprints_are_on_disk_when_they_are_answered(tmp_path: Path) -> None:
    with served(tmp_path, town=town()) as one:
        until(lambda: one.post("decide", placement="lobby")["slots"][0]["offer"])
        made = one.post("decide", placement="lobby", customer=ANN.hex())
        click = {"decisionId": made["decisionId"], "kind": "click", "eventId": "click-1"}
        for _ in range(2):
            said = one.post("report-outcome", **click, valueMicros="2500000")
            assert said == {"eventId": "click-1"}
        buy = {"customer": ANN.hex(), "kind": "buy", "amountMicros": "14000000"}
        named = one.post("imprint", **buy, product="poems", currency="EUR", interactionId="t-1")
        assert named == {"interactionId": "t-1"}
        dna = [{"marker": "claim:organic", "salienceQ8": 128}]
        assert one.post("imprint", kind="view", dna=dna)["interactionId"]
        one.end(signal.SIGKILL)
        events = [event for _, event in one.events()]
    outcomes = [e.outcome for e in events if e.HasField("outcome")]
    assert [(o.kind, o.value_micros, o.offer) for o in outcomes] == [("click", 2_500_000, "taxi")]
    done = [e.interaction for e in events if e.HasField("interaction")]
    assert [(i.product, i.amount_micros, i.currency) for i in done] == [
        ("poems", 14_000_000, "EUR"), ("", 0, ""),
    ]  # fmt: skip
    assert [(d.marker, d.salience_q8) for d in done[1].dna] == [("claim:organic", 128)]


def test_a_redemption_is_granted_once(device: Served) -> None:
    made = device.post("decide", placement="till", customer=BEN.hex())
    first = device.post("redeem", decisionId=made["decisionId"], slot=0)
    assert (first["granted"], first["reason"], first["offer"]) == (True, "GRANTED", "once")
    with device.stubs() as (decisions, _):
        request = decision_pb2.RedeemRequest(decision_id=made["decisionId"])
        again = decisions.Redeem(request, metadata=device.metadata, timeout=10)
    assert (again.granted, again.reason) == (False, "ALREADY_REDEEMED")
    unknown = device.post("redeem", decisionId="ab" * 16)
    assert (unknown["granted"], unknown["reason"]) == (False, "UNKNOWN_DECISION")


def test_consent_holds_at_once(device: Served) -> None:
    def explained() -> Any:
        made = device.post("decide", placement="lobby", customer=ANN.hex())
        return device.post("explain", decisionId=made["decisionId"])

    before = explained()
    assert before["explanation"]["genome_used"] is True
    assert before["explanation"]["seed"].isdecimal()
    assert "taxi" in before["text"]
    agrees = {"customer": ANN.hex(), "purpose": "CONSENT_PURPOSE_PERSONALISATION"}
    assert device.post("set-consent", **agrees, granted=False) == {}
    assert explained()["explanation"]["genome_used"] is False
    assert device.post("set-consent", **agrees, granted=True) == {}
    assert explained()["explanation"]["genome_used"] is True
    for wrong in (
        {**agrees, "customer": "nobody"},
        {**agrees, "purpose": 0},
        {**agrees, "purpose": 9},
    ):
        assert device.ask("POST", "/v1/set-consent", wrong).reason == "INVALID_ARGUMENT", wrong


# Batches of an app's own --------------------------------------------------------------------------


def test_a_batch_counts_once_whoever_is_killed(tmp_path: Path) -> None:
    lane = Lane(b"e" * 16)
    with served(tmp_path, town=town()) as one:
        made = until(lambda: one.post("decide", placement="lobby", customer=ANN.hex()))
        first = lane.batch(
            lane.frame(FrameKind.INTERACTION, ANN, bought("t-1")),
            lane.frame(FrameKind.OUTCOME, ANN, outcome(made["decisionId"], "click", "taxi")),
        )
        with one.stubs() as (_, reports):
            said = reports.Report(first, metadata=one.metadata, timeout=10)
            assert (said.received_through, said.safe_through) == (2, 2)
            assert reports.Report(first, metadata=one.metadata, timeout=10).received_through == 2
        one.post("imprint", customer=ANN.hex(), kind="buy", product="poems", interactionId="t-1")
        one.end(signal.SIGKILL)
    with served(tmp_path) as one:
        body = {
            "epoch": base64.b64encode(first.epoch).decode(),
            "lane": 1,
            "firstSequence": "1",
            "lastSequence": "2",
            "frames": base64.b64encode(first.frames).decode(),
            "digest": base64.b64encode(first.digest).decode(),
        }
        assert one.post("report", **body)["receivedThrough"] == "2"
        assert one.end() == 0
        events = one.events()
    done = [(f, e.interaction) for f, e in events if e.HasField("interaction")]
    ((frame, interaction),) = done
    assert (frame.subject, interaction.product) == (ANN, "poems")
    assert interaction.region == "85283083fffffff", "no finer than what a device reports"
    assert [e.outcome.offer for _, e in events if e.HasField("outcome")] == ["taxi"]


def test_what_a_batch_says_of_a_decision_made_here_counts_for_caps(tmp_path: Path) -> None:
    stopped = {**OFFERS[1], "stop_after": {"dismiss": True}}
    with served(tmp_path, town=Town(offers=[stopped], placements=PLACEMENTS)) as one:
        for _ in range(2):
            first = one.post("decide", placement="till", customer=ANN.hex())
        lane = Lane(b"i" * 16)
        seen = outcome(first["decisionId"], "dismiss", "")
        with one.stubs() as (_, reports):
            batch = lane.batch(lane.frame(FrameKind.OUTCOME, bytes(16), seen))
            reports.Report(batch, metadata=one.metadata, timeout=10)
        again = one.post("decide", placement="till", customer=ANN.hex())
        reason = again["slots"][0]["reason"]
        assert (first["slots"][0]["offer"], again["slots"][0]["offer"]) == ("once", ""), reason
        one.end()
        ((frame, event),) = [pair for pair in one.events() if pair[1].HasField("outcome")]
    assert frame.subject == ANN
    assert (event.outcome.offer, event.outcome.placement) == ("once", "till")


def test_a_lane_that_does_not_go_on_is_refused(device: Served) -> None:
    lane = Lane(b"f" * 16)
    good = [lane.frame(FrameKind.INTERACTION, ANN, bought()) for _ in range(4)]

    def refused(request: Any) -> tuple[str, str, dict[str, str]]:
        with device.stubs() as (_, reports), pytest.raises(grpc.RpcError) as caught:
            reports.Report(request, metadata=device.metadata, timeout=10)
        return refusal(caught.value)

    def taken(request: Any) -> int:
        with device.stubs() as (_, reports):
            return int(
                reports.Report(request, metadata=device.metadata, timeout=10).received_through
            )

    assert refused(lane.batch(good[1]))[1:] == ("SEQUENCE_GAP", {"expected": "1"})
    assert taken(lane.batch(*good[:2])) == 2
    assert refused(lane.batch(good[3]))[1:] == ("SEQUENCE_GAP", {"expected": "3"})
    assert refused(lane.batch(*good[1:3]))[1:] == ("FORKED_EPOCH", {"sequence": "2"})
    assert refused(lane.batch(*good[2:], digest=bytes(32)))[1] == "BAD_DIGEST"
    assert refused(lane.batch(*good[2:], last_sequence=9))[1] == "BAD_FRAME"
    cut = good[2] + b"cut"
    changed = {"frames": cut, "digest": hashlib.sha256(cut).digest()}
    assert refused(lane.batch(good[2], **changed))[1:] == (
        "BAD_FRAME",
        {"offset": str(len(good[2]))},
    )
    assert refused(lane.batch(good[2], epoch=b"short"))[2] == {"field": "epoch"}
    odd = Lane(lane.epoch, next=3)
    assert refused(odd.batch(odd.frame(FrameKind.OUTCOME, ANN, bought())))[1] == "BAD_FRAME"
    assert refused(lane.batch(good[2], good[2]))[1] == "BAD_FRAME"
    assert refused(lane.batch(good[2][:0]))[1] == "BAD_FRAME"
    assert taken(lane.batch(*good[2:])) == 4


def test_what_an_app_had_to_give_up_is_counted(device: Served) -> None:
    lane = Lane(b"g" * 16, next=4)
    gone = event_pb2.Event(
        evicted=event_pb2.Evicted(first_sequence=1, last_sequence=4, reason="FULL", events=4)
    )
    request = lane.batch(
        lane.frame(FrameKind.EVICTED, bytes(16), gone),
        lane.frame(FrameKind.INTERACTION, BEN, bought()),
    )
    with device.stubs() as (_, reports):
        assert reports.Report(request, metadata=device.metadata, timeout=10).received_through == 5
    assert device.ask("GET", "/v1/status").json["counters"]["GIVEN_UP_BY_APP"] == 4


def test_consent_and_full_forms_in_a_batch(device: Served) -> None:
    lane = Lane(b"h" * 16)
    withdraws = event_pb2.Event(
        consent=event_pb2.ConsentChange(
            purpose=dna_pb2.CONSENT_PURPOSE_PERSONALISATION, granted=False
        )
    )
    elsewhere = event_pb2.Event(
        decision=event_pb2.DecisionRecord(
            decision_id=b"d" * 16, placement="lobby", region="8928308280fffff", regions=[1, 2]
        )
    )
    request = lane.batch(
        lane.frame(FrameKind.CONSENT, BEN, withdraws),
        lane.frame(FrameKind.DECISION, BEN, elsewhere),
    )
    with device.stubs() as (_, reports):
        reports.Report(request, metadata=device.metadata, timeout=10)
    made = device.post("decide", placement="lobby", customer=BEN.hex())
    said = device.post("explain", decisionId=made["decisionId"])["explanation"]
    assert said["genome_used"] is False
    (record,) = [e.decision for _, e in device.events() if e.decision.decision_id == b"d" * 16]
    assert (record.region, list(record.regions)) == ("85283083fffffff", [])


# Who may come in ----------------------------------------------------------------------------------


def test_the_token_is_asked_for_at_both_doors(device: Served) -> None:
    for given in (None, "Bearer ", f"Bearer {device.token}x", device.token, "Basic abc"):
        said = device.ask("POST", "/v1/decide", {"placement": "lobby"}, Authorization=given)
        assert (said.status, said.reason) == (401, "UNAUTHENTICATED"), given
        assert said.headers["WWW-Authenticate"] == "Bearer"
    assert device.ask("GET", "/v1/status", Authorization=None).status == 401
    assert device.ask("GET", "/healthz", Authorization=None).json == {"status": "serving"}
    with device.stubs() as (decisions, _):
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            with pytest.raises(grpc.RpcError) as caught:
                decisions.Decide(decision_pb2.DecideRequest(), metadata=metadata, timeout=10)
            assert refusal(caught.value)[:2] == ("UNAUTHENTICATED", "UNAUTHENTICATED")


def test_the_token_is_its_owners_alone(device: Served, tmp_path: Path) -> None:
    file = device.store / "serve" / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(device.token) >= 40
    mine = tmp_path / "token"
    mine.write_text("t" * 40)
    for mode, code in ((0o644, 2), (0o600, 0)):
        mine.chmod(mode)
        command = [sys.executable, "-m", "edge_sdk.cli", "serve", "--json", "--http", "none"]
        command += ["--grpc", f"unix:{tmp_path}/s", "--store", str(tmp_path / "d")]
        command += ["--bundle", str(device.store.parent / "town.bundle"), "--token-file", str(mine)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        if code == 0:
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) & 0o077 == 0
            process.terminate()
        else:
            assert "chmod 600" in said["error"]["message"]
        assert process.wait(20) == code
        process.stdout.close()
    assert not (tmp_path / "s").exists()


def test_a_new_token_shuts_the_old_one_out(tmp_path: Path) -> None:
    with served(tmp_path, town=town()) as one:
        old = one.token
        assert one.end() == 0
    with served(tmp_path, "--new-token") as one:
        assert one.token != old
        said = one.ask("POST", "/v1/decide", {}, Authorization=f"Bearer {old}")
        assert said.status == 401


def test_another_machines_name_is_refused(device: Served) -> None:
    for host in ("evil.example", f"evil.example:{device.port}", "127.0.0.1", "127.0.0.1:1", ""):
        said = device.ask("GET", "/v1/status", Host=host)
        assert (said.status, said.reason) == (403, "WRONG_HOST"), host
    for host in ("localhost", "LOCALHOST", "[::1]"):
        assert device.ask("GET", "/v1/status", Host=f"{host}:{device.port}").status == 200


def test_pages_of_other_origins_are_refused(device: Served) -> None:
    for origin in ("http://evil.example", "null", "http://localhost:3001", ""):
        said = device.ask("POST", "/v1/decide", {"placement": "lobby"}, Origin=origin)
        assert (said.status, said.reason) == (403, "WRONG_ORIGIN"), origin
        assert "Access-Control-Allow-Origin" not in said.headers
    said = device.ask("POST", "/v1/decide", {"placement": "lobby"}, Origin=ORIGIN)
    assert (said.status, said.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    asks = {
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Private_Network": "true",
        "Authorization": None,
    }
    said = device.ask("OPTIONS", "/v1/decide", Origin=ORIGIN, **asks)
    assert said.status == 204
    assert "authorization" in said.headers["Access-Control-Allow-Headers"]
    assert said.headers["Access-Control-Allow-Private-Network"] == "true"
    assert device.ask("OPTIONS", "/v1/decide", Origin="http://evil.example", **asks).status == 403


# What makes no sense ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "the body is no Decide"),
        (b"\xff\xfe", "the body is no Decide"),
        (b"[" * 50_000, "the body is no Decide"),
        (b'{"placment": "lobby"}', "placment"),
        (b'{"slots": "many"}', "slots"),
        ({"placement": "lobby", "slots": 65}, "slots"),
        ({"placement": "lobby", "moment": {"cell": "40.7,-73.9"}}, "H3 cell"),
        ({"placement": "lobby", "moment": {"time": "2026-01-31T12:00:00"}}, "offset"),
        ({"placement": "lobby", "moment": {"recent": [{"agoS": 5}]}}, "activity=''"),
        ({"placement": "lobby", "moment": {"attributes": {"lat": "40.7"}}}, "lat"),
    ],
)
def test_a_body_that_makes_no_sense(device: Served, body: Any, says: str) -> None:
    said = device.ask("POST", "/v1/decide", body)
    assert (said.status, said.reason) == (400, "INVALID_ARGUMENT")
    assert says in said.json["error"]["message"]
    assert said.json["error"]["status"] == "INVALID_ARGUMENT"


def test_requests_that_make_no_sense(device: Served) -> None:
    def reason(verb: str, path: str, body: Any = None, **headers: Any) -> tuple[int, str]:
        said = device.ask(verb, path, body, **headers)
        return said.status, said.reason

    assert reason("POST", "/v1/dance", {}) == (404, "NOT_FOUND")
    assert reason("GET", "/v1/decide") == (405, "METHOD_NOT_ALLOWED")
    assert reason("POST", "/v1/status", {}) == (405, "METHOD_NOT_ALLOWED")
    assert reason("PUT", "/v1/decide", {}) == (405, "METHOD_NOT_ALLOWED")
    assert reason("POST", "/v1/decide", {}, Content_Type="text/plain") == (415, "NOT_JSON")
    assert reason("POST", "/v1/decide", b"", Content_Length="x" * 3)[0] == 413
    assert reason("POST", "/v1/decide", b"", Content_Length=str(1 << 40)) == (413, "TOO_LARGE")
    chunked = {"Transfer_Encoding": "chunked", "Content_Length": None}
    assert reason("POST", "/v1/decide", b"2\r\n{}\r\n0\r\n\r\n", **chunked)[0] == 411
    wrong = {"decisionId": "junk", "kind": "click"}
    said = device.ask("POST", "/v1/report-outcome", wrong).json["error"]["details"][0]
    assert said["metadata"] == {"field": "decision_id"}
    made = device.post("decide", placement="lobby")["decisionId"]
    for changed in ({"kind": "clck"}, {"slot": 9}, {"valueMicros": "-1"}, {"eventId": "x" * 999}):
        body = {"decisionId": made, "kind": "click", **changed}
        assert reason("POST", "/v1/report-outcome", body)[1] == "INVALID_ARGUMENT", changed
    assert reason("POST", "/v1/explain", {"decisionId": "ab" * 16}) == (404, "UNKNOWN_DECISION")
    buy = {"kind": "buy", "product": "poems", "customer": "a stranger"}
    assert reason("POST", "/v1/imprint", buy) == (403, "NOT_IN_AUDIENCE")
    assert reason("POST", "/v1/imprint", {"kind": "buy"})[1] == "INVALID_ARGUMENT"


def test_garbage_on_the_line_ends_that_line_only(device: Served) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"A" * 70_000,
    ):
        with socket.create_connection(("127.0.0.1", device.port), timeout=10) as line:
            line.sendall(garbage)
            line.shutdown(socket.SHUT_WR)
            while line.recv(65_536):
                pass
    assert device.ask("GET", "/healthz").status == 200


def test_lines_that_say_nothing_leave_room_for_others(device: Served) -> None:
    with contextlib.ExitStack() as held:
        lines = [
            held.enter_context(socket.create_connection(("127.0.0.1", device.port), timeout=10))
            for _ in range(150)
        ]
        heard = [line.recv(65_536) for line in lines[128:]]
        assert any(answer.startswith(b"HTTP/1.1 429") and b"BUSY" in answer for answer in heard)
    until(lambda: device.ask("GET", "/healthz").status == 200)


def test_a_connection_is_used_again(device: Served) -> None:
    connection = device.connection()
    for _ in range(3):
        connection.request("POST", "/v1/decide", b'{"placement": "lobby"}', device.headers)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        local = connection.sock.getsockname()
    connection.request("POST", "/v1/decide", b'{"placement": "lobby"}', device.headers)
    assert connection.sock.getsockname() == local
    connection.getresponse().read()
    connection.close()


# Where it listens, and how it ends ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "says"),
    [
        ("0.0.0.0:0", "this machine only"),
        ("192.0.2.1:80", "this machine only"),
        ("example.com:80", "this machine only"),
        ("8080", "no address"),
        ("127.0.0.1", "no address"),
        ("unix:here", "unix:/PATH"),
    ],
)
def test_it_listens_on_this_machine_only(tmp_path: Path, door: str, says: str) -> None:
    for option in ("--http", "--grpc"):
        done = subprocess.run(
            [sys.executable, "-m", "edge_sdk.cli", "serve", "--store", str(tmp_path), option, door],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert says in done.stderr


def test_without_a_store_or_with_an_address_taken(device: Served, tmp_path: Path) -> None:
    def serve(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "edge_sdk.cli", "serve", *arguments],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert "there is no store" in serve("--store", str(tmp_path / "none"))
    store = ("--store", str(device.store))
    assert "cannot be listened on" in serve(*store, "--http", device.http, "--grpc", "none")
    assert "cannot be listened on" in serve(*store, "--grpc", device.grpc, "--http", "none")
    assert "nothing to serve" in serve(*store, "--grpc", "none", "--http", "none")
    assert "no origin" in serve(*store, "--allow-origin", "http://localhost:3000/page")


def test_sockets_serve_as_ports_do_and_a_dead_one_gives_way(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    for turn in range(2):
        with served(tmp_path, town=town(), port=f"unix:{path}") as one:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
            made = until(lambda: one.post("decide", placement="lobby")["slots"][0])
            assert made["assets"]["image"].startswith("file:///"), made
            if turn == 0:
                one.end(signal.SIGKILL)
                assert path.exists()


def test_it_ends_when_the_calls_that_run_have_ended(tmp_path: Path) -> None:
    with served(tmp_path, town=town()) as one:
        until(lambda: one.post("decide", placement="lobby")["slots"][0]["offer"])
        body = b'{"placement": "lobby"}'
        head = (
            f"POST /v1/decide HTTP/1.1\r\nHost: localhost:{one.port}\r\n"
            f"Authorization: Bearer {one.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        with socket.create_connection(("127.0.0.1", one.port), timeout=10) as line:
            line.sendall(head + body[:5])
            time.sleep(0.2)
            one.process.terminate()
            time.sleep(0.3)
            assert one.process.poll() is None, "it waits for the call that runs"
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", one.port), timeout=10).close()
            line.sendall(body[5:])
            answer = line.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert one.process.wait(20) == 0
        decided = [event for _, event in one.events() if event.HasField("decision")]
    assert decided[-1].decision.decision_id.hex() in answer.decode()


# The house ----------------------------------------------------------------------------------------


def test_every_rpc_is_answered_and_every_reason_documented() -> None:
    methods = {method.name for method in Service.methods(Service.__new__(Service))}
    assert methods >= {
        "Decide",
        "ReportOutcome",
        "Redeem",
        "SetConsent",
        "Explain",
        "Imprint",
        "Report",
    }
    text = DOCS.read_text(encoding="utf-8")
    assert {reason for reason in STATUSES if f"`{reason}`" not in text} == set()
