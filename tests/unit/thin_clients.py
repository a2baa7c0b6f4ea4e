"""Thin clients of a served tenant, and what the log says of them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from genome_edge.v1 import decision_pb2, decision_pb2_grpc, event_pb2
from genome_server.home import Home, Tenant
from genome_server.log import SERVER, LogReader
from tests.serving import info, make_home, offer, publish_release

HOTEL = decision_pb2.Moment(place="hotel", activity="flight-search")


@dataclass
class Thin:
    """A client of a few lines."""

    channel: grpc.Channel
    token: str

    def __call__(self, request: Any) -> Any:
        stub = decision_pb2_grpc.DecisionServiceStub(self.channel)
        name = type(request).__name__.removesuffix("Request")
        metadata = (("authorization", f"Bearer {self.token}"),)
        return getattr(stub, name)(request, metadata=metadata, timeout=10)

    def decide(self, placement: str = "screen", **fields: Any) -> decision_pb2.DecideResponse:
        answer = self(decision_pb2.DecideRequest(placement=placement, **fields))
        assert isinstance(answer, decision_pb2.DecideResponse)
        return answer

    def outcome(self, decision_id: str, kind: str = "click", **fields: Any) -> str:
        request = decision_pb2.ReportOutcomeRequest(decision_id=decision_id, kind=kind, **fields)
        return str(self(request).event_id)

    def imprint(self, customer: str, kind: str = "buy", **fields: Any) -> str:
        request = decision_pb2.ImprintRequest(customer=customer, kind=kind, **fields)
        return str(self(request).interaction_id)


def prepare(folder: Path) -> Home:
    home = make_home(folder)
    tenant = home.tenant("default")
    with closing(tenant.open_store()) as store:
        once = {"caps": [{"count": "view", "limit": 1}], "value": 3.0}
        coupon = {"caps": [{"count": "redeem", "limit": 1}], "placements": ["till"]}
        store.put_documents("offer", [offer("coupon", "service:coupon", **coupon)])
        # Nothing but the coupon is for the till.
        shown = {"placements": ["screen", "feed"]}
        store.put_documents(
            "offer",
            [
                offer("once", "service:once", **once, **shown),
                offer("taxi", "service:taxi", **shown),
                offer("spa", "service:spa", **shown),
            ],
        )
        till = {"id": "till", "slots": 2, "explorer": "greedy", "shown": "view"}
        store.put_documents("placement", [("till", till)])
    publish_release(tenant)
    return home


def events(tenant: Tenant) -> list[tuple[bytes, event_pb2.Event]]:
    with LogReader(tenant.log_path) as log:
        frames = [frame for frame in log.frames() if frame.device == SERVER]
    return [(frame.subject, event_pb2.Event.FromString(frame.body)) for frame in frames]


def refusal(call: Any, *arguments: Any, **fields: Any) -> tuple[str, str, dict[str, str]]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **fields)
    found = info(caught.value)
    return found.reason, caught.value.details(), dict(found.metadata)
