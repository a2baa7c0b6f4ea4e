"""A server and a device of it, with nothing but calls between them: all that is real, no socket.

The device is an EdgeClient on a store; what its outbox holds goes into the server's log batch by
batch, and what the server's planner says goes through the device's transaction into that store.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from edge_sdk import EdgeClient
from edge_sdk.dna.genome import Genome, Row
from edge_sdk.dna.imprint import GenomeState, encode_row, grow, hour_of, profile_strengths
from edge_sdk.engine.release import Release
from edge_sdk.outbox.frames import iter_frames
from edge_sdk.outbox.queue import Outbox
from edge_sdk.runtime.earlier import votes
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.genomes import compatible
from edge_sdk.store.state import StoredImprint
from edge_sdk.sync.actions import ApplyGenomes
from edge_sdk.sync.genomes_transaction import GenomesTransaction
from edge_sdk.sync.parts_transaction import Here
from edge_sdk.sync.trust import Limits
from genome_edge.v1 import event_pb2, release_pb2, sync_pb2
from genome_server.dna_words import default_text
from genome_server.genomes.build import build
from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import built_schema, row_of
from genome_server.home import Home
from genome_server.log import Committer, LogReader
from genome_server.services.contents import Contents
from genome_server.services.framing import framed
from genome_server.services.sync_plan import GenomePlan, Want, plan
from tests.serving import frames, interaction, make_tenant, publish_release
from tests.unit.device_client import FAST

NONCE = 7
Products = Mapping[str, Sequence[tuple[str, int]]]


class Said(NamedTuple):
    """An imprint as the device wrote it into its outbox, and its place there."""

    subject: bytes
    time_ms: int
    interaction: event_pb2.Interaction
    place: tuple[bytes, int, int]  # epoch, lane, sequence


class Mirrored:
    """The pair. Not thread-safe."""

    def __init__(self, root: Path, customers: Sequence[str], products: Products, quantiser: int):
        self.tenant = make_tenant(Home(root / "home"), "default", customers)
        text = default_text(datetime.now(UTC))
        self.tenant.dna_path.write_text(text.replace("quantiser: 2", f"quantiser: {quantiser}"))
        self.server = self.tenant.open_store()
        documents = (
            (name, {"dna": [{"marker": m, "salience": q8 / 256} for m, q8 in dna]})
            for name, dna in products.items()
        )
        self.server.put_documents("product", documents)
        self.store = DeviceStore.open(root / "device")
        self.publish()
        self.contents = Contents(root / "contents", self.server)
        self.outbox = Outbox(self.store, FAST)
        #: Everything that the device reported, by interaction id, and how far rows include it.
        self.said: dict[str, Said] = {}
        self.marks: dict[tuple[bytes, int], int] = {}
        self.rows: dict[bytes, Row] = {}
        self._other = 0
        self.subjects = self.server.subjects_of("app", customers)
        with Committer(self.tenant.log_path):
            pass  # a log of nothing
        self.live()
        self.sync()
        self.edge = EdgeClient(root / "device", config=FAST)
        assert self.edge.wait_ready(20)

    def close(self) -> None:
        """Let go of everything."""
        self.edge.close()
        self.store.close()
        self.server.close()

    # Between the two ----------------------------------------------------------------------------

    def report(self, batches: int = 1_000_000) -> int:
        """The device's next batches go into the log; how many there were."""
        self.edge.flush(0)
        with Committer(self.tenant.log_path) as log:
            for number in range(batches):
                batch = self.outbox.next_batch()
                if batch is None:
                    return number
                epoch, lane = batch.epoch, batch.lane
                first, last = batch.first_sequence, batch.last_sequence
                for frame in iter_frames(batch.frames):
                    event = event_pb2.Event.FromString(frame.body)
                    if event.HasField("interaction"):
                        told = event.interaction
                        where = (epoch, lane, frame.sequence)
                        one = Said(frame.subject, frame.time_ms, told, where)
                        self.said[told.interaction_id] = one
                log.append_batch("till", epoch, lane, first, last, batch.frames, batch.digest)
                self.outbox.ack(batch, last, last, b"log")
        return batches

    def live(self, at_once: int = 1_000_000) -> None:
        """The server catches up with its log."""
        with closing(LiveConsumer(self.tenant)) as consumer:
            while consumer.catch_up(at_once):
                pass

    def build(self) -> None:
        """A night passes on the server."""
        with LogReader(self.tenant.log_path) as log:
            build(self.server, log, self.tenant.dna_path)

    def publish(self) -> None:
        """A release of what is built, which the device takes: at once, or with its rows."""
        publish_release(self.tenant)
        (row,) = self.server.releases_in_force()
        manifest = release_pb2.Manifest.FromString(
            release_pb2.SignedManifest.FromString(row.manifest).manifest
        )
        self.lineage = manifest.lineage
        for part in manifest.parts:
            content = (self.tenant.parts_dir / part.sha256.hex()).read_bytes()
            self.store.stage_part(part.sha256, content)
        self.store.commit_release(row.manifest, row.version)

    def sync(self) -> None:
        """The device is sent what it lacks, where it lacks anything."""
        held = self.store.genome_lineage()
        same = held is not None and compatible(held, self.lineage)
        cursor = self.store.genome_cursor() if same else b""
        # All rows come as blocks here; what changes later as patches of single markers, too.
        want = Want("till", "all", self.lineage.SerializeToString(), cursor, bool(cursor))
        with LogReader(self.tenant.log_path) as log:
            (answer,) = plan(self.server, self.contents, log.incarnation, [want])
        if answer is None:
            return
        assert isinstance(answer, GenomePlan)
        begin = sync_pb2.Begin.FromString(answer.body.begin)
        begin.nonce = NONCE
        here = Here(set(), {}, Limits())
        taken = GenomesTransaction(begin, here, self.lineage, self.store.genome_lineage())
        for piece in answer.body.pieces:
            message = sync_pb2.SyncResponse.FromString(framed(piece, NONCE))
            taken.take(piece[0], message)
        (action,) = taken.take("commit", sync_pb2.SyncResponse(commit=answer.commit()))
        assert isinstance(action, ApplyGenomes)
        given: dict[str, Any] = dict(vars(action))
        del given["nonce"]
        self.store.commit_genomes(**given)
        self.marks = {(mark.epoch, mark.lane): mark.sequence for mark in action.included}
        self.rows = {record.subject: row_of(record) for record in self.server.genomes()}

    def elsewhere(self, customer: str, product: str) -> None:
        """Another device reports that this customer bought something."""
        self._other += 1
        event = interaction(self.subjects[customer], "buy", product, f"kiosk-{self._other}")
        data = frames(self._other, event)
        with Committer(self.tenant.log_path) as log:
            digest = hashlib.sha256(data).digest()
            log.append_batch("kiosk", b"k" * 16, 0, self._other, self._other, data, digest)

    # What there must be -------------------------------------------------------------------------

    @property
    def release(self) -> Release:
        """The release that the device decides from."""
        release = self.edge._desk.room.live.release
        assert release is not None
        return release

    def held(self, customer: str) -> tuple[Row | None, list[str]]:
        """The row that the device reads of a customer, and the imprints that it adds to it, by id;
        those that it has put together by now have none."""
        room = self.edge._desk.room
        subject = self.subjects[customer]
        own = room.local.pending(subject)
        ids = []
        for one in own:
            ids += [one.id] if isinstance(one, StoredImprint) else [""] * len(one)
        return room.live.row(subject), ids

    def pending(self, customer: str, imprinted: Iterable[str]) -> list[str]:
        """Of what this customer did here, in order, what the device's rows do not include."""
        left = []
        for name in imprinted:
            said = self.said.get(name)
            if said is None or self.marks.get(said.place[:2], 0) < said.place[2]:
                left.append(name)
        return left

    def summed(self, customer: str) -> Row:
        """The row that this device's raw imprints come to, summed and written by the SDK alone.

        Markers that the release does not know yet have the numbers that the server gave them.
        """
        subject, schema = self.subjects[customer], self.release.schema
        with closing(self.tenant.open_store()) as store:
            vocabulary = store.vocabulary()
        release: Any = SimpleNamespace(
            schema=schema,
            vocabulary=vocabulary,
            products=self.release.products,
            catalogue=self.release.catalogue,
        )
        state = GenomeState()
        for said in self.said.values():
            if said.subject == subject:
                hour = hour_of(said.time_ms)
                for marker, q24, half_life in votes(release, said.interaction):
                    grown = grow(q24, hour - schema.landmark_hour, half_life)
                    state.add(marker, grown, hour)
        (known,) = self.server.customers([subject])
        profile = profile_strengths(schema, vocabulary, known.markers)
        consents = known.consents or 0
        return encode_row(state, profile, schema, vocabulary, subject=subject, consents=consents)

    def shown(self, customer: str, hour: int) -> dict[str, float]:
        """The genome that the server's row shows at an hour, under the device's vocabulary."""
        with closing(self.tenant.open_store()) as store:
            record, schema = store.genome(self.subjects[customer]), built_schema(store)
        assert record is not None
        assert schema is not None
        genome = Genome(row_of(record), schema, self.release.vocabulary)
        return dict(genome.strengths(hour))


@contextmanager
def mirrored(
    root: Path, customers: Sequence[str], products: Products, quantiser: int = 2
) -> Iterator[Mirrored]:
    """A pair, closed in the end."""
    made = Mirrored(root, customers, products, quantiser)
    try:
        yield made
    finally:
        made.close()


def soon(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until the client has looked at its store."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
