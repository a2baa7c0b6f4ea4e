"""`genome-server devices`: enrol, list, show and revoke devices and thin clients."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import time
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.channel import Channel
from genome_server.cli.output import Console, common_options
from genome_server.cli.verdict import Verdict, Wanted, verdict
from genome_server.errors import Refused, UsageError
from genome_server.store.rows import DEFAULT_CHANNEL, DeviceRow, ThinRow

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def span_ms(ctx: click.Context, param: click.Parameter, value: str) -> int:  # noqa: ARG001
    """Read a span of time such as 30m, 1h or 7d as milliseconds."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no span of time; say 30m, 1h or 7d")
    return int(found[1]) * _UNITS_MS[found[2]]


@click.group("devices")
def command() -> None:
    """Enrol, list, show and revoke devices and thin clients."""


_audience = click.option(
    "--audience", help="Whose genomes it may hold.  [default: the only audience there is]"
)


@command.command("enrol")
@_audience
@click.option("--name", default="", help='For people: "lobby kiosk 2".')
@click.option(
    "--expires", "expires_ms", callback=span_ms, default="1h", show_default=True,
    help="How long the code may be used.",
)  # fmt: skip
@click.option("--thin", is_flag=True, help="Make a thin client's bearer token instead.")
@click.option(
    "--channel",
    type=Channel(),
    default=DEFAULT_CHANNEL,
    show_default=True,
    help="Whose releases it gets.",
)
@common_options
def enrol(
    console: Console, audience: str | None, name: str, expires_ms: int, thin: bool, channel: str
) -> None:
    """Make a one-time code with which one device enrols itself."""
    from genome_server.services.credentials import name_key, new_code, secret_hash

    if thin:
        _make_thin(console, audience, name)
        return
    tenant = console.tenant()
    store = tenant.open_store()
    try:
        chosen = _choose_audience(store, audience)
        until_ms = _now_ms() + expires_ms
        code = new_code(tenant.name)
        with store.transaction():
            store.put_code(secret_hash(code), chosen, until_ms, channel)
            if name:
                store.set_meta(name_key(secret_hash(code)), name)
    finally:
        store.close()

    def render() -> None:
        console.print(code)
        console.note(
            f"Valid once, until {_when(until_ms)}, for audience {chosen!r}. On the device:"
        )
        console.note(f"  genome-edge enrol --server ADDRESS --code {code} --store DIRECTORY")

    data = {"code": code, "audience": chosen, "name": name, "expires_ms": until_ms}
    console.result({**data, "channel": channel}, render)


@command.command("thin")
@_audience
@click.option("--name", required=True, help="What it is called from now on.")
@common_options
def thin(console: Console, audience: str | None, name: str) -> None:
    """Make a bearer token for a client that decides through the server. Printed once."""
    _make_thin(console, audience, name)


def _make_thin(console: Console, audience: str | None, name: str) -> None:
    from genome_server.services.credentials import new_bearer, secret_hash

    if not name:
        raise UsageError("a thin client needs a name: --name NAME")
    tenant = console.tenant()
    store = tenant.open_store()
    try:
        chosen = _choose_audience(store, audience)
        if any(known.name == name for known in store.thins()):
            raise Refused(f"there is a thin client {name!r} already; revoke it or choose a name")
        token = new_bearer(tenant.name)
        store.put_thin(ThinRow(name, secret_hash(token), chosen))
    finally:
        store.close()

    def render() -> None:
        console.print(token)
        console.note(f"For audience {chosen!r}. It is not kept here and cannot be shown again.")

    console.result({"token": token, "name": name, "audience": chosen}, render)


@command.command("list")
@common_options
def list_(console: Console) -> None:
    """List devices and thin clients, and how each device is."""
    store = console.tenant().open_store()
    try:
        devices, thins = store.devices(), store.thins()
        found = {device.id: _verdict(store, device) for device in devices}
    finally:
        store.close()

    def render() -> None:
        rows = [
            (
                *(d.id, d.name, d.audience, d.channel),
                *(_state(d), _ago(d.seen_ms), d.status.get("release", "")),
                found[d.id].text,
            )
            for d in devices
        ]
        rows += [(t.name, "thin client", t.audience, "", _thin_state(t), "", "", "") for t in thins]
        if rows:
            said = ("state", "heard", "release", "verdict")
            console.table(("id", "name", "audience", "channel", *said), rows)
        else:
            console.print("No devices yet. Make a code with: genome-server devices enrol")

    console.result(
        {
            "devices": [_facts(device, found[device.id]) for device in devices],
            "thin": [{"name": t.name, "audience": t.audience, "revoked": t.revoked} for t in thins],
        },
        render,
    )


@command.command("show")
@click.argument("device")
@common_options
def show(console: Console, device: str) -> None:
    """Show what is known of a device, by id or name, and why its screen may be empty."""
    store = console.tenant().open_store()
    try:
        found = _find(store, device)
        judged = _verdict(store, found)
    finally:
        store.close()
    facts = _facts(found, judged)

    def render() -> None:
        console.print(f"{found.name or found.id}: {judged.text}")
        if judged.todo:
            console.print(f"  -> {judged.todo}")
        for key, value in facts.items():
            if key == "status":
                for name, said in value.items():
                    console.print(f"{name.removesuffix('_ms'):<18} {_said(name, said)}".rstrip())
            elif key.endswith("_ms"):
                console.print(f"{key[:-3]:<18} {_when(value) if value else 'never'}")
            elif key not in {"verdict", "revoked"}:  # the state says it
                console.print(f"{key:<18} {value}".rstrip())

    console.result(facts, render)


@command.command("revoke")
@click.argument("device")
@common_options
def revoke(console: Console, device: str) -> None:
    """Refuse a device (by id or name) or a thin client (by name) from now on."""
    store = console.tenant().open_store()
    try:
        known = next((t for t in store.thins() if t.name == device), None)
        if known is not None:
            store.put_thin(dataclasses.replace(known, revoked=True))
            revoked = known.name
        else:
            found = _find(store, device)
            store.revoke_device(found.id)
            revoked = found.id
    finally:
        store.close()
    console.result(
        {"revoked": revoked},
        lambda: console.print(f"{revoked} is refused from now on; open streams end in seconds."),
    )


@command.command("channel")
@click.argument("device")
@click.argument("channel", type=Channel())
@common_options
def channel(console: Console, device: str, channel: str) -> None:
    """Give a device (by id or name) the releases of CHANNEL from now on.

    Where that channel has none for it, it gets those of "stable". A device never goes
    back to a lower version: it keeps the release it has until a newer one comes.
    """
    store = console.tenant().open_store()
    try:
        found = _find(store, device)
        store.set_device_channel(found.id, channel)
        empty = store.release(channel=channel) is None
    finally:
        store.close()

    def render() -> None:
        console.print(f"{found.id} gets the releases of channel {channel}.")
        if empty:
            console.note(
                f"note: channel {channel} has no release yet, so it gets those of "
                f"{DEFAULT_CHANNEL}; make one: genome-server publish --to {channel}"
            )

    console.result({"id": found.id, "channel": channel, "before": found.channel}, render)


def _choose_audience(store: Store, name: str | None) -> str:
    known = [audience.name for audience in store.audiences()]
    if name is None:
        if len(known) == 1:
            return known[0]
        if known:
            raise UsageError(f"say which audience: --audience {' | '.join(known)}")
    elif name in known:
        return name
    else:
        from edge_sdk.dna.markers import nearest_name

        near = nearest_name(name, known)
        hint = f"did you mean {near!r}?" if near else f"there is: {', '.join(known)}"
        if known:
            raise Refused(f"there is no audience {name!r}; {hint}")
    raise Refused("there is no audience yet; make one with: genome-server audiences add all --all")


def _find(store: Store, wanted: str) -> DeviceRow:
    device = store.device(wanted)
    if device is not None:
        return device
    named = [device for device in store.devices() if device.name == wanted]
    if len(named) > 1:
        ids = ", ".join(device.id for device in named)
        raise Refused(f"several devices are called {wanted!r}; use an id: {ids}")
    if not named:
        raise Refused(f"there is no device {wanted!r}; see: genome-server devices list")
    return named[0]


def _verdict(store: Store, device: DeviceRow) -> Verdict:
    """How a device is, by what it said and what is meant for it."""
    from genome_server.releases.publish import manifest_of

    meant = store.release_for(device.id, device.channel)
    features = tuple(manifest_of(meant).required_features) if meant is not None else ()
    stops = store.trusted_versions().get("stop-list", 0)
    wanted = Wanted(meant.version if meant is not None else 0, features, stops)
    return verdict(device, wanted, _now_ms())


def _said(name: str, value: Any) -> str:
    """A fact of a device as people read it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{n} {key}" for key, n in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if name.endswith("_ms") and isinstance(value, int):
        return f"{round(value / 1000, 1) + 0.0:.1f} s"  # and never -0.0
    return str(value)


def _facts(device: DeviceRow, judged: Verdict) -> dict[str, Any]:
    # Older servers kept the SDK's version among the other things that a device says.
    said = {name: value for name, value in device.status.items() if name != "sdk"}
    return {
        "id": device.id,
        "name": device.name,
        "audience": device.audience,
        "channel": device.channel,
        "state": _state(device),
        "sdk_version": device.status.get("sdk") or device.sdk_version,
        "enrolled_ms": device.created_ms,
        "heard_ms": device.seen_ms,
        "revoked": device.revoked,
        "verdict": judged.facts(),
        "status": said,
    }


def _state(device: DeviceRow) -> str:
    if device.revoked:
        return "revoked"
    return "enrolled" if device.seen_ms == 0 else "active"


def _thin_state(thin: ThinRow) -> str:
    return "revoked" if thin.revoked else "active"


def _ago(ms: int) -> str:
    if not ms:
        return "never"
    seconds = max(0, (_now_ms() - ms) // 1_000)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _when(ms: int) -> str:
    local = dt.datetime.fromtimestamp(ms / 1000).astimezone()
    return local.isoformat(sep=" ", timespec="minutes")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
