"""A served device among others: it syncs, shares its store, and what apps say is logged once."""

from __future__ import annotations

from pathlib import Path

from edge_sdk import Context, EdgeClient
from edge_sdk.outbox.frames import FrameKind
from genome_edge.v1 import event_pb2
from genome_server.home import Home
from genome_server.log import LogReader
from tests.e2e.house import House, until
from tests.e2e.sidecar_client import Lane, served
from tests.unit.device_town import now_ms

SCREEN = "lobby-screen"
GUEST = "customer-001"


def logged(house: House) -> list[event_pb2.Event]:
    with LogReader(Home(house.home).tenant("default").log_path) as log:
        return [event_pb2.Event.FromString(frame.body) for frame in log.frames()]


def test_what_local_apps_say_reaches_the_server_once(house: House, tmp_path: Path) -> None:
    house.start()
    store = house.enrol("lobby")
    with served(tmp_path, enrolled=store) as one:
        until(lambda: one.ask("GET", "/v1/status").json["genomes"], what="genomes come by sync")
        moment = {"place": "hotel", "activity": "flight-search"}
        made = one.post("decide", placement=SCREEN, moment=moment, customer=GUEST)
        assert made["slots"][0]["offer"]
        # Another app of the device, with the SDK in it.
        with EdgeClient(store) as edge:
            assert edge.wait_ready(20)
            theirs = edge.decide(Context(place="hotel"), SCREEN, customer=GUEST)
            one.post("report-outcome", decisionId=theirs.id, kind="click", eventId="of-theirs")
            edge.report(made["decisionId"], "click", event_id="of-ours", durable=True)
        house.kill()
        bought = event_pb2.Event(
            time=event_pb2.EventTime(wall_ms=now_ms()),
            interaction=event_pb2.Interaction(interaction_id="till-1", kind="buy", product="x"),
        )
        lane = Lane(b"t" * 16)
        batch = lane.batch(lane.frame(FrameKind.INTERACTION, bytes(16), bought))
        with one.stubs() as (_, reports):
            for _ in range(2):
                said = reports.Report(batch, metadata=one.metadata, timeout=10)
                assert said.safe_through == 1, "taken while the server is away"
        house.start()
        until(lambda: one.ask("GET", "/v1/status").json["outbox"] == 0, what="all is sent")
        assert one.end() == 0
    house.kill()
    events = logged(house)
    outcomes = {e.outcome.event_id: e.outcome for e in events if e.HasField("outcome")}
    assert {"of-theirs", "of-ours"} <= set(outcomes)
    assert outcomes["of-theirs"].decision_id.hex() == theirs.id
    done = [e.interaction for e in events if e.interaction.interaction_id == "till-1"]
    assert len(done) == 1
    decided = [e.decision.decision_id.hex() for e in events if e.HasField("decision")]
    assert sorted(decided) == sorted([made["decisionId"], theirs.id])
