"""What one device is offered next: trust, then a release, its assets, then genomes.

Each is offered when the device is ready for it, and worked out then: so a slow device costs no
memory and gets the newest state, not a backlog.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from pathlib import Path
from typing import Final

from genome_edge.v1 import release_pb2, sync_pb2
from genome_server.services.desk import Desk
from genome_server.services.shipping import Shipment, Shipping
from genome_server.services.stream import DeviceStream
from genome_server.services.sync_plan import GenomePlan, Want
from genome_server.store.protocol import ReleaseRow

#: After a refusal of genomes, before all rows are offered again.
RETRY_S = 30.0
#: Before a release that could not be sent is looked at again: it may have been repaired.
REPAIR_S = 60.0
#: Marks that come without a row concern events that changed none: nobody waits for them.
MARKS_S = 15.0
#: The device holds other rows than it was sent: it needs all of them, at once.
DIGEST: Final = "DIGEST"
#: Features of devices that decide how they are spoken to.
CONTENT: Final = "genome-content-1"
COUNTERS: Final = "counters-1"
ROLES: Final = "trust-roles-1"
ASSETS: Final = "assets-1"

# How often, and after how long, it is looked for a root that a device must have to be greeted.
_LOOKS: Final = 20
_LOOK_S: Final = 0.1
_MOST_FEATURES: Final = 64
_FEATURE_CHARACTERS: Final = 256
_MOST_PARTS: Final = 4_096
_MOST_PARTIALS: Final = 64
_SHA256_BYTES: Final = 32
#: More than any cursor has: a longer one is none of ours.
_CURSOR_BYTES: Final = 256

log = logging.getLogger(__name__)


class Keeper:
    """Keeps one device current."""

    __slots__ = (
        "_assets_of",
        "_cursor",
        "_desk",
        "_device",
        "_features",
        "_full_refused",
        "_held",
        "_highest",
        "_marks_at",
        "_offered",
        "_partials",
        "_planned",
        "_refused",
        "_release",
        "_release_at",
        "_retry_at",
        "_room",
        "_settled",
        "_shipping",
        "_stream",
        "_trusted",
        "_wants_genomes",
    )

    def __init__(
        self, stream: DeviceStream, hello: sync_pb2.Hello, desk: Desk, shipping: Shipping
    ) -> None:
        self._stream = stream
        self._room = stream.room
        self._desk = desk
        self._shipping = shipping
        self._device = stream.who.name
        # Cut to what a device may have: whoever says more gets more, and nobody's memory suffers.
        self._features = shipping.shared(
            name for name in hello.features[:_MOST_FEATURES] if len(name) <= _FEATURE_CHARACTERS
        )
        self._held = shipping.shared(
            sha256 for sha256 in hello.held_parts[:_MOST_PARTS] if len(sha256) == _SHA256_BYTES
        )
        self._partials = {
            one.sha256: one.size
            for one in hello.partials[:_MOST_PARTIALS]
            if len(one.sha256) == _SHA256_BYTES
        }
        self._release = hello.active_release
        self._highest = hello.highest_release
        self._cursor = hello.genome_cursor[:_CURSOR_BYTES]
        self._wants_genomes = hello.wants_genomes
        # The release that the device refused or cannot have; the one whose assets it has.
        self._refused: ReleaseRow | None = None
        self._release_at = math.inf
        self._assets_of = 0
        self._full_refused = False
        # The versions that the device was sent, where it lacked any of them.
        self._trusted = (0, 0, 0)
        # The stamps of the audience, and the release, for which genomes were last worked out.
        self._planned: tuple[tuple[int, int], int] | None = None
        # Nothing was said yet of there being nothing more.
        self._offered = True
        # How many reports of this device are known to be in its marks.
        self._settled = -1
        self._retry_at = 0.0
        self._marks_at = 0.0

    async def greet(self) -> None:
        """Say what time it is. Where the device's root lacks the key that signs that, the root
        comes first; the room sees a new one a moment after the desk has it."""
        stream = self._stream
        if ROLES not in self._features:  # it follows no root
            stream.root = sys.maxsize
        for _ in range(_LOOKS):
            if self._room.trust.dates(stream.root):
                break
            await self._offer_trust()
            if not self._room.trust.dates(stream.root):
                await asyncio.sleep(_LOOK_S)
        await stream.greet()

    async def keep(self) -> None:
        """Offer what the device lacks now. Ends with StreamOverError or CREDENTIAL_REVOKED."""
        stream = self._stream
        await self._offer_trust()
        while (
            await self._offer_release() or await self._offer_assets() or await self._offer_genomes()
        ):
            self._offered = True
            await stream.check()
            await self._offer_trust()
        if self._offered:
            self._offered = False
            await stream.beat()
        stream.look_at = self._next_look()

    # Trust

    async def _offer_trust(self) -> None:
        """Send what is in force where the device lacks any of it.

        A stop waits for nothing: this is also done while a transaction is on its way.
        """
        ours, theirs = self._room.trust_versions, self._stream.trust
        if ROLES not in self._features or self._trusted == ours:
            return
        if theirs[1] > ours[1] or theirs[2] > ours[2]:  # this server came back from a backup
            await self._stream.blocking(self._room.trust.heard, theirs[1], theirs[2])
        self._trusted = ours
        if any(mine > held for mine, held in zip(ours, theirs, strict=True)):
            await self._stream.write(await self._shipping.trust(theirs[0]))
        self._stream.root = max(self._stream.root, ours[0])

    # Releases

    async def _offer_release(self) -> bool:
        """Offer the release that is for the device where it lacks it; True where it was offered."""
        stream = self._stream
        row = self._room.release_for(self._device)
        if (
            row is None
            or (row is self._refused and time.monotonic() < self._release_at)
            or row.version <= self._release
            or row.version < self._highest
        ):
            return False
        shipment = await self._shipping.release(row.version)
        if shipment is None or not self._may_have(shipment):
            self._refused = row
            self._release_at = time.monotonic() + REPAIR_S
            return False
        async with stream.turn(self._offer_trust):
            nonce = await stream.begin(shipment.begin)
            shelved = shipment.shelved
            # An SDK that knows nothing of assets wants every part.
            for part in shelved.needed if ASSETS in self._features else shelved.manifest.parts:
                if part.sha256 not in self._held:
                    await self._send_part(nonce, part)
            await stream.commit(nonce, sync_pb2.Commit())
        nack = await stream.answer(self._offer_trust)
        if nack is None:
            self._release = self._highest = row.version
            stream.note(release=row.version, held_back="", last_nack="")
        else:
            self._refused, self._release_at = row, math.inf
            stream.note(held_back=f"release {row.version}: refused, {nack.reason}"[:200])
        return True

    def _may_have(self, shipment: Shipment) -> bool:
        manifest = shipment.shelved.manifest
        if manifest.expires_ms <= time.time_ns() // 1_000_000 and not self._fresh(shipment):
            why = "it has expired"
        elif missing := set(manifest.required_features) - self._features:
            why = f"it needs {', '.join(sorted(missing))}"
        elif shipment.broken:
            why = "a part of it is missing on the server"
        else:
            return True
        version = shipment.shelved.version
        log.warning("device %s does not get release %d: %s", self._device, version, why)
        self._stream.note(held_back=f"release {version}: {why}")
        return False

    def _fresh(self, shipment: Shipment) -> bool:
        """Whether the device takes it though it has expired: a timestamp keeps it fresh."""
        return ROLES in self._features and any(
            row.version == shipment.shelved.version for row in self._room.in_force
        )

    # Assets

    async def _offer_assets(self) -> bool:
        """Offer files of the active release that the device lacks; True where any were."""
        stream = self._stream
        if ASSETS not in self._features or not self._release or self._assets_of == self._release:
            return False
        shipment = await self._shipping.release(self._release)
        wanted = shipment.shelved.assets if shipment is not None else []
        wanted = [part for part in wanted if part.sha256 not in self._held]
        there = await stream.blocking(lambda: [p for p in wanted if self._room.shelf.there(p)])
        if len(there) < len(wanted):
            names = ", ".join(sorted(part.name for part in wanted if part not in there))
            stream.note(held_back=f"assets are missing on the server: {names}"[:200])
        self._assets_of = self._release
        if not there:
            return False
        async with stream.turn(self._offer_trust):
            nonce = await stream.begin(sync_pb2.Begin(kind=sync_pb2.Begin.KIND_ASSETS))
            for part in there:
                await self._send_part(nonce, part)
            await stream.commit(nonce, sync_pb2.Commit())
        await stream.answer(self._offer_trust)
        return True

    async def _send_part(self, nonce: int, part: release_pb2.Part) -> None:
        if await self._send_file(nonce, part, self._room.shelf.part_path(part.sha256)):
            self._held = self._shipping.shared({*self._held, part.sha256})

    async def _send_file(self, nonce: int, part: release_pb2.Part, path: Path) -> bool:
        """Send the bytes that the device lacks; False where it has refused the transaction."""
        start = self._partials.pop(part.sha256, 0)
        if start >= part.size:  # more than there is: it starts anew
            start = 0
        async for chunk in self._shipping.chunks(path, part, start):
            if self._stream.refused(nonce):
                return False
            await self._offer_trust()
            await self._stream.send(chunk, nonce)
        return not self._stream.refused(nonce)

    # Genomes

    async def _offer_genomes(self) -> bool:
        """Offer what the device's genomes lack; True where something was offered."""
        if not self._wants_genomes:
            self._room.unsettled.discard(self._device)  # it need not hear how far its events are
            return False
        if not self._news():
            return False
        held = await self._shipping.release(self._release)
        if held is None:  # rows are of no use without the release that they are read with
            return False
        # Taken before the plan: what changes while it is made is news again.
        seen = (self._stamp, self._release)
        reports = self._room.reports[self._device]
        settled = self._settled == reports or await self._stream.blocking(self._are_settled)
        plan = await self._desk.ask(
            Want(
                self._device,
                self._stream.who.audience,
                held.shelved.manifest.lineage.SerializeToString(deterministic=True),
                self._cursor,
                CONTENT in self._features,
                frozenset(self._partials),
                COUNTERS in self._features,
            )
        )
        if plan is not None and plan.marks_only and time.monotonic() < self._marks_at:
            self._planned = seen
            return False
        if plan is not None and (nack := await self._send_genomes(plan)) is not None:
            # All rows put right whatever was wrong; but not at once, and not for ever.
            self._planned, self._cursor = None, b""
            if nack.reason != DIGEST or self._full_refused or plan.full:
                self._retry_at = time.monotonic() + RETRY_S
            self._full_refused = plan.full
            return True
        if plan is not None:
            self._full_refused = False
            self._cursor = plan.cursor
        # A content was made some time ago: what has changed since is asked for at once, as is what
        # did not fit.
        self._planned = None if plan is not None and (plan.full or plan.body.more) else seen
        if settled:
            self._settled = reports
            if not self._unsettled():
                self._room.unsettled.discard(self._device)
        self._marks_at = time.monotonic() + MARKS_S
        return plan is not None

    @property
    def _stamp(self) -> tuple[int, int]:
        room, audience = self._room, self._stream.who.audience
        counted = room.counted.get(audience, 0) if COUNTERS in self._features else 0
        return room.stamps.get(audience, 0), counted

    def _news(self) -> bool:
        if time.monotonic() < self._retry_at:
            return False
        if self._planned != (self._stamp, self._release):
            return True
        return self._unsettled() and time.monotonic() >= self._marks_at

    def _unsettled(self) -> bool:
        return self._settled != self._room.reports[self._device]

    def _next_look(self) -> float:
        """When to look again though nothing rang: monotonic seconds."""
        if time.monotonic() < self._retry_at:
            return self._retry_at
        return self._marks_at if self._wants_genomes and self._unsettled() else math.inf

    def _are_settled(self) -> bool:
        """Whether all that this device reported is in the genomes."""
        room = self._room
        applied = {(e, lane): upto for e, lane, upto in room.store.applied_marks(self._device)}
        return all(
            applied.get((epoch, lane), 0) >= through
            for epoch, lane, through in room.reader.device_lanes(self._device)
        )

    async def _send_genomes(self, plan: GenomePlan) -> sync_pb2.Nack | None:
        stream = self._stream
        async with stream.turn(self._offer_trust):
            nonce = await stream.begin(plan.body.begin)
            content = plan.body.content
            if content is not None:
                path = self._desk.contents.path(content.sha256)
                try:
                    await self._send_file(nonce, content.part, path)
                except FileNotFoundError:  # swept meanwhile: somebody in it has to be forgotten
                    await stream.leave()
            for piece in plan.body.pieces:
                if not stream.refused(nonce):
                    await stream.send(piece, nonce)
            await stream.commit(nonce, plan.commit())
        return await stream.answer(self._offer_trust)
