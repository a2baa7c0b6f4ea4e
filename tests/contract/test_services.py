"""What the server promises about its services as a whole, seen from outside."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import genome_edge.v1
from genome_edge.v1 import authorisation_pb2
from genome_server.services import serve
from genome_server.services.auth import PolicyError, policies
from tests.serving import info, make_home, serving

SERVICES = {
    "genome_edge.v1.DecisionService",
    "genome_edge.v1.EnrolmentService",
    "genome_edge.v1.IdentifyService",
    "genome_edge.v1.ReportService",
    "genome_edge.v1.SyncService",
}
METHODS = [
    (f"/{service.full_name}/{method.name}", method.client_streaming)
    for service in serve.SERVICES
    for method in service.methods
]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    with (
        serving(make_home(tmp_path_factory.mktemp("home"))) as house,
        grpc.insecure_channel(house.address) as channel,
    ):
        yield channel


def reflect(channel: grpc.Channel, **request: str) -> reflection_pb2.ServerReflectionResponse:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(**request)
    return next(iter(stub.ServerReflectionInfo(iter([asked]), timeout=10)))


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    listed = reflect(channel, list_services="").list_services_response.service
    names = {service.name for service in listed}
    assert names == SERVICES | {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_reflection_gives_the_contract(channel: grpc.Channel) -> None:
    found = reflect(channel, file_containing_symbol="genome_edge.v1.DecisionService")
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(raw)
        for raw in found.file_descriptor_response.file_descriptor_proto
    ]
    assert any(file.name == "genome_edge/v1/decision.proto" for file in files)


@pytest.mark.parametrize("service", ["", *sorted(SERVICES)])
def test_health_is_serving(channel: grpc.Channel, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_everything_of_the_contract_is_served() -> None:
    described: set[str] = set()
    for found in pkgutil.iter_modules(genome_edge.v1.__path__, "genome_edge.v1."):
        if found.name.endswith("_pb2"):
            module = importlib.import_module(found.name)
            described |= {s.full_name for s in module.DESCRIPTOR.services_by_name.values()}
    assert described == SERVICES == set(serve.SERVICE_NAMES)


def test_only_enrolment_is_for_anyone() -> None:
    found = policies(serve.SERVICES)
    assert set(found) == {method for method, _ in METHODS}
    open_to_all = {m for m, roles in found.items() if authorisation_pb2.ROLE_ANYONE in roles}
    assert open_to_all == {"/genome_edge.v1.EnrolmentService/Enrol"}
    for_thin = {m for m, roles in found.items() if authorisation_pb2.ROLE_THIN in roles}
    assert {method.split("/")[1] for method in for_thin} == {"genome_edge.v1.DecisionService"}


def call(channel: grpc.Channel, method: str, streaming: bool) -> bytes:
    if streaming:
        return bytes(next(channel.stream_stream(method)(iter([b""]), timeout=10)))
    return bytes(channel.unary_unary(method)(b"", timeout=10))


@pytest.mark.parametrize(("method", "streaming"), METHODS)
def test_no_rpc_works_without_a_credential(
    channel: grpc.Channel, method: str, streaming: bool
) -> None:
    """Sent raw and empty, so that nothing but the credential can be what is missing."""
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, streaming)
    if method.endswith("/Enrol"):
        assert info(caught.value).reason == "INVALID_ARGUMENT"
    else:
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert info(caught.value).reason == "UNAUTHENTICATED"


def without_policy(*, client: bool = False, server: bool = False, roles: str = "") -> object:
    """The descriptor of a service whose one method has these options."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"test/{client}{server}{roles}.proto",
        package="test",
        syntax="proto3",
        dependency=["genome_edge/v1/authorisation.proto"],
        message_type=[descriptor_pb2.DescriptorProto(name="Empty")],
    )
    method = file.service.add(name="Loose").method.add(
        name="Do",
        input_type=".test.Empty",
        output_type=".test.Empty",
        client_streaming=client,
        server_streaming=server,
    )
    if roles:
        option: Any = authorisation_pb2.authorisation  # to its stub no key of Extensions
        policy: authorisation_pb2.Authorisation = method.options.Extensions[option]
        policy.MergeFrom(authorisation_pb2.Authorisation(roles=[roles]))
    pool = descriptor_pool.DescriptorPool()
    for name in ("google/protobuf/descriptor.proto", "genome_edge/v1/authorisation.proto"):
        known = descriptor_pool.Default().FindFileByName(name)
        pool.AddSerializedFile(known.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("test.Loose")


def test_a_method_without_a_policy_keeps_the_server_from_starting(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path_factory.mktemp("loose"))
    monkeypatch.setattr(serve, "SERVICES", (*serve.SERVICES, without_policy()))
    with pytest.raises(PolicyError, match=r"/test\.Loose/Do"):
        serve.House(home, "127.0.0.1:0", None)


def test_a_policy_that_names_nobody_is_none() -> None:
    with pytest.raises(PolicyError, match=r"/test\.Loose/Do"):
        policies([without_policy(roles="ROLE_UNSPECIFIED")])
    assert policies([without_policy(roles="ROLE_THIN")]) == {
        "/test.Loose/Do": frozenset({authorisation_pb2.ROLE_THIN})
    }


def test_a_stream_in_one_direction_would_not_be_guarded() -> None:
    with pytest.raises(PolicyError, match="one way"):
        policies([without_policy(server=True, roles="ROLE_DEVICE")])
    assert policies([without_policy(client=True, server=True, roles="ROLE_DEVICE")])
