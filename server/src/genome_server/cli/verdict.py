"""Why a screen is empty: one sentence about a device, from what it said last. No input or output.

The rules are tried in order; the first that applies is the verdict, because what stands first keeps
a device from everything that stands below. Where none applies the device is well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from edge_sdk.status import SKEW_MS, span, when
from genome_server.store.rows import DeviceRow

#: A connected device says how it is far more often than this.
SILENT_MS: Final = 10 * 60_000
#: Events that wait longer than this while the device is connected are stuck.
STUCK_MS: Final = 60 * 60_000

_SHOWN: Final = frozenset({"CHOSEN", "EXPLORED", "UNSCORED", "FORCED"})
_DOCTOR: Final = "run genome-edge doctor on it"
_EMPTY: Final = {
    "NOTHING_NEAR": ("no offer is for where it is", "see genome-server offers check"),
    "NOT_ELIGIBLE": (
        "offers are near, and none is for the moment and the customer",
        "run genome-edge decide --explain on it",
    ),
    "CAPPED": ("all offers that fit were seen, redeemed or dismissed often enough", "add offers"),
    "STOPPED": ("all offers that fit are stopped", "see genome-server offers stops"),
    "OFFLINE": ("the offers that fit may not be shown so long without the server", _DOCTOR),
    "ASSETS": ("the files of all offers that fit are not on it yet", "wait; " + _DOCTOR),
    "EXPIRED": ("its release is too old for anything but house defaults", _DOCTOR),
    "NO_RELEASE": ("it decides without a release", _DOCTOR),
    "UNKNOWN_PLACEMENT": (
        "the app asks for a placement that the release does not have",
        "compare the placements' names",
    ),
}


@dataclass(frozen=True)
class Wanted:
    """What a device is to have: the release that is meant for it (0: none) with the features that
    it needs, and the newest stop list (0: none)."""

    release: int = 0
    features: tuple[str, ...] = ()
    stop_list: int = 0


@dataclass(frozen=True)
class Verdict:
    """How a device is: a word for programs, a sentence, and what to do (empty: nothing)."""

    kind: str
    text: str
    todo: str = ""

    def facts(self) -> dict[str, str]:
        """It as an object."""
        return {"kind": self.kind, "text": self.text, "todo": self.todo}


def verdict(device: DeviceRow, wanted: Wanted, now_ms: int) -> Verdict:
    """How a device is, and why its screen may be empty."""
    said = device.status
    found = (
        _access(device, wanted, now_ms)
        or _line(device, now_ms)
        or _release(said, wanted)
        or _trouble(said, wanted)
        or _tier(said)
        or _screen(said)
        or _waiting(said, wanted)
    )
    if found is not None:
        return found
    decided = sum(_reasons(said).values())
    lately = f"{decided} decisions lately" if decided else "nothing was asked of it lately"
    return Verdict("well", f"well: release {said.get('release', 0)}, {lately}")


def _access(device: DeviceRow, wanted: Wanted, now_ms: int) -> Verdict | None:
    if device.revoked:
        return Verdict("revoked", "revoked: it gets nothing new, and nothing of it is taken")
    if not device.seen_ms:
        text = f"never connected since it was enrolled, {span(now_ms - device.created_ms)} ago"
        return Verdict("never-connected", text, "start the app there; " + _DOCTOR)
    if not wanted.release and not device.status.get("release"):
        text = "there is no release for it"
        return Verdict("no-release", text, "run genome-server publish")
    return None


def _line(device: DeviceRow, now_ms: int) -> Verdict | None:
    silent_ms = now_ms - device.seen_ms
    if silent_ms < SILENT_MS:
        return None
    said = device.status
    last = f"release {said['release']}" if said.get("release") else "without a release"
    text = f"not heard since {when(device.seen_ms)} ({span(silent_ms)}); then it was on {last}"
    return Verdict("silent", text, "see whether it runs and has a network; " + _DOCTOR)


def _release(said: Mapping[str, Any], wanted: Wanted) -> Verdict | None:
    held = said.get("release", 0)
    goes_on = f"goes on with release {held}" if held else "has none"
    lacking = [
        name for name in wanted.features if name not in said.get("features", wanted.features)
    ]
    if lacking and held != wanted.release:
        text = f"its SDK {said.get('sdk', '')} lacks {', '.join(lacking)} of release"
        return Verdict("sdk", f"{text} {wanted.release}; it {goes_on}", "update the app's SDK")
    if said.get("last_nack"):
        text = f"it refused what it was sent and {goes_on}: {said['last_nack']}"
        return Verdict("refused", text, _DOCTOR)
    if said.get("held_back"):
        return Verdict("held-back", f"it {goes_on}: {said['held_back']}", "see the server's log")
    if not held:
        text = f"it has no release yet; release {wanted.release} is meant for it"
        return Verdict("no-release", text, "wait a moment; " + _DOCTOR)
    return None


def _trouble(said: Mapping[str, Any], wanted: Wanted) -> Verdict | None:
    if said.get("cause"):
        return Verdict("trouble", f"in trouble: {said['cause']}", _DOCTOR)
    if wanted.stop_list > said.get("stop_list_version", 0):
        text = f"it does not have the newest stop list ({wanted.stop_list}) yet"
        return Verdict("stop-list", text, "wait a moment; if it stays: " + _DOCTOR)
    return None


def _tier(said: Mapping[str, Any]) -> Verdict | None:
    tier = said.get("tier", "")
    clock = _clock(said)
    because = f"; {clock}" if clock else ""
    if tier == "house":
        return Verdict("house", f"its release is too old: house defaults only{because}", _DOCTOR)
    if tier == "restricted":
        text = "its release is old: only offers with an end of validity are shown"
        return Verdict("restricted", text + because, _DOCTOR)
    return None


def _screen(said: Mapping[str, Any]) -> Verdict | None:
    reasons = _reasons(said)
    empty = {name: n for name, n in reasons.items() if name in _EMPTY}
    if not empty or any(name in _SHOWN for name in reasons):
        return None
    why = max(empty, key=lambda name: (empty[name], name))
    text, todo = _EMPTY[why]
    return Verdict("empty", f"{empty[why]} decisions lately showed nothing: {text}", todo)


def _waiting(said: Mapping[str, Any], wanted: Wanted) -> Verdict | None:
    if said.get("outbox_age_ms", 0) > STUCK_MS:
        waited = span(said["outbox_age_ms"])
        text = f"its events do not get through: {said.get('outbox', 0)} wait, the oldest {waited}"
        return Verdict("outbox", text, _DOCTOR)
    clock = _clock(said)
    if clock:
        return Verdict("clock", f"{clock}; it decides by the server's time", "set it (NTP)")
    if said.get("tier") == "stale":
        return Verdict("stale", "its release is no longer fresh; it decides as before", _DOCTOR)
    if wanted.release > said.get("release", 0):
        text = f"on its way from release {said.get('release', 0)} to {wanted.release}"
        return Verdict("behind", text)
    return None


def _clock(said: Mapping[str, Any]) -> str:
    ahead_ms = said.get("clock_ahead_ms") or 0
    if abs(ahead_ms) < SKEW_MS:
        return ""
    return f"its clock is {span(ahead_ms)} {'ahead' if ahead_ms > 0 else 'behind'}"


def _reasons(said: Mapping[str, Any]) -> dict[str, int]:
    """Counts of decisions; what else is counted beside them is no decision."""
    return {name: n for name, n in said.get("reasons", {}).items() if name.isupper()}
