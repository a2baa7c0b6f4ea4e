"""`genome-server keys`: the keys that devices go by, their rotation, and how long things last."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genome_server.cli.devices import span_ms
from genome_server.cli.output import EXIT_REFUSED, Console, common_options
from genome_server.errors import UsageError

if TYPE_CHECKING:
    from genome_server.releases.rotation import Drafted

_HOUR_MS = 3_600_000
_file = click.Path(dir_okay=False, path_type=Path)


@click.group("keys")
def command() -> None:
    """List the keys that devices go by, and replace them."""


@command.command("list")
@common_options
def list_(console: Console) -> None:
    """List the keys of each role, how many must sign, and which are here."""
    from edge_sdk.sync.trust import key_id
    from genome_server.releases.keyring import ROLES, here, role_keys, role_threshold
    from genome_server.releases.trust import LIFE_HOURS, LIFE_KEY, TrustDesk

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        root = TrustDesk(tenant, store).root()
        life = int(store.meta(LIFE_KEY) or LIFE_HOURS)
    data: dict[str, Any] = {
        "tenant": tenant.name,
        "root_version": root.version,
        "root_expires_ms": root.expires_ms or None,
        "timestamp_life_hours": life,
        "waiting": str(tenant.next_root_path) if tenant.next_root_path.exists() else None,
        "roles": {},
    }
    for role in ROLES:
        mine = {key.public for key in here(tenant, root, role)}
        data["roles"][role] = {
            "threshold": role_threshold(root, role),
            "keys": [
                {"id": key_id(key), "public": key.hex(), "here": key in mine}
                for key in role_keys(root, role)
            ],
        }

    def render() -> None:
        until = f", expires {_when(root.expires_ms)}" if root.expires_ms else ""
        console.print(f"Root {root.version} of tenant {tenant.name!r}{until}.")
        rows = [
            (
                *(role, key["id"], "here" if key["here"] else "elsewhere"),
                f"{facts['threshold']} of {len(facts['keys'])}",
            )
            for role, facts in data["roles"].items()
            for key in facts["keys"]
        ]
        console.table(("role", "key", "private half", "must sign"), rows)
        console.print(f"Timestamps keep releases fresh for {_span(life)}.")
        if data["waiting"]:
            console.print(
                "A next root waits for signatures: genome-server keys export FILE, sign it where "
                "the other keys are, genome-server keys import FILE"
            )

    console.result(data, render)


@command.command("rotate")
@click.argument("role", type=click.Choice(["root", "release", "timestamp"]))
@click.option("--retire", multiple=True, metavar="KEY", help="Id of a key that goes; repeatable.")
@click.option(
    "--add", "add", metavar="PUBLIC",
    help="Add this public key (64 hex digits), kept elsewhere, and make none here.",
)  # fmt: skip
@click.option("--no-new", is_flag=True, help="Make no new key: only --retire or --threshold.")
@click.option(
    "--threshold", type=click.IntRange(1, 16), help="How many keys of the role must sign."
)
@click.option(
    "--expires-days", type=click.FloatRange(min=1, max=3650),
    help="After how many days devices believe nothing under the new root but the next one.",
)  # fmt: skip
@common_options
def rotate(
    console: Console,
    role: str,
    retire: tuple[str, ...],
    add: str | None,
    no_new: bool,
    threshold: int | None,
    expires_days: float | None,
) -> None:
    """Replace the key of ROLE by a new one; devices follow by themselves.

    Without options, a new key takes the place of the one that is here. The next root
    is signed by the root keys; where those that are here do not suffice it waits:
    export it, sign it where the others are, import it. Releases that devices have
    stay good; publish to sign by a new release key.
    """
    from genome_server.releases.rotation import Wanted
    from genome_server.releases.rotation import rotate as run

    public = _public(add) if add is not None else None
    if no_new and not (retire or threshold or expires_days):
        raise click.UsageError("--no-new changes nothing without --retire or --threshold")
    wanted = Wanted(role, not no_new, public, retire, threshold or 0, expires_days or 0)
    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        _say(console, run(tenant, store, wanted), tenant.keys_dir)


@command.command("make")
@click.argument("file", type=_file)
@common_options
def make(console: Console, file: Path) -> None:
    """Make a key in FILE (mode 0600), to be kept elsewhere. Needs no tenant.

    Prints the public half, for: genome-server keys rotate ROLE --add PUBLIC
    """
    from edge_sdk.sync.keys import DeviceKey
    from edge_sdk.sync.trust import key_id
    from genome_server.errors import Refused

    key = DeviceKey.generate()
    try:
        key.save(file)
    except FileExistsError:
        raise Refused(f"{file} is there already; a key is never replaced") from None
    public = key.public.hex()
    console.result(
        {"id": key_id(key.public), "public": public, "file": str(file)},
        lambda: console.print(public),
    )


@command.command("export")
@click.argument("file", type=_file)
@common_options
def export(console: Console, file: Path) -> None:
    """Write the root that waits for signatures, else the newest one, to FILE."""
    from genome_server.releases.rotation import export_root

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        root, waits = export_root(tenant, store, file)
    console.result(
        {"file": str(file), "root_version": root.version, "waits": waits},
        lambda: console.print(
            f"Root {root.version}{', which waits for signatures,' if waits else ''} is in {file}."
        ),
    )


@command.command("sign")
@click.argument("file", type=_file)
@click.option("--key", required=True, type=_file, help="The private key (PEM) to sign with.")
@common_options
def sign(console: Console, file: Path, key: Path) -> None:
    """Add a signature to an exported root in FILE. Needs no tenant and no network."""
    from edge_sdk.sync.trust import key_id
    from genome_server.releases.keyring import ROLES, role_keys, role_threshold
    from genome_server.releases.rotation import sign_file

    root, named = sign_file(file, key)

    def render() -> None:
        console.print(f"Signed root {root.version} of tenant {root.tenant!r}, which says:")
        for role in ROLES:
            ids = ", ".join(key_id(one) for one in role_keys(root, role))
            console.print(f"  {role}: {role_threshold(root, role)} of {ids}")
        if not named:
            console.note("note: it does not name this key; it counts if the root before it does")

    data = {"file": str(file), "root_version": root.version, "named": named}
    console.result(data, render)


@command.command("import")
@click.argument("file", type=_file)
@common_options
def import_(console: Console, file: Path) -> None:
    """Take a root from FILE that was signed elsewhere."""
    from genome_server.releases.rotation import import_root

    tenant = console.tenant()
    with closing(tenant.open_store()) as store:
        _say(console, import_root(tenant, store, file), tenant.keys_dir)


@command.command("life")
@click.argument("span", callback=span_ms)
@common_options
def life(console: Console, span: int) -> None:
    """Say how long a timestamp keeps unchanged releases fresh: SPAN such as 7d.

    A running server signs a new one at half of it, so that devices survive half of
    it without a server and still call their release fresh.
    """
    from genome_server.releases.trust import TrustDesk

    tenant = console.tenant()
    hours = span // _HOUR_MS
    with closing(tenant.open_store()) as store:
        TrustDesk(tenant, store).set_life(hours)
    console.result(
        {"timestamp_life_hours": hours},
        lambda: console.print(f"Timestamps keep releases fresh for {_span(hours)} from now on."),
    )


def _say(console: Console, drafted: Drafted, keys_dir: Path) -> None:
    data = {
        "root_version": drafted.root.version,
        "in_force": not drafted.lacking,
        "lacking": list(drafted.lacking),
        "releases_to_sign": list(drafted.unsigned),
        "devices_that_stay": drafted.staying,
    }

    def render() -> None:
        if not drafted.lacking:
            console.print(f"Root {drafted.root.version} is in force; devices follow it.")
            console.note(f"note: back up anew: {keys_dir}")
            if drafted.unsigned:
                many = len(drafted.unsigned) > 1
                named = ", ".join(map(str, drafted.unsigned))
                console.note(
                    f"note: {f'releases {named} were' if many else f'release {named} was'} signed "
                    "by a key that is gone; devices that have it keep it, others wait for: "
                    f"genome-server publish{', in each channel (--to)' if many else ''}"
                )
            if drafted.staying:
                console.note(
                    f"note: {drafted.staying:,} devices know no roles and stay with the root they "
                    "have (devices list); update their SDK and enrol them again"
                )
            return
        console.print(f"Root {drafted.root.version} waits for signatures:")
        for text in drafted.lacking:
            console.print(f"  {text}")
        console.note("genome-server keys export FILE; there: genome-server keys sign FILE --key …;")
        console.note("here again: genome-server keys import FILE")

    console.result(data, render)
    if drafted.lacking:
        raise click.exceptions.Exit(EXIT_REFUSED)


def _public(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text.strip())
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise UsageError("a public key is 64 hex digits, as genome-server keys make prints them")
    return raw


def _span(hours: int) -> str:
    if hours % 24:
        return "an hour" if hours == 1 else f"{hours} hours"
    return "a day" if hours == 24 else f"{hours // 24} days"


def _when(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "minutes")
