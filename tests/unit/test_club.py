"""The made-up town and its club, from files to genomes: every source goes in and leaves marks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from examples.adapters import club, town
from examples.adapters.writing import IMPORT_ORDER
from genome_server.genomes.build import build
from genome_server.genomes.rows import row_of
from genome_server.log import LogReader
from tests.unit.adapted import UNTIL
from tests.unit.ingesting import new_tenant, run


def test_the_town_and_its_club(tmp_path: Path) -> None:
    written = [
        adapter.write(tmp_path / name, until=UNTIL, customers=60)
        for name, adapter in (("town", town), ("club", club))
    ]
    files = dict(pair for one in written for pair in one.in_import_order())
    with new_tenant(tmp_path / "home") as (tenant, store):
        text = tenant.dna_path.read_text()
        tenant.dna_path.write_text(text.replace("derive: []", "derive: all"))
        for kind in IMPORT_ORDER:
            assert run(tenant, store, kind, files[kind]).whole, kind
        with LogReader(tenant.log_path) as log:
            report = build(store, log, tenant.dna_path)
        assert report.skipped == {}
        vocabulary = store.vocabulary()
        rows = {record.subject: row_of(record) for record in store.genomes()}

        def genome(source: str, name: str) -> set[str]:
            subject = store.subject_of(source, name)
            assert subject is not None
            return {vocabulary.name(index) for index in rows[subject].indices.tolist()}

        owner, card = genome("app", "customer-001"), genome(club.CLUB, "card-000")
        assert owner == card, "one person by a shared address"
        assert {"tier", "points"} <= {name.split(":")[0] for name in owner}
        wrong, other = genome(club.CLUB, "card-028"), genome("app", "customer-031")
        assert not other & {name for name in wrong if name.startswith("tier:")}
        alone = genome(club.CLUB, "card-029")
        assert {name.split(":")[0] for name in alone} == {"tier", "points"}
        found = Counter(
            vocabulary.name(index).split(":")[0] for row in rows.values() for index in row.indices
        )
        assert {"insight", "topic", "not-topic", "community", "tender", "tier"} <= found.keys()
        # E-mails, pages and places, as what who opened them or went there is imprinted with.
        assert {"occasion", "mood", "flavour", "serves", "music"} <= found.keys()
        walks = {name for row in rows.values() for name in map(vocabulary.name, row.indices)}
        assert {"path:search>product", "visit:exit-basket", "visit:bounce"} <= walks
        assert max(Counter(vocabulary.name(i).split(":")[0] for i in row.indices)["path"]
                   for row in rows.values()) <= 8  # fmt: skip
        kinds = {name.split(":")[1].split("-")[0] for name in owner if name.startswith("insight")}
        assert {"recency", "frequency", "spend"} <= kinds
