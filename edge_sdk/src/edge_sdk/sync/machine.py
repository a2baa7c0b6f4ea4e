"""What a device does with what the server sends. No input or output happens here.

Rules
-----
1. The first message of a stream is Hello. After it a device only answers and says how it is.
2. Trust is no transaction: each root, timestamp and stop list is taken that can be verified; what
   cannot is refused with a Nack of nonce 0, and the device says at once what it now holds.
3. A transaction is one Begin, its Puts, Deletes and Chunks, and one Commit. Nothing of it counts
   before Commit, but for parts: what is here of one is kept at once, so that a cut download goes on
   at the byte where it ended instead of from the start. The kinds and their rules are in
   `parts_transaction` and `genomes_transaction`.
4. Every transaction gets one answer: an Ack after what it brought is in the store, or one Nack
   with a `trust.Refusal`, given as soon as the refusal is certain. What still comes of a refused
   transaction is dropped, and a server that does not come to an end of it, or of things to
   refuse, is left for a while. The last good release and the rows stay as they were.
5. The server's time is taken whenever it says it and is to be believed (`roles.verify_time`). Where
   it shows that this device's clock is what made it refuse something, that is looked at again.
6. A stream on which nothing was heard for long is dead, whatever the socket says. Goodbye means:
   come back after this long, not sooner.
7. A server may greet with a heartbeat. A later one outside a transaction says that there is
   nothing more to send for now: whoever syncs only once has then seen everything.

Theory of operation
-------------------
`SyncMachine` takes messages and gives actions; the shell (`streaming`) carries them out in order.
Those of `actions.Attempt` can fail there. For what ends a transaction, and for every failure, the
shell calls `settle` with what happened and gets the Ack or Nack to send. There is one machine for
each stream; what survives a stream is in the store and comes back in through `Held`.

    Trust ── each verified ──> PutTrust
    Begin(release) ── verified ──> chunks ──> StagePart, AppendBytes, FinishPart ... Commit
                                                                 ──> InstallRelease ──> settle
    Begin(assets) ─────────────────> chunks ──> the same ....... Commit ──> AssetsArrived ──> settle
    Begin(genomes) ── lineage ───> chunks, or puts and deletes . Commit ──> ApplyGenomes ──> settle
"""

from __future__ import annotations

from edge_sdk.errors import TrustError
from edge_sdk.sync import roles, trust
from edge_sdk.sync.actions import (
    Action,
    HeardLog,
    HeardTime,
    Held,
    Leave,
    PutTrust,
    RememberVersion,
    Send,
)
from edge_sdk.sync.genomes_transaction import GenomesTransaction
from edge_sdk.sync.parts_transaction import Here, PartsTransaction
from edge_sdk.sync.trust import Limits, Refusal, refuse
from genome_edge.v1 import sync_pb2

# After these a new Hello, which says anew what is held, may get further; so the device leaves the
# stream and comes back. After the others only something newly published can help.
_HEALED_BY_HELLO = frozenset(
    {
        Refusal.PARTS,
        Refusal.DIGEST,
        Refusal.ROWS,
        Refusal.PROTOCOL,
        Refusal.DISK_FULL,
        Refusal.STORE,
    }
)
# What a clock that is wrong may be to blame for.
_BY_CLOCK = frozenset({Refusal.EXPIRED, Refusal.ROOT_EXPIRED})
_MOVED_MS = 60_000
# What a stream may bring that is of no use, before it is left for so long.
_MOST_DROPPED = 32 << 20
_MOST_REFUSALS = 100
_AWAY_S = 60.0

# What can be in trouble, the worst first.
_TROUBLES = ("time", "trust", "release", "genomes", "assets", "stream")
_BEGUN = {
    sync_pb2.Begin.KIND_RELEASE: "release",
    sync_pb2.Begin.KIND_GENOMES: "genomes",
    sync_pb2.Begin.KIND_ASSETS: "assets",
}


class SyncMachine:
    """One stream's worth of sync: messages in, actions out. Not thread-safe."""

    def __init__(self, held: Held, limits: Limits | None = None) -> None:
        self._held = held
        self._limits = limits or Limits()
        self._standing = held.standing
        self._here = Here(set(held.parts), dict(held.partials), self._limits)
        self._highest = held.highest_release
        self._seen_digest = held.seen_digest
        self._active, self._active_digest = held.active, held.active_digest
        self._rows_lineage = held.genome_lineage if self._cursor() else None
        self._open: PartsTransaction | GenomesTransaction | None = None
        self._refused: int | None = None
        self._dropped = self._refusals = 0
        self._late: sync_pb2.Trust | None = None
        self._greeted = False
        self._troubles: dict[str, str] = {}

    @property
    def last_nack(self) -> str:
        """Reason and detail of what was refused on this stream and not made good since."""
        return next((self._troubles[of] for of in _TROUBLES if of in self._troubles), "")

    @property
    def standing(self) -> roles.Standing:
        """What is in force, as far as this device has heard."""
        return self._standing

    @property
    def at_rest(self) -> bool:
        """Whether the server has spoken and no transaction is open."""
        return self._greeted and self._open is None

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open."""
        return self._open is not None

    def hello(self) -> sync_pb2.SyncRequest:
        """The first message of the stream."""
        held, standing = self._held, self._standing
        return sync_pb2.SyncRequest(
            hello=sync_pb2.Hello(
                sdk_version=held.sdk_version,
                features=trust.FEATURES,
                active_release=held.active.version if held.active is not None else 0,
                highest_release=held.highest_release,
                held_parts=sorted(held.parts),
                genome_cursor=self._cursor(),
                lineage=held.genome_lineage,
                epoch=held.epoch,
                wants_genomes=held.wants_genomes,
                root_version=standing.root.version,
                timestamp_version=standing.timestamp.version if standing.timestamp else 0,
                stop_list_version=standing.stop_list_version,
                partials=[
                    sync_pb2.Partial(sha256=sha256, size=size)
                    for sha256, size in sorted(held.partials.items())
                ],
                nonce=held.nonce,
            )
        )

    def receive(self, message: sync_pb2.SyncResponse, now_ms: int) -> list[Action]:
        """What to do about a message; `now_ms` is the server's time as far as it is known."""
        kind = message.WhichOneof("message")
        if kind == "trust":
            return self._trust(message.trust, now_ms)
        if kind == "heartbeat":
            return self._heartbeat(message.heartbeat, now_ms)
        self._greeted = True
        if kind == "goodbye":
            return [Leave(message.goodbye.retry_after_ms / 1000)]
        if kind is None:
            return []  # said by a newer server to newer devices
        nonce: int = getattr(message, kind).nonce
        if kind == "begin":
            self._refused = None  # a nonce may come again
        if nonce == self._refused:
            self._dropped += message.ByteSize()
            return [Leave(_AWAY_S)] if self._dropped > _MOST_DROPPED else []
        try:
            return self._step(kind, message, now_ms)
        except TrustError as error:
            return self._nack(nonce, error.reason, str(error), _BEGUN.get(message.begin.kind))

    def settle(
        self, nonce: int, refusal: str = "", detail: str = "", *, stay: bool = False
    ) -> list[Action]:
        """Say how a transaction, or what failed of one, went; without `refusal` it went well.
        `stay`: the shell itself sees when saying anew what is held would help.

        Returns the answer to send.
        """
        transaction = self._open
        if transaction is None or transaction.nonce != nonce:
            return []
        if refusal:
            answer = self._nack(nonce, refusal, detail)
            return [one for one in answer if not stay or one != Leave(0.0)]
        self._open = None
        if isinstance(transaction, GenomesTransaction):
            self._rows_lineage = transaction.begun.lineage
        elif transaction.signed is not None:
            self._active = transaction.manifest
            self._active_digest = trust.manifest_digest(transaction.signed)
        for of in (transaction.name, "stream"):
            self._troubles.pop(of, None)
        return [Send(sync_pb2.SyncRequest(ack=sync_pb2.Ack(nonce=nonce)))]

    # What is in force, and the time -------------------------------------------------------------

    def _trust(self, message: sync_pb2.Trust, now_ms: int) -> list[Action]:
        taken = roles.take(self._standing, message, now_ms, self._limits)
        self._standing = taken.standing
        self._late = None
        self._troubles.pop("trust", None)
        actions: list[Action] = []
        if taken.changed:
            actions.append(PutTrust(taken.root, taken.timestamp, taken.stop_list))
        for error in taken.refused:
            if error.reason in _BY_CLOCK:
                self._late = message
            actions += self._nack(0, error.reason, str(error), "trust")
        return actions

    def _heartbeat(self, heartbeat: sync_pb2.ServerHeartbeat, now_ms: int) -> list[Action]:
        idle = self.at_rest
        self._greeted = True
        try:
            time_ms = self._time(heartbeat)
        except TrustError as error:
            known = "time" in self._troubles
            nack = self._nack(0, error.reason, str(error), "time")
            return [HeardTime(0, idle), *([] if known else nack)]
        self._troubles.pop("time", None)
        actions: list[Action] = [HeardTime(time_ms, idle)]
        if heartbeat.incarnation:
            actions.append(HeardLog(heartbeat.incarnation))
        if time_ms > 0 and abs(time_ms - now_ms) > _MOVED_MS:
            if self._late is not None:
                actions += self._trust(self._late, time_ms)
            if self._troubles:  # be it for the time itself or for keys that only now are trusted
                actions.append(Leave(0.0))
        return actions

    def _time(self, heartbeat: sync_pb2.ServerHeartbeat) -> int:
        """The time that is to be believed: of a root that only the clock of this device keeps it
        from following, the timestamp keys count, too. Otherwise it could never be put right."""
        nonce = self._held.nonce
        try:
            return roles.verify_time(heartbeat, self._standing.root, nonce)
        except TrustError:
            if self._late is None:
                raise
            root = roles.verify_roots(self._standing.root, self._late.roots, 0, self._limits)
            return roles.verify_time(heartbeat, root, nonce)

    # Transactions -------------------------------------------------------------------------------

    def _step(self, kind: str, message: sync_pb2.SyncResponse, now_ms: int) -> list[Action]:
        if kind == "begin":
            return self._begin(message.begin, now_ms)
        transaction = self._open
        if transaction is None or transaction.nonce != getattr(message, kind).nonce:
            raise refuse(Refusal.PROTOCOL, f"a {kind} outside its transaction")
        if transaction.committed:
            raise refuse(Refusal.PROTOCOL, f"a {kind} after the Commit")
        return transaction.take(kind, message)

    def _begin(self, begin: sync_pb2.Begin, now_ms: int) -> list[Action]:
        if self._open is not None:
            raise refuse(Refusal.PROTOCOL, "a Begin before the answer to the last one")
        if begin.kind == sync_pb2.Begin.KIND_RELEASE:
            return self._begin_release(begin, now_ms)
        if begin.kind == sync_pb2.Begin.KIND_ASSETS:
            if self._active is None:
                raise refuse(Refusal.PROTOCOL, "assets without a release")
            self._open = PartsTransaction(begin.nonce, self._active, None, self._here)
        elif begin.kind == sync_pb2.Begin.KIND_GENOMES:
            if not self._held.wants_genomes:
                raise refuse(Refusal.PROTOCOL, "this device holds no genomes")
            lineage = self._active.lineage if self._active is not None else None
            self._open = GenomesTransaction(begin, self._here, lineage, self._rows_lineage)
        else:
            raise refuse(Refusal.PROTOCOL, f"a transaction of kind {begin.kind}")
        return self._open.begin()

    def _begin_release(self, begin: sync_pb2.Begin, now_ms: int) -> list[Action]:
        signed, root = begin.manifest, self._standing.root
        if begin.HasField("root"):
            roles.verify_root(root, begin.root)
        digest = trust.manifest_digest(signed)
        manifest = trust.verify_manifest(
            signed,
            root,
            now_ms,
            self._highest,
            self._limits,
            seen_digest=self._seen_digest,
            held=digest == self._active_digest,
        )
        failed, verdict = self._held.failed
        if digest == failed:
            raise refuse(Refusal.GOLDEN, f"it failed on this device before: {verdict}")
        self._highest, self._seen_digest = manifest.version, digest
        self._open = PartsTransaction(begin.nonce, manifest, signed, self._here)
        return [RememberVersion(manifest.version, digest), *self._open.begin()]

    def _nack(self, nonce: int, reason: str, detail: str, of: str | None = None) -> list[Action]:
        if self._open is not None and self._open.nonce == nonce:
            of = self._open.name
            self._open = None
        if nonce:
            self._refused = nonce
        self._troubles[of or "stream"] = f"{reason}: {detail}"
        nack = sync_pb2.Nack(nonce=nonce, reason=reason, detail=detail)
        actions: list[Action] = [Send(sync_pb2.SyncRequest(nack=nack))]
        self._refusals += 1
        if self._refusals > _MOST_REFUSALS:
            actions.append(Leave(_AWAY_S))
        elif nonce and reason in _HEALED_BY_HELLO:
            actions.append(Leave(0.0))
        return actions

    def _cursor(self) -> bytes:
        """The cursor to go on from; none where the rows held cannot be read with the release."""
        held = self._held
        if not held.wants_genomes or held.genome_lineage is None:
            return b""
        lineage = held.active.lineage if held.active is not None else None
        return held.genome_cursor if trust.same_lineage(held.genome_lineage, lineage) else b""
