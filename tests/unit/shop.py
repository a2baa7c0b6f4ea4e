"""A server's store and a device's, and what the planner sends the one from the other; no client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_sdk.store.device import DeviceStore
from edge_sdk.sync import trust
from edge_sdk.sync.actions import ApplyGenomes
from edge_sdk.sync.genomes_transaction import GenomesTransaction
from edge_sdk.sync.parts_transaction import Here
from edge_sdk.sync.trust import Limits
from genome_edge.v1 import dna_pb2, sync_pb2
from genome_server.genomes.build import build
from genome_server.genomes.rows import built_schema
from genome_server.home import Home
from genome_server.services.contents import Contents
from genome_server.services.framing import framed
from genome_server.services.sync_plan import GenomePlan, Want, plan
from genome_server.store.protocol import CustomerRow
from genome_server.store.rows import CONSENT_LEARNING, CONSENT_LOCATION, CONSENT_PERSONALISATION
from genome_server.store.sqlite import SqliteStore
from tests.serving import make_tenant

ALL = CONSENT_PERSONALISATION | CONSENT_LEARNING | CONSENT_LOCATION
LOG = bytes(range(16))
PEOPLE = [f"c{number}" for number in range(12)]
MINUTE_MS = 60_000


class Shop:
    """A server's store and a device's, and what a planner sends the one from the other.

    `published` is the lineage that devices have a release of; `compact` whether they take patches.
    """

    def __init__(self, root: Path, *, compact: bool = True) -> None:
        self.root, self.compact = root, compact
        self.tenant = make_tenant(Home(root / "home"), "default", PEOPLE)
        self.store = SqliteStore.open(self.tenant.db_path)
        self.contents = Contents(root / "contents", self.store)
        self.subjects = self.store.subjects_of("app", PEOPLE)
        self.everybody = set(self.subjects.values())
        self.members = set(self.everybody)
        self.now_ms = 0
        self.weight = 1
        for subject in self.everybody:
            self.agree(subject, ALL)
        self.build()
        self.published = self.lineage
        self.devices = 0
        self.device = self.new_device()

    def close(self) -> None:
        self.device.close()
        self.store.close()

    @property
    def lineage(self) -> dna_pb2.Lineage:
        """That of the rows in the store."""
        schema = built_schema(self.store)
        assert schema is not None
        return schema.lineage(self.store.vocabulary())

    @property
    def waits(self) -> bool:
        """Whether no device gets rows."""
        return not trust.same_lineage(self.lineage, self.published)

    def new_device(self) -> DeviceStore:
        self.devices += 1
        return DeviceStore.open(self.root / f"device-{self.devices}")

    def agree(self, subject: bytes, consents: int) -> None:
        self.now_ms += MINUTE_MS
        self.store.set_consents(subject, consents, self.now_ms)

    def erase(self, subject: bytes) -> None:
        self.store.erase_subject(subject)
        self.everybody.discard(subject)
        self.members.discard(subject)

    def join(self, subject: bytes) -> None:
        self.members.add(subject)
        self.store.set_members("all", self.members)

    def leave(self, subject: bytes) -> None:
        self.members.discard(subject)
        self.store.set_members("all", self.members)

    def meet(self, subject: bytes) -> None:
        """A new customer, or one who was erased and comes back."""
        self.everybody.add(subject)
        self.store.put_customers([CustomerRow(subject, (("brand:mill", 256),), None)])
        self.agree(subject, ALL)
        self.join(subject)

    def change(self) -> None:
        """Another schema; it takes effect with the next build."""
        text, self.weight = self.tenant.dna_path.read_text(), self.weight + 1
        new = text.replace(f"buy: {{weight: {self.weight}", f"buy: {{weight: {self.weight + 1}")
        assert new != text
        self.tenant.dna_path.write_text(new)

    def build(self) -> None:
        build(self.store, None, self.tenant.dna_path)

    def publish(self) -> None:
        self.published = self.lineage

    def ask(self, device: DeviceStore, *, forgetful: bool = False) -> GenomePlan | None:
        """What the device lacks; `forgetful`: it says no cursor."""
        held = device.genome_lineage()
        goes_on = trust.same_lineage(held, self.published) if held is not None else False
        cursor = device.genome_cursor() if goes_on and not forgetful else b""
        lineage = self.published.SerializeToString(deterministic=True)
        patches = self.compact and bool(cursor)
        want = Want("till", "all", lineage, cursor, patches, counts=self.compact)
        (answer,) = plan(self.store, self.contents, LOG, [want])
        assert answer is None or isinstance(answer, GenomePlan)
        return answer

    def take(self, device: DeviceStore, answer: GenomePlan) -> None:
        begin = sync_pb2.Begin.FromString(answer.body.begin)
        begin.nonce = 1
        taken = GenomesTransaction(
            begin, Here(set(), {}, Limits()), self.published, device.genome_lineage()
        )
        for piece in answer.body.pieces:
            taken.take(piece[0], sync_pb2.SyncResponse.FromString(framed(piece, 1)))
        (action,) = taken.take("commit", sync_pb2.SyncResponse(commit=answer.commit()))
        assert isinstance(action, ApplyGenomes)
        given: dict[str, Any] = dict(vars(action))
        del given["nonce"]
        device.commit_genomes(**given)

    def sync(self, device: DeviceStore | None = None) -> list[GenomePlan]:
        """Until nothing is left to send; what was sent. Raises TrustError DIGEST where the device
        comes to another number of rows than the server."""
        device = device or self.device
        sent: list[GenomePlan] = []
        while answer := self.ask(device):
            self.take(device, answer)
            sent.append(answer)
            assert len(sent) < 4
        return sent

    def held(self, device: DeviceStore | None = None) -> dict[bytes, int]:
        """Whose rows are on the device, and the consents that they say."""
        view = (device or self.device).genomes()
        found = {row.subject: row.consents for row in view.rows()}
        assert len(found) == view.count
        return found

    def allowed(self) -> dict[bytes, int]:
        """Who may be on devices, and what each agreed to."""
        rows = self.store.customers(sorted(self.members))
        said = {row.subject: row.consents or 0 for row in rows}
        return {one: bits for one, bits in said.items() if bits & CONSENT_PERSONALISATION}
