"""EnrolmentService: a one-time code and a public key become a credential."""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import Executor
from typing import Any

from genome_edge.v1 import enrolment_pb2, enrolment_pb2_grpc
from genome_server.errors import CodeError, CodeUsed
from genome_server.services import credentials
from genome_server.services.errors import CallRefusedError
from genome_server.services.room import Room
from genome_server.services.rooms import Rooms
from genome_server.store.protocol import DeviceRow

_MAX_NAME = 120


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """The one service that anyone may call: the code is what proves the caller."""

    def __init__(self, rooms: Rooms, pool: Executor) -> None:
        self._rooms = rooms
        self._pool = pool

    async def Enrol(  # noqa: N802
        self,
        request: enrolment_pb2.EnrolRequest,
        context: Any,  # noqa: ARG002
    ) -> enrolment_pb2.EnrolResponse:
        """Exchange a code for a credential. Repeated with the same key it gives the same device."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._enrol, request)

    def _enrol(self, request: enrolment_pb2.EnrolRequest) -> enrolment_pb2.EnrolResponse:
        now_ms = time.time_ns() // 1_000_000
        credentials.check_enrolment(request.public_key, request.proof, request.code)
        room = self._rooms.of(credentials.tenant_of(request.code))
        if room is None:
            raise CallRefusedError(
                "CODE_INVALID", "this server made no such enrolment code; ask for a new one"
            )
        try:
            device = self._new_device(room, request, now_ms)
        except CodeUsed as error:
            # The first answer may have been lost on the way back: the same key asks again.
            found = _by_key(room, request.public_key)
            if found is None:
                raise CallRefusedError(error.reason, str(error)) from None
            device = found
        except CodeError as error:
            raise CallRefusedError(error.reason, str(error)) from None
        return enrolment_pb2.EnrolResponse(
            device_id=device.id,
            tenant=room.name,
            audience=device.audience,
            credential=credentials.issue(
                room.credential_key, room.name, device.id, device.public_key, device.created_ms
            ),
            root=room.trust.root(),
            server_time_ms=now_ms,
        )

    def _new_device(
        self, room: Room, request: enrolment_pb2.EnrolRequest, now_ms: int
    ) -> DeviceRow:
        with room.store.transaction():
            code_hash = credentials.secret_hash(request.code)
            grant = room.store.use_code(code_hash, now_ms)
            # Whoever made the code may have named the device already.
            name = room.store.meta(credentials.name_key(code_hash)) or request.name.strip()
            device = DeviceRow(
                id=f"dev-{secrets.token_hex(8)}",
                name=name[:_MAX_NAME],
                audience=grant.audience,
                channel=grant.channel,
                public_key=request.public_key,
                sdk_version=request.sdk_version[:_MAX_NAME],
                created_ms=now_ms,
            )
            room.store.put_device(device)
        return device


def _by_key(room: Room, public_key: bytes) -> DeviceRow | None:
    for device in room.store.devices():
        if device.public_key == public_key and not device.revoked:
            return device
    return None
