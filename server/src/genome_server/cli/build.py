"""`genome-server build`: all genomes from the log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genome_server.cli.output import Console, common_options
from genome_server.errors import Refused, UsageError

if TYPE_CHECKING:
    from genome_server.genomes.aggregation import Engine
    from genome_server.genomes.build import BuildReport
    from genome_server.home import Tenant
    from genome_server.log.reader import LogReader
    from genome_server.store.protocol import Store

#: What to say of events that left no trace, by reason.
_PASSED_OVER = {
    "nobody": "were nobody's",
    "no_dna": "name nothing that has DNA",
    "unknown_kind": "are of a kind that dna.yaml does not have",
    "unknown_offer": "name an offer that is not known (import it and build again)",
    "unknown_product": "name a product that is not known (import it and build again)",
    "unreadable": "cannot be read",
}


@click.command()
@click.option(
    "--spark",
    metavar="MASTER",
    help="Sum on Apache Spark, for histories that one machine is too small for: local[N], "
    "spark://HOST:PORT, yarn or k8s://URL.",
)
@click.option(
    "--spark-folder",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that every machine of the cluster has under this path and may write to; "
    "without it the tenant's must be one.",
)
@common_options
def command(console: Console, spark: str | None, spark_folder: Path | None) -> None:
    """Build all genomes anew from the log and the profiles of customers.

    The server may run meanwhile. It applies what happens by itself; a build is
    needed after a change of dna.yaml, products or offers, after an import of
    customers, and is a good habit once a night. Let genome-server publish follow it: where it
    began a new epoch of the schema, devices get no genomes before a release of that.
    """
    from genome_server.genomes.build import build

    tenant = console.tenant()
    with (
        closing(tenant.open_store()) as store,
        log_of(tenant, store) as log,
        _engine(spark, spark_folder) as engine,
    ):
        total = log.end() if log is not None else 0
        with console.progress("Reading the log", total) as advance:
            report = build(store, log, tenant.dna_path, progress=advance, engine=engine)
        release = store.release()
    behind = release.version if release and release.schema_epoch != report.epoch else None
    # One genome for each customer and for each stranger who left a trace.
    facts = {"customers": report.genomes, **asdict(report), "release_behind": behind}
    console.result(facts, lambda: _print(console, report, behind))


@contextmanager
def log_of(tenant: Tenant, store: Store) -> Iterator[LogReader | None]:
    """The tenant's log; None before anything happened. Raises Refused where it is lost."""
    from genome_server.genomes.rows import LOG_KEY
    from genome_server.log.reader import LogReader

    if not tenant.log_path.exists():
        if store.meta(LOG_KEY):
            raise Refused(
                f"the log {tenant.log_path} is missing, and the genomes were built from it: "
                "restore it from your backup. Where there is none, genome-server serve begins a "
                "new one, to which devices send again what they still have"
            )
        yield None
        return
    with LogReader(tenant.log_path) as reader:
        yield reader


@contextmanager
def _engine(master: str | None, folder: Path | None) -> Iterator[Engine | None]:
    """A Spark that sums; None where this machine does."""
    if master is None:
        if folder is not None:
            raise UsageError("--spark-folder says where Spark works: give --spark MASTER, too")
        yield None
        return
    from genome_server.genomes import cluster

    cluster.masters(master)
    if folder is not None:
        cluster.check_writable(folder)
    with cluster.connected(master) as session:
        yield cluster.OnSpark(session, folder)


def _print(console: Console, report: BuildReport, behind: int | None) -> None:
    console.print(
        f"{report.genomes:,} genomes ({report.changed:,} changed) from {report.events:,} events "
        f"in {report.seconds:.1f} s"
    )
    console.print(
        f"  {report.imprints:,} imprints, {report.repeated:,} repetitions left out, "
        f"{report.markers:,} markers, schema epoch {report.epoch}"
    )
    for reason, count in report.skipped.items():
        console.print(f"  {count:,} events {_PASSED_OVER.get(reason, reason)}")
    if report.landmark_moved:
        console.note("the landmark moved on; publish a release, so that devices take the new rows")
    if behind is not None:
        console.note(
            f"release {behind} is of another schema epoch: devices get no genomes, only who is "
            "erased, left or withdrew goes from them, until you run genome-server publish"
        )
