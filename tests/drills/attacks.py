"""The named attacks of the drill `attack`: each bends a simulated server or its line by chance."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from edge_sdk.sync.signing import sign_time
from edge_sdk.sync.trust import MAX_JUMP
from edge_sdk.testing import SimulatedClock, SimulatedNetwork, SimulatedServer
from genome_edge.v1 import release_pb2, sync_pb2

HOUR_MS: Final = 3_600_000
TAXI: Final = {"id": "taxi", "content": {"title": "A taxi"}}
BUS: Final = {"id": "bus", "content": {"title": "A bus"}, "value": 9.0}
#: What has no end ends here, and must not have been listened to for so long.
ENDLESS: Final = 256 << 20


@dataclass
class World:
    """A server that the device has trusted so far, and what is about to happen."""

    server: SimulatedServer
    clock: SimulatedClock
    random: random.Random
    network: SimulatedNetwork = field(default_factory=SimulatedNetwork)
    #: Reasons of which a Nack must give one; none: no Nack tells this attack.
    reasons: tuple[str, ...] = ()
    #: Whether the device must say that its release is not fresh any more.
    stale: bool = False
    #: Whether what is offered is good, so that the device may come to use it in the end.
    good: bool = False
    #: Bytes that were said of what has no end.
    carried: int = 0
    #: Called after the device took what was prepared so far.
    then: Callable[[], object] | None = None

    def publish(self, **more: Any) -> int:
        """Offer one more release, of the same offers and one more."""
        return self.server.publish([TAXI, BUS, {"id": f"new-{self.random.random()}"}], **more)

    def part(self) -> release_pb2.Part:
        """One part of the release offered now that the device does not have."""
        signed = self.server.releases[self.server.offered]
        new = release_pb2.Manifest.FromString(signed.manifest)
        old = release_pb2.Manifest.FromString(self.server.releases[2].manifest)
        known = {part.sha256 for part in old.parts}
        return self.random.choice([p for p in new.parts if p.sha256 not in known and p.size])


Attack = Callable[[World], None]


def arbitrary_part(world: World) -> None:
    """Other bytes of the right length in place of a part, one of them or all."""
    world.publish()
    part = world.part()
    content = bytearray(world.server.contents[part.sha256])
    if world.random.random() < 0.5:
        content[world.random.randrange(len(content))] ^= 1 << world.random.randrange(8)
    else:
        content = bytearray(world.random.randbytes(len(content)))
    world.server.contents[part.sha256] = bytes(content)
    world.reasons = ("DIGEST",)


def rollback_of_release(world: World) -> None:
    """An older release, well signed once; or one of the same version with other content."""
    if world.random.random() < 0.5:
        world.server.offered = 1
        world.server.instead["manifest"] = _resigned(world, 1)
    else:
        world.publish(edit=lambda manifest: setattr(manifest, "version", 2))
        world.server.offered = 3
        world.server.releases[3] = world.server.releases[2]
    world.reasons = ("OLDER",)


def _resigned(world: World, version: int) -> release_pb2.SignedManifest:
    """An older release under the keys of today: only its version tells."""
    server = world.server
    manifest = release_pb2.Manifest.FromString(server.releases[version].manifest)
    signed, offered, kept = release_pb2.SignedManifest(), server.offered, server.releases[2]
    server.publish([TAXI], edit=lambda made: made.CopyFrom(manifest))
    signed.CopyFrom(server.releases[version])
    server.offered, server.releases[2] = offered, kept
    return signed


def rollback_of_timestamp(world: World) -> None:
    """An earlier timestamp, or another one of the same version."""
    server, version = world.server, len(world.server.timestamps)
    if world.random.random() < 0.5:
        at = world.random.randrange(version - 3, version - 1)
        server.instead["timestamp"] = server.timestamps[at]
    else:

        def edit(made: release_pb2.Timestamp) -> None:
            made.version, made.expires_ms = version, made.expires_ms + 1

        server.stamp(edit)
    world.reasons = ("TIMESTAMP",)


def rollback_of_root(world: World) -> None:
    """An earlier root, another one of the same version, or one that leaves versions out."""
    server = world.server
    version = world.random.choice([1, 2, 4])

    def edit(root: release_pb2.TrustRoot) -> None:
        root.version, root.expires_ms = version, world.clock.ms + HOUR_MS

    server.rotate(edit=edit)
    server.instead["roots"] = server.roots[-1:]
    world.reasons = ("ROOT",)


def fast_forward(world: World) -> None:
    """A version so high that nothing could ever follow it, of any statement."""
    far = MAX_JUMP + world.random.randrange(1_000_000, 1 << 62)

    def edit(made: Any) -> None:
        made.version = far

    what = world.random.randrange(3)
    if what == 0:
        world.publish(edit=edit)
    elif what == 1:
        world.server.pause("taxi", edit=edit)
        world.server.instead["timestamp"] = world.server.timestamps[-2]
    else:
        world.server.stamp(edit)
    world.reasons = ("FAST_FORWARD",)


def freeze(world: World) -> None:
    """What was true once, for ever."""
    world.server.frozen = True
    world.clock.move(hours=world.random.uniform(25, 24 * 7))
    world.stale = True


def withheld_stop_list(world: World) -> None:
    """New timestamps, but not the stop list that they name."""
    world.server.pause("taxi")
    world.server.instead["stop_list"] = None
    world.clock.move(hours=world.random.uniform(3, 24 * 7))
    world.stale = True


def rollback_of_stop_list(world: World) -> None:
    """An earlier stop list, or another one of the same version."""
    server = world.server
    if world.random.random() < 0.5:
        server.instead["stop_list"] = server.stop_lists[0]
    else:
        server.pause("taxi", edit=lambda made: setattr(made, "version", 2))
        server.instead["timestamp"] = server.timestamps[-2]
    world.reasons = ("STOP_LIST",)


def mix_and_match(world: World) -> None:
    """A part of one release in another."""
    world.publish()
    part = world.part()
    old = release_pb2.Manifest.FromString(world.server.releases[2].manifest)
    other = world.random.choice([one for one in old.parts if one.size])
    world.server.contents[part.sha256] = world.server.contents[other.sha256]
    world.reasons = ("DIGEST", "TOO_LARGE", "PARTS", "PROTOCOL")


def endless_data(world: World) -> None:
    """Chunks without an end, of all sizes."""
    world.publish()
    part, size = world.part(), world.random.choice([1 << 10, 1 << 16, 1 << 20])
    well = world.server.chunks

    def chunks(nonce: int, sha256: bytes, start: int = 0) -> Iterator[sync_pb2.SyncResponse]:
        if sha256 != part.sha256:
            yield from well(nonce, sha256, start)
            return
        data = bytes(size)
        while world.carried < ENDLESS:
            chunk = sync_pb2.Chunk(nonce=nonce, sha256=sha256, offset=start, data=data)
            yield sync_pb2.SyncResponse(chunk=chunk)
            start += size
            world.carried += size

    world.server.chunks = chunks  # type: ignore[method-assign]
    world.reasons = ("TOO_LARGE",)


def endless_refusals(world: World) -> None:
    """One thing after the other that must be refused, without an end."""
    world.server.signers["release"] = [world.server.new_key()]
    world.publish()
    signed = world.server.releases[world.server.offered]

    def answer(hello: sync_pb2.Hello, *_: object) -> Iterator[sync_pb2.SyncResponse]:
        yield world.server.beat(hello.nonce)
        while world.carried < ENDLESS:
            nonce = 1 + world.carried
            begin = sync_pb2.Begin(nonce=nonce, kind=sync_pb2.Begin.KIND_RELEASE, manifest=signed)
            yield sync_pb2.SyncResponse(begin=begin)
            world.carried += begin.ByteSize()

    world.server.answer = answer  # type: ignore[method-assign, assignment]
    world.reasons = ("SIGNATURE",)


def slow_retrieval(world: World) -> None:
    """A few bytes now and then: the device goes on with what it has, until it has all."""
    world.publish()
    world.good = True
    pause, size = world.random.uniform(0.02, 0.2), world.random.randrange(1, 20)

    def chunks(nonce: int, sha256: bytes, start: int = 0) -> Iterator[sync_pb2.SyncResponse]:
        content = world.server.contents[sha256]
        for offset in range(start, len(content), size):
            data = content[offset : offset + size]
            chunk = sync_pb2.Chunk(nonce=nonce, sha256=sha256, offset=offset, data=data)
            yield sync_pb2.SyncResponse(chunk=chunk)

    world.server.chunks = chunks  # type: ignore[method-assign]
    world.network = SimulatedNetwork(delay_s=pause, wait=time.sleep)


def wrong_key(world: World) -> None:
    """A stranger's signature under a release, a root, a timestamp or a stop list."""
    _sign_by(world, world.random.choice(["release", "root", "timestamp"]), [world.server.new_key()])


def key_of_another_role(world: World) -> None:
    """A key that the device trusts, but not for this."""
    roles = ["release", "root", "timestamp"]
    role = world.random.choice(roles)
    other = world.random.choice([one for one in roles if one != role])
    _sign_by(world, role, world.server.keys[other])


def _sign_by(world: World, role: str, keys: list[Any]) -> None:
    server = world.server
    server.signers[role] = keys
    if role == "release":
        world.publish()
    elif role == "root":
        server.rotate("release")
    elif world.random.random() < 0.5:
        server.stamp()
    else:
        server.pause("taxi")
    if role == "timestamp":
        server.signers.clear()  # the time stays good
    world.reasons = ("SIGNATURE",)


def forged_time(world: World) -> None:
    """A time that nobody has signed, or a stranger."""
    _forge_time(world, world.random.choice([None, world.server.new_key()]))
    world.reasons = ("SIGNATURE",)


def _forge_time(world: World, key: Any) -> None:
    server, wrong = world.server, world.clock.ms + world.random.randrange(-(10**11), 10**11)
    signature = None if key is None else sign_time(bytes(16), wrong, key)
    server.instead["time"] = sync_pb2.ServerHeartbeat(server_time_ms=wrong, signature=signature)


def replayed_time(world: World) -> None:
    """A time that was signed well, for another stream."""
    _forge_time(world, world.server.keys["timestamp"][0])
    world.reasons = ("SIGNATURE",)


def expired_key(world: World) -> None:
    """Something new under a root beyond its expiry, a root born so, or an expired statement."""
    server, ends = world.server, world.clock.ms + HOUR_MS
    what = world.random.randrange(4)
    if what == 0:
        server.rotate(edit=lambda root: setattr(root, "expires_ms", world.clock.ms - 1))
        world.reasons = ("ROOT_EXPIRED",)
    elif what == 1:
        server.rotate(edit=lambda root: setattr(root, "expires_ms", ends))

        def then() -> None:
            world.clock.move(hours=2)
            world.publish()

        world.then, world.reasons = then, ("ROOT_EXPIRED",)
    elif what == 2:
        world.publish(life_ms=-world.random.randrange(1, 10**11))
        world.reasons = ("EXPIRED",)
    else:
        server.stamp(lambda made: setattr(made, "expires_ms", world.clock.ms - 1))
        world.reasons = ("EXPIRED",)


def too_few_signatures(world: World) -> None:
    """One key too few, or one key that signs as often as it takes."""
    server, role = world.server, world.random.choice(["release", "timestamp"])
    threshold = world.random.randrange(2, 4)
    server.rotate(role, keys=3, threshold=threshold)
    few = server.keys[role][: threshold - 1]

    def then() -> None:
        _sign_by(world, role, few * world.random.randrange(1, 4))

    world.then = then


def truncated(world: World) -> None:
    """The line ends in the middle, each time; or a part does."""
    world.publish()
    if world.random.random() < 0.5:
        world.network = SimulatedNetwork(cut_at=world.random.randrange(100, 2_000))
        world.good = True
        return
    part = world.part()
    content = world.server.contents[part.sha256]
    world.server.contents[part.sha256] = content[: world.random.randrange(len(content))]
    world.reasons = ("PARTS",)


def oversized(world: World) -> None:
    """More bytes than a part has, a chunk, a part or a manifest beyond all limits."""
    what = world.random.randrange(3)
    if what == 0:
        world.publish()
        world.server.contents[world.part().sha256] += world.random.randbytes(
            world.random.randrange(1, 1 << 17)
        )
    elif what == 1:
        at = world.random.randrange(5)
        size = world.random.randrange(1 << 30, 1 << 50)
        world.publish(edit=lambda manifest: setattr(manifest.parts[at], "size", size))
    else:
        pad = "x" * world.random.randrange(1 << 20, 3 << 20)
        world.publish(edit=lambda manifest: setattr(manifest, "channel", pad))
    world.reasons = ("TOO_LARGE",)


def foreign_tenant(world: World) -> None:
    """What is well signed, for somebody else."""

    def edit(made: Any) -> None:
        made.tenant = "other"

    what = world.random.randrange(4)
    if what == 0:
        world.publish(edit=edit)
    elif what == 1:
        world.server.pause("taxi", edit=edit)
        world.server.instead["timestamp"] = world.server.timestamps[-2]
    elif what == 2:
        world.server.stamp(edit)
    else:
        world.server.rotate("release", edit=edit)
    world.reasons = ("TENANT",)


def scrambled(world: World) -> None:
    """Messages twice or in another order: refused, where it does not come out right by chance."""
    world.publish()
    world.good = True
    if world.random.random() < 0.5:
        world.network = SimulatedNetwork(world.random.randrange(1 << 30), repeat=0.9)
    else:
        world.network = SimulatedNetwork(world.random.randrange(1 << 30), reorder=8)
    world.reasons = ("PROTOCOL", "PARTS", "DIGEST")


ATTACKS: Final[tuple[Attack, ...]] = (
    arbitrary_part,
    rollback_of_release,
    rollback_of_timestamp,
    rollback_of_root,
    rollback_of_stop_list,
    withheld_stop_list,
    fast_forward,
    freeze,
    mix_and_match,
    endless_data,
    endless_refusals,
    slow_retrieval,
    wrong_key,
    key_of_another_role,
    expired_key,
    too_few_signatures,
    truncated,
    oversized,
    foreign_tenant,
    forged_time,
    replayed_time,
    scrambled,
)
