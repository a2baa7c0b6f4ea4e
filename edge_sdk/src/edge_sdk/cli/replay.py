"""`genome-edge replay`: make a recorded decision again, and compare."""

from __future__ import annotations

from argparse import Namespace

from edge_sdk.cli.common import existing_store
from edge_sdk.cli.decide import as_json, as_lines
from edge_sdk.cli.output import DONE, REFUSED, Output
from edge_sdk.engine import decide as engine
from edge_sdk.engine.release import Release
from edge_sdk.errors import EdgeError, UnknownDecision
from edge_sdk.runtime import loading
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.state import decision_of, find_decision
from edge_sdk.sync.installing import read_parts
from genome_edge.v1 import event_pb2


def run(options: Namespace, output: Output) -> int:
    """Replay; the exit code."""
    with existing_store(options) as store:
        record = find_record(store, options.id)
        release = _release(store, record.release_version, options)
    differences = engine.check_replay(release, record)
    if record.genome_used and not record.genome_indices:
        differences.append(
            "the genome that was used is not in the record: it was of a visit, and is forgotten"
        )
    explanation = engine.explain(release, record)
    again = explanation.decision
    said = explanation if options.explain else None
    output.result(
        {
            **as_json(again, explanation=said),
            "identical": not differences,
            "differences": differences,
        },
        [
            "identical: the same offers for the same reasons with the same probabilities"
            if not differences
            else "different:",
            *(f"  {difference}" for difference in differences),
            *as_lines(again, explanation=said),
        ],
    )
    return REFUSED if differences else DONE


def find_record(store: DeviceStore, decision_id: str) -> event_pb2.DecisionRecord:
    """The full record of a decision. Raises UnknownDecision."""
    try:
        raw = bytes.fromhex(decision_id.strip())
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise UnknownDecision(f"{decision_id!r} is no decision id: it has 32 hex characters")
    with store.read() as connection:
        frame = find_decision(connection, raw)
    if frame is None:
        raise UnknownDecision(
            f"decision {decision_id} is not among the last ones that this device keeps"
        )
    return decision_of(frame)


def _release(store: DeviceStore, version: int, options: Namespace) -> Release:
    """The release of that version. Raises EdgeError where it is not at hand."""
    if not version:
        raise EdgeError("the decision was made without a release: there is nothing to make again")
    if options.bundle is not None:
        _, release = loading.open_bundle(loading.read_bundle(options.bundle), None)
        if release.version == version:
            return release
        raise EdgeError(
            f"the bundle holds release {release.version}; the decision was made from {version}"
        )
    for stored in (store.active_release(), store.previous_release()):
        if stored is not None and stored.version == version:
            manifest = stored.manifest
            return Release.from_parts(manifest, read_parts(store.read_part, manifest))
    raise EdgeError(f"release {version} is not on this device any more; give it with --bundle FILE")
