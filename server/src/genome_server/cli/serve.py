"""`genome-server serve`: devices and thin clients over gRPC, until told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genome_server.cli.output import Console, common_options
from genome_server.errors import UsageError

if TYPE_CHECKING:
    from genome_server.services.serve import House
    from genome_server.services.tls import Identity

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("serve")
@click.option(
    "--listen",
    default="127.0.0.1:50051",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; unix:/PATH for a socket; port 0 for any that is free.",
)
@click.option("--tls-cert", type=_FILE, help="Certificate chain, PEM.")
@click.option("--tls-key", type=_FILE, help="Private key of the certificate, PEM.")
@click.option(
    "--self-signed",
    metavar="HOST",
    help="Make a certificate for HOST on first use; for a trial without a certificate.",
)
@click.option("--port-file", type=_FILE, help="Write the port here when ready.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least important messages that are logged.",
)
@common_options
def command(
    console: Console,
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    self_signed: str | None,
    port_file: Path | None,
    log_level: str,
) -> None:
    """Serve all tenants of the home to devices and thin clients.

    Without TLS the server listens on this machine only. SIGTERM or Ctrl+C says
    goodbye to devices, finishes what runs, and closes the logs.
    """
    from genome_server.services.logs import configure
    from genome_server.services.serve import House
    from genome_server.services.tls import check_listen

    configure(log_level)
    identity, certificate = _identity(console, tls_cert, tls_key, self_signed)
    check_listen(listen, identity)
    house = House(console.home, listen, identity)
    _tune()
    asyncio.run(_serve(console, house, certificate, port_file))


def _tune() -> None:
    """Settle this process, which is ours alone, for a loop that answers beside a thread that works.

    Events on their way to genomes are many small objects that live for a moment: to look for
    cycles among them time and again costs a fifth of the work. And the loop must not wait 5 ms
    for its turn each time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    sys.setswitchinterval(0.001)


def _identity(
    console: Console, cert: Path | None, key: Path | None, self_signed: str | None
) -> tuple[Identity | None, Path | None]:
    """Return what to identify as, and the certificate that devices must be given to trust it."""
    from genome_server.services import tls

    if (cert is None) != (key is None):
        raise UsageError("--tls-cert and --tls-key belong together")
    if self_signed is not None:
        if cert is not None:
            raise UsageError("give --tls-cert and --tls-key, or --self-signed, not both")
        identity = tls.self_signed(console.home.tls_dir, self_signed)
        return identity, console.home.tls_dir / f"{self_signed}.pem"
    if cert is not None and key is not None:
        return tls.load(cert, key), None
    return None, None


async def _serve(
    console: Console, house: House, certificate: Path | None, port_file: Path | None
) -> None:
    from genome_server.files import write_whole

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await house.start()
        if port_file is not None:
            write_whole(port_file, f"{house.port}\n".encode())
        _say_ready(console, house, certificate)
        await stop.wait()
        console.note("Stopping: saying goodbye to devices, closing the logs.")
    finally:
        await house.drain()


def _say_ready(console: Console, house: House, certificate: Path | None) -> None:
    tenants = sorted(house.rooms)
    facts = {
        "address": house.address,
        "port": house.port,
        "tls": house.tls,
        "tenants": tenants,
        "closed": dict(sorted(house.rooms.closed.items())),
        "ca_file": str(certificate) if certificate else None,
    }

    def render() -> None:
        how = "TLS" if house.tls else "no TLS, this machine only"
        console.print(f"Serving {', '.join(tenants)} on {house.address} ({how}). Ctrl+C stops it.")
        for tenant, why in sorted(house.rooms.closed.items()):
            console.note(f"tenant {tenant} is not served: {why}")
        if certificate is not None:
            console.print(f"Devices trust it with ca_file={certificate}")

    console.result(facts, render)
