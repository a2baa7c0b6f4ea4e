"""`genome-edge replay`: make recorded decisions again, and compare."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections import Counter
from typing import Any, Final

from edge_sdk.cli.common import existing_store
from edge_sdk.cli.decide import as_json, as_lines
from edge_sdk.cli.output import DONE, REFUSED, Output
from edge_sdk.cli.telling import what_if_json, what_if_lines
from edge_sdk.engine.explain import FORGOTTEN, check_replay, explain
from edge_sdk.engine.release import Release
from edge_sdk.engine.what_if import what_if
from edge_sdk.errors import EdgeError, UnknownDecision, UsageError
from edge_sdk.outbox.frames import Frame
from edge_sdk.runtime import loading
from edge_sdk.runtime.looking_back import found, release_of
from edge_sdk.store.device import DeviceStore
from edge_sdk.store.state import decision_of, recent_decisions

_EVERYTHING: Final = 1 << 31
_TELL_EVERY: Final = 100
# People are told so many of those that differ; the object holds all.
_MOST: Final = 20


def run(options: Namespace, output: Output) -> int:
    """Replay; the exit code."""
    many = options.all or options.last is not None
    if many and (options.what_if or options.explain):
        raise UsageError("--what-if and --explain are about one decision: give its id")
    with existing_store(options) as store:
        releases = _Releases(store, options)
        if many:
            with store.read() as connection:
                frames = recent_decisions(connection, options.last or _EVERYTHING)
            return _replay_all(frames[::-1], releases, output)
        frame = _frame(store, options.id)
        return _replay_one(frame, releases, options, output)


class _Releases:
    """The releases at hand by version: those of the bundles first, then those of the store."""

    def __init__(self, store: DeviceStore, options: Namespace) -> None:
        self._store = store
        opened = [loading.open_bundle(loading.read_bundle(p), None)[1] for p in options.bundle]
        self.brought = opened
        self._known: dict[int, Release | None] = {release.version: release for release in opened}

    def get(self, version: int) -> Release:
        """The release of that version. Raises EdgeError where it is not at hand."""
        if version not in self._known:
            try:
                self._known[version] = release_of(self._store, version)
            except EdgeError:
                self._known[version] = None
        release = self._known[version]
        if release is None:
            if not version:
                raise EdgeError("the decision was made without a release: nothing to make again")
            held = ", ".join(str(one.version) for one in self.brought)
            hint = f"the bundle holds {held}" if held else "give it with --bundle FILE"
            raise EdgeError(f"release {version} is not on this device any more; {hint}")
        return release


def _replay_one(frame: Frame, releases: _Releases, options: Namespace, output: Output) -> int:
    record = decision_of(frame)
    # A bundle of another release is what to decide from instead.
    other = next((one for one in releases.brought if one.version != record.release_version), None)
    release = releases.get(record.release_version)
    differences = check_replay(release, record, frame.subject)
    notes = [FORGOTTEN] if record.genome_used and not record.genome_indices else []
    explanation = explain(release, record)
    again = explanation.decision
    said = explanation if options.explain else None
    data: dict[str, Any] = {
        **as_json(again, explanation=said),
        "identical": not differences,
        "differences": differences,
        "notes": notes,
    }
    lines = [
        "identical: the same offers for the same reasons with the same probabilities"
        if not differences
        else "different:",
        *(f"  {difference}" for difference in differences),
        *(f"note: {note}" for note in notes),
        *as_lines(again, explanation=said),
    ]
    if options.what_if or other is not None:
        changes = dict(options.what_if)
        otherwise = what_if(release, record, changes, other=other)
        data["what_if"] = what_if_json(changes, otherwise, as_json)
        lines += what_if_lines(changes, otherwise, as_lines, explained=options.explain)
    output.result(data, lines)
    return REFUSED if differences else DONE


def _replay_all(frames: list[Frame], releases: _Releases, output: Output) -> int:
    different: dict[str, list[str]] = {}
    counts: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for number, frame in enumerate(frames):
        record = decision_of(frame)
        _progress(number, len(frames), output)
        if not record.release_version:
            counts["without_release"] += 1
            continue
        try:
            differences = check_replay(releases.get(record.release_version), record, frame.subject)
        except EdgeError as error:
            missing[str(error)] += 1
            continue
        if not differences:
            counts["identical"] += 1
        elif record.genome_used and not record.genome_indices:
            counts["forgotten"] += 1  # what the genome of a visit decided nobody can check
        else:
            different[record.decision_id.hex()] = differences
    _progress(len(frames), len(frames), output)
    told = [f"  {name}: {'; '.join(said)}" for name, said in list(different.items())[:_MOST]]
    bare = counts["without_release"]
    of = len(frames) - bare
    told_first = [f"{counts['identical']} of {of} decisions come out the same"]
    if bare:
        told_first = told_first[: bool(of)]
        told_first.append(f"{bare} made without a release: there is nothing to make again")
    others = {
        "different": len(different),
        "not to be checked, as the genome of a visit is forgotten": counts["forgotten"],
        **missing,
    }
    output.result(
        {
            "decisions": len(frames),
            "identical": counts["identical"],
            "different": different,
            "forgotten": counts["forgotten"],
            "without_release": bare,
            "missing": dict(missing),
        },
        [
            *told_first,
            *(f"{number}  {what}" for what, number in others.items() if number),
            *told,
        ],
    )
    return REFUSED if different or missing else DONE


def _progress(done: int, of: int, output: Output) -> None:
    """Where it stands, on a terminal only."""
    if output.as_json or not sys.stderr.isatty() or (done % _TELL_EVERY and done < of):
        return
    print(f"\r{done} of {of}", end="" if done < of else "\n", file=sys.stderr, flush=True)


def _frame(store: DeviceStore, id_: str) -> Frame:
    """The frame of a decision. Raises UnknownDecision."""
    name = id_.strip()
    try:
        if len(bytes.fromhex(name)) == 16:
            return found(store, name)
    except ValueError:
        pass
    raise UnknownDecision(f"{id_!r} is no decision id: it has 32 hex characters")
