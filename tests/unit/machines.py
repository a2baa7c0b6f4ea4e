"""A sync machine, and a server that says things to it. No network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_sdk.sync import trust
from edge_sdk.sync.actions import (
    Action,
    Held,
    Send,
)
from edge_sdk.sync.machine import SyncMachine
from edge_sdk.sync.roles import Standing
from genome_edge.v1 import dna_pb2, sync_pb2
from tests.unit.publisher import Published, Publisher, now_ms

PUBLISHER = Publisher()
RELEASES = {version: PUBLISHER.release(version) for version in (1, 2, 3)}
EPOCH = b"e" * 16


def held(release: Published | None = None, **more: Any) -> Held:
    base = Held(standing=Standing(PUBLISHER.root), epoch=EPOCH, sdk_version="0")
    if release is not None:
        base = replace(
            base,
            active=release.manifest,
            active_digest=trust.manifest_digest(release.signed),
            highest_release=release.manifest.version,
            seen_digest=trust.manifest_digest(release.signed),
            parts=frozenset(release.parts),
        )
    return replace(base, **more)


class Server:
    """Feeds a machine what a server would say."""

    def __init__(self, machine: SyncMachine, now: int | None = None) -> None:
        self.machine = machine
        self.now = now_ms() if now is None else now

    def say(self, **message: Any) -> list[Action]:
        return self.machine.receive(sync_pb2.SyncResponse(**message), self.now)

    def begin(self, release: Published, nonce: int = 1, **more: Any) -> list[Action]:
        return self.say(
            begin=sync_pb2.Begin(
                nonce=nonce, kind=sync_pb2.Begin.KIND_RELEASE, manifest=release.signed, **more
            )
        )

    def chunk(self, sha256: bytes, offset: int, data: bytes, nonce: int = 1) -> list[Action]:
        return self.say(chunk=sync_pb2.Chunk(nonce=nonce, sha256=sha256, offset=offset, data=data))

    def commit(self, nonce: int = 1, **more: Any) -> list[Action]:
        return self.say(commit=sync_pb2.Commit(nonce=nonce, **more))

    def parts(self, release: Published, nonce: int = 1, size: int = 1000) -> list[Action]:
        actions = []
        for sha256, content in release.parts.items():
            for offset in range(0, len(content), size):
                actions += self.chunk(sha256, offset, content[offset : offset + size], nonce)
        return actions


def nacks(actions: list[Action]) -> list[str]:
    return [a.message.nack.reason for a in actions if isinstance(a, Send) if a.message.nack.nonce]


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def block(*subjects: bytes, lineage: dna_pb2.Lineage | None = None) -> dna_pb2.GenomeBlock:
    """A block with a row of two markers for each subject."""
    return dna_pb2.GenomeBlock(
        lineage=lineage,
        subjects=b"".join(subjects),
        consents=[2] * len(subjects),
        as_of_hours=[5] * len(subjects),
        counts=[2] * len(subjects),
        index_deltas=[0, 1] * len(subjects),
        strengths=bytes([9, 9] * len(subjects)),
    )
