"""A thin client with nothing but the stubs: `genome_edge.v1`, gRPC, and a bearer token.

    python -m examples.grpc_client                                against a synthetic town
    python -m examples.grpc_client --server HOST:PORT --token T   against a server of yours

It asks which services there are, gets a decision, and reports what followed. The server
decides with the engine that devices embed. Cells go over the wire, never coordinates.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from genome_edge.v1 import decision_pb2, decision_pb2_grpc


def services(channel: grpc.Channel) -> list[str]:
    """The services that the server names by reflection; needs no credential."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(iter(stub.ServerReflectionInfo(iter([request]), timeout=10)))
    return [service.name for service in answer.list_services_response.service]


def decide_and_report(channel: grpc.Channel, token: str, cell: str) -> str:
    """Get a decision for a hotel guest and say that the offer was taken; the offer's id."""
    stub = decision_pb2_grpc.DecisionServiceStub(channel)
    credential = (("authorization", f"Bearer {token}"),)
    request = decision_pb2.DecideRequest(
        placement="lobby-screen",
        slots=1,
        moment=decision_pb2.Moment(cell=cell, activity="flight-search", channel="kiosk"),
        customer="customer-001",
        request_id="visit-1",
    )
    decided = stub.Decide(request, metadata=credential, timeout=10)
    slot = decided.slots[0]
    print(f"decision {decided.decision_id} (release {decided.release_version})")
    print(f"  {slot.offer}: {dict(slot.content).get('title')}  score {slot.score:.2f}")
    outcome = decision_pb2.ReportOutcomeRequest(decision_id=decided.decision_id, kind="click")
    reported = stub.ReportOutcome(outcome, metadata=credential, timeout=10)
    print(f"  the click is event {reported.event_id}")
    return str(slot.offer)


def refused(channel: grpc.Channel) -> grpc.StatusCode:
    """What a call without a credential gets."""
    stub = decision_pb2_grpc.DecisionServiceStub(channel)
    try:
        stub.Decide(decision_pb2.DecideRequest(placement="lobby-screen"), timeout=10)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def talk(address: str, token: str, cell: str) -> str:
    """The whole conversation on a loopback channel; the offer that was decided."""
    with grpc.insecure_channel(address) as channel:
        print("services:", ", ".join(services(channel)))
        print("without a credential:", refused(channel).name)
        return decide_and_report(channel, token, cell)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 when everything happened as told, else 1."""
    from examples.adapters import hotel, town  # the rest only sets the scene
    from examples.local_server import AUDIENCE, LocalServer, expect, parser, play
    from examples.scenes import Scene

    made = parser("examples.grpc_client", __doc__)
    made.add_argument("--server", metavar="HOST:PORT")
    made.add_argument("--token")
    options = made.parse_args(argv)
    cell = town.cell_at("hotel")
    if options.server:
        talk(options.server, options.token or "", cell)
        return 0

    def story(server: LocalServer, _scene: Scene, _: argparse.Namespace) -> None:
        token = server.run("devices", "enrol", "--thin", "--audience", AUDIENCE, "--name", "web")
        offer = talk(server.address, token["token"], cell)
        expect(offer == hotel.TAXI, "the server offers the taxi")

    return play(story, options)


if __name__ == "__main__":
    sys.exit(main())
