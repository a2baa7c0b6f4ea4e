"""Click sequences: what a visit says by its order, that it counts once, and in any order."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_sdk.dna.markers import split
from edge_sdk.dna.schema import ONE_Q24
from genome_server.genomes.build import build
from genome_server.genomes.rows import SubjectState, built_schema
from genome_server.home import Tenant
from genome_server.ingest.visits import DEEP, PAGES, visit_interaction, visit_markers
from genome_server.log import LogReader
from genome_server.store import Store
from tests.unit.ingesting import counts, new_tenant, run, write

ROOT = Path(__file__).resolve().parents[2]
AT = "2026-03-01T18:05:00+01:00"
sequences = st.lists(st.sampled_from(sorted(PAGES)), min_size=1, max_size=40)


def test_what_a_visit_says() -> None:
    assert visit_markers(["campaign", "search", "product", "search", "product", "basket"]) == [
        "visit:short",
        "visit:entry-campaign",
        "visit:exit-basket",
        "path:campaign>search",
        "path:search>product",
        "path:product>search",
        "path:product>basket",
    ]
    assert visit_markers(["home"]) == ["visit:bounce", "visit:entry-home"]
    assert visit_markers(["other", "product", "other"]) == ["visit:short"]
    assert visit_markers(["product"] * DEEP)[0] == "visit:deep"
    assert visit_markers(["product"] * (DEEP - 1))[0] == "visit:short"
    assert "path:product>product" in visit_markers(["product"] * 2), "one beside the other"


@given(sequences)
def test_the_markers_are_few_and_begin_with_how_long_it_was(pages: list[str]) -> None:
    found = visit_markers(pages)
    assert len(set(found)) == len(found)
    assert {split(name)[0] for name in found} <= {"visit", "path"}
    told = len(PAGES) - 1
    assert sum(name.startswith("path:") for name in found) <= min(len(pages) - 1, told * told)
    # Turned round, every step is turned round; so it is order that they tell.
    turned = {"path:{1}>{0}".format(*name[5:].split(">")) for name in found if name[:5] == "path:"}
    assert {n for n in visit_markers(pages[::-1]) if n[:5] == "path:"} == turned


def visit(session: str, pages: list[str], **more: Any) -> dict[str, Any]:
    return {"customer": "1", "session": session, "pages": pages, "time": AT, **more}


def test_a_visit_is_imprinted_once(tmp_path: Path) -> None:
    rows = [
        visit("a", ["search", "product"], dwell_ms=3_000, channel="app"),
        visit("b", ["home", "/cart?id=17"]),
        visit("c", []),
        visit("a", ["search", "basket"]),
        visit("d", ["serach"]),
    ]
    with new_tenant(tmp_path) as (tenant, store):
        run(tenant, store, "customers", write(tmp_path / "c.jsonl", [{"id": "1"}]))
        path = write(tmp_path / "v.jsonl", rows)
        report = run(tenant, store, "visits", path)
        assert counts(report) == (1, 0, 0, 4)
        assert [one.column for one in report.rejects] == [
            "pages[1]",
            "pages",
            "session",
            "pages[0]",
        ]
        assert "did you mean 'search'" in report.rejects[3].cause
        assert counts(run(tenant, store, "visits", path)) == (0, 0, 1, 4)
        genome = built(tenant, store)
        # An eighth, and a sixteenth for each doubling of 1 + 3 seconds: a quarter. Half of that.
        strengths = {name: value / ONE_Q24 for name, value in genome.items()}
        assert strengths.keys() == {
            "visit:short", "visit:entry-search", "visit:exit-product", "path:search>product",
        }  # fmt: skip
        assert len(set(strengths.values())) == 1


def built(tenant: Tenant, store: Store) -> dict[str, int]:
    """What the one genome there is holds, by name."""
    with LogReader(tenant.log_path) as log:
        build(store, log, tenant.dna_path)
    (record,) = store.genomes()
    vocabulary = store.vocabulary()
    state = SubjectState.from_bytes(record.state).imprints
    return {vocabulary.name(index): value for index, value in state}


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(sequences, st.integers(0, 600_000)), min_size=2, max_size=6),
    st.randoms(use_true_random=False),
)
def test_in_whatever_order_and_files_visits_come(
    said: list[tuple[list[str], int]], chance: Any
) -> None:
    rows = [
        visit(str(n), pages, dwell_ms=dwell, time=f"2026-03-{n + 1:02}T08:00:00Z")
        for n, (pages, dwell) in enumerate(said)
    ]
    genomes = []
    for shuffled in (False, True):
        with tempfile.TemporaryDirectory() as folder, new_tenant(Path(folder)) as (tenant, store):
            dna = tenant.dna_path.read_text()
            tenant.dna_path.write_text(re.sub("landmark: .*", "landmark: 2026-02-01", dna))
            run(tenant, store, "customers", write(Path(folder) / "c.jsonl", [{"id": "1"}]))
            parts = [rows]
            if shuffled:
                mixed = chance.sample(rows, len(rows))
                cut = chance.randint(1, len(rows) - 1)
                # The second file has all that the first one has, too, and then comes again.
                parts = [mixed[:cut], mixed[::-1], mixed[:cut]]
            for number, part in enumerate(parts):
                run(tenant, store, "visits", write(Path(folder) / f"{number}.jsonl", part))
            genomes.append(built(tenant, store))
    assert genomes[0] == genomes[1]


def test_a_tenant_without_the_kind_is_told_what_to_add(tmp_path: Path) -> None:
    with new_tenant(tmp_path) as (tenant, store):
        run(tenant, store, "customers", write(tmp_path / "c.jsonl", [{"id": "1"}]))
        text = tenant.dna_path.read_text()
        kept = [line for line in text.splitlines() if not line.startswith(("  visit:", "  path:"))]
        tenant.dna_path.write_text("\n".join(kept))
        path = write(tmp_path / "v.jsonl", [visit("a", ["home"])])
        (wrong,) = run(tenant, store, "visits", path).rejects
        added = re.findall(r"`(\w+: \{.*?\})`", wrong.cause)
        text = "\n".join(kept).replace("kinds:\n", f"kinds:\n  {added[0]}\n", 1)
        tenant.dna_path.write_text(text.replace("namespaces:\n", f"namespaces:\n  {added[1]}\n", 1))
        assert run(tenant, store, "visits", path).whole
        built(tenant, store)
        schema = built_schema(store)
        assert schema is not None
        assert schema.quotas == {"path": 8, "word": 8}


def test_pages_become_visits_as_the_page_says(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "sources.md").read_text("utf-8")
    (query,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    pages = [
        {"customer": "1", "session": "a", "step": step, "page": page, "dwell_ms": 1_000,
         "time": f"2026-03-01T18:05:0{step}+01:00"}
        for step, page in ((2, "product"), (1, "search"), (3, "basket"))
    ]  # fmt: skip
    write(tmp_path / "clicks.jsonl", pages)
    made = query.replace("'clicks.jsonl'", f"'{tmp_path}/clicks.jsonl'")
    duckdb.sql(made.replace("'visits.jsonl'", f"'{tmp_path}/visits.jsonl'"))
    with new_tenant(tmp_path / "home") as (tenant, store):
        run(tenant, store, "customers", write(tmp_path / "c.jsonl", [{"id": "1"}]))
        assert run(tenant, store, "visits", tmp_path / "visits.jsonl").whole
        assert {"path:search>product", "path:product>basket"} < built(tenant, store).keys()


def test_the_channel_of_the_context_holds_where_the_row_names_none() -> None:
    row = {"customer": "ann", "session": "s", "pages": ["home"], "context": {"channel": "app"}}
    assert visit_interaction(row)["context"] == {"channel": "app"}
    assert visit_interaction({**row, "channel": "kiosk"})["context"] == {"channel": "kiosk"}
    assert visit_interaction({**row, "context": {}})["context"] == {"channel": "web"}
