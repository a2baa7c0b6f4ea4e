"""What must hold in simulated worlds."""

from __future__ import annotations

from typing import Final

from edge_sdk.store.genomes import compatible
from edge_sdk.sync.installing import read_parts
from genome_edge.v1 import release_pb2
from tests.drills.decisions import Answer, Consents
from tests.drills.findings import Wrong
from tests.drills.region import CUSTOMERS, Device, events
from tests.drills.town import Log, Print, Town, print_of, subject_of

_OFF_MS: Final = 1_000


class Law:
    """What must hold for one device at any time, but for a disk that was put back."""

    def __init__(self) -> None:
        self.marks: dict[str, int] = {}
        self.stopped: frozenset[str] = frozenset()
        self.rows: Print | None = None
        self.consents = Consents()
        self.answers: dict[str, Answer] = {}

    def put_back(self) -> Law:
        """That of a device whose disk is as it was once."""
        law = Law()
        law.answers, law.consents = self.answers, self.consents
        law.consents.doubt()
        return law

    def copy(self) -> Law:
        """That of a copy of the disk."""
        law = Law()
        law.marks, law.stopped, law.rows = self.marks, self.stopped, self.rows
        law.consents.said, law.answers = self.consents.said, dict(self.answers)
        return law

    def check(self, device: Device, town: Town) -> None:
        """Raises Wrong, StoreError."""
        store = device.store
        standing = store.standing()
        active, view = store.active_release(), store.genomes()
        marks = {
            "the root": standing.root.version,
            "the timestamp": standing.timestamp.version if standing.timestamp else 0,
            "the stop list": standing.stop_list_version,
            "the highest release seen": store.highest_seen(),
            "the active release": active.version if active is not None else 0,
        }
        for what, mark in marks.items():
            if mark < self.marks.get(what, 0):
                raise Wrong(f"{what} fell from {self.marks[what]} to {mark}")
        if not standing.stopped >= self.stopped:
            raise Wrong(f"{sorted(self.stopped - standing.stopped)} are not stopped any more")
        self.marks, self.stopped = marks, standing.stopped
        if active is not None:
            self._check_release(device, active.manifest, town)
        rows = print_of(view.rows())
        known, self.rows = self.rows, rows
        if not rows:
            return
        lineage = town.held.get((device.name, rows))
        if lineage is None or view.lineage is None or len(rows) != view.count:
            raise Wrong("its rows are not those of its audience at any one moment")
        if not compatible(lineage, view.lineage):
            raise Wrong("its rows are called of another lineage than they are")
        # Rows may wait for a release to be followed, and are not read meanwhile.
        came = known not in (None, rows)
        if came and not (active and compatible(active.manifest.lineage, view.lineage)):
            raise Wrong("rows came that are of another lineage than its release")

    def _check_release(self, device: Device, manifest: release_pb2.Manifest, town: Town) -> None:
        if manifest != town.manifests.get(manifest.version):
            raise Wrong(f"release {manifest.version} is not what the server published")
        if manifest.version in town.broken:
            raise Wrong(f"release {manifest.version} cannot be loaded and is active")
        read_parts(device.store.read_part, manifest)


def check_log(log: Log, said: dict[int, bytes]) -> set[int]:
    """The events in the log, each once, without gaps and as they were said."""
    logged: set[int] = set()
    lane, due = None, 1
    for *key, first, last, frames in log.rows():
        if key != lane:
            lane, due = key, 1
        if first != due:
            raise Wrong(f"the log has a gap from {due} to {first}")
        due = last + 1
        for number, subject in events(frames):
            if number in logged:
                raise Wrong(f"event {number} is in the log twice")
            if said.get(number) != subject:
                raise Wrong(f"nobody said what the log has as event {number}")
            logged.add(number)
    return logged


def check_current(device: Device, town: Town, nack: str) -> None:
    """After a sync over a good line."""
    store, standing = device.store, device.store.standing()
    off = device.updater._time.now_ms() - device.true.ms
    if abs(off) > _OFF_MS:
        raise Wrong(f"its time is off by {off} ms after the server was heard")
    if standing.root.version != len(town.roots):
        raise Wrong(f"it has root {standing.root.version} of {len(town.roots)}: {nack}")
    if standing.timestamp is None or standing.timestamp.version != len(town.timestamps):
        raise Wrong(f"it does not have timestamp {len(town.timestamps)}: {nack}")
    if standing.stopped != town.stopped():
        raise Wrong(f"it stops {sorted(standing.stopped)}: {nack}")
    manifest = town.manifests[town.offered]
    if town.offered in town.broken or manifest.expires_ms <= device.true.ms:
        return
    active = store.active_release()
    if nack or active is None or active.version != town.offered:
        raise Wrong(f"it does not have release {town.offered}: {nack}")
    if store.assets_held(manifest) != {p.name for p in manifest.parts if p.asset}:
        raise Wrong("it does not have all assets")
    _check_audience(device, town)


def _check_audience(device: Device, town: Town) -> None:
    """Who is in its audience is here, and nobody else in any form."""
    view, rows = device.store.genomes(), town.rows_for(device.name)
    if print_of(view.rows()) != print_of(rows.values()):
        raise Wrong("it does not have the rows of its audience")
    for number in range(CUSTOMERS):
        subject = subject_of(number)
        if view.subject_of(str(number)) != (subject if subject in rows else None):
            raise Wrong(f"customer {number} is not known as the server says")
        if subject not in rows and (view.row(subject) is not None or view.consents(subject)):
            raise Wrong(f"{subject.hex()[:6]} is not of its audience and still has a row")


def check_erased(device: Device, town: Town) -> None:
    """After a sync that brought rows: who was erased is nowhere on the disk."""
    for subject in town.erased:
        if where := device.remembers(subject):
            raise Wrong(f"it remembers {subject.hex()[:6]}, who was erased: {where}")
