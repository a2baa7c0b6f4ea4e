"""What goes wrong gets the error that a person needs, and the good data is still there."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import pytest

from edge_sdk import Context, EdgeClient
from tests.e2e.house import House, run, until

MOMENT = Context(place="hotel", activity="flight-search")


def counts(house: House) -> dict[str, int]:
    """What the server holds."""
    held: dict[str, int] = house.server_json("status")["counts"]
    return held


def refused(house: House, kind: str, name: str, content: str | bytes) -> str:
    """Import a bad file; what a person is told. Exit code 1, and nothing good is lost."""
    before = counts(house)
    path = house.root / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    told = house.both("import", kind, path, codes=(1,))
    after = counts(house)
    assert all(after[key] >= before[key] for key in before)
    assert "Traceback" not in told
    return told


def test_malformed_csv(house: House) -> None:
    told = refused(
        house, "products", "broken.csv", 'id,title,brand\np-1,Soap,acme\np-2,"Shampoo,acme\n'
    )
    assert "broken.csv" in told
    assert "line 3" in told or ":3" in told
    assert counts(house)["products"] >= 24


def test_a_wrong_column_names_the_nearest(house: House) -> None:
    told = refused(house, "products", "column.csv", "id,title,brnad\np-1,Soap,acme\n")
    assert "brnad" in told
    assert "brand" in told


def test_an_unknown_product_is_set_aside_and_the_rest_goes_in(house: House) -> None:
    products = [
        line.split(",")[0]
        for line in (house.root / "town/products.csv").read_text().splitlines()[1:]
    ]
    customer = json.loads((house.root / "town/customers.jsonl").read_text().splitlines()[0])["id"]
    rows = [
        {
            "customer": customer,
            "kind": "buy",
            "product": product,
            "time": "2026-11-01T10:00:00+00:00",
        }
        for product in (products[0], products[0] + "x", products[1])
    ]
    path = house.root / "bought.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    answer = house.server_json("import", "interactions", path, codes=(1,))
    (file,) = answer["files"]
    assert (file["rows_in"], file["new"], file["rejected"]) == (3, 2, 1)
    rejects = [json.loads(line) for line in Path(file["rejects_file"]).read_text().splitlines()]
    assert rejects[0]["line"] == 2
    assert rejects[0]["column"] == "product"
    assert products[0] in rejects[0]["cause"], "the nearest id is named"
    again = house.server_json("import", "interactions", path, codes=(1,))
    assert again["files"][0]["unchanged"] == 2, "twice changes nothing"


def test_a_truncated_parquet_file(house: House) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = house.root / "whole.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "title": ["A", "B"]}), whole)
    told = refused(house, "products", "cut.parquet", whole.read_bytes()[:-20])
    assert "cut.parquet" in told
    assert "parquet" in told.lower()


def test_a_corrupt_local_store_is_moved_aside_and_filled_again(house: House) -> None:
    house.start()
    store = house.enrol("kiosk")
    with EdgeClient(store, house.address) as edge:
        assert edge.wait_ready(20)
        until(lambda: edge.status.genomes > 0)
    for path in [store / "edge.sqlite", *store.glob("edge.sqlite-*"), *(store / "parts").iterdir()]:
        data = bytearray(path.read_bytes())
        rng = random.Random(1)
        for _ in range(len(data) // 50 + 1):
            data[rng.randrange(len(data))] ^= 0xFF
        path.chmod(0o644)
        path.write_bytes(data)
    with EdgeClient(store, house.address) as edge:
        decision = edge.decide(MOMENT, "lobby-screen")
        assert decision.reason, "always an answer"
        until(lambda: edge.status.state == "READY", what=f"filled again: {edge.status}")
        taxi = edge.decide(MOMENT, "lobby-screen").offer
        assert taxi is not None
        assert taxi.id == "taxi-to-airport"
    assert list(store.parent.glob(f"{store.name}.corrupt-*")) or list(store.glob("*corrupt*"))


def test_a_truncated_model_is_refused_and_the_last_good_release_stays(
    house: House, tmp_path: Path
) -> None:
    from genome_edge.v1 import release_pb2

    house.server("publish", "--bundle", tmp_path / "good.bundle")
    bundle = release_pb2.Bundle.FromString((tmp_path / "good.bundle").read_bytes())
    for part in bundle.parts:
        if part.name == "model":
            part.content = part.content[: len(part.content) // 2]
    (tmp_path / "cut.bundle").write_bytes(bundle.SerializeToString())
    store = tmp_path / "store"
    with EdgeClient(store, bundle=tmp_path / "good.bundle") as edge:
        assert edge.wait_ready(20)
    with EdgeClient(tmp_path / "other", bundle=tmp_path / "cut.bundle") as edge:
        assert not edge.wait_ready(2)
        assert edge.status.state in {"ERROR", "EMPTY"}
        assert "model" in str(edge.status.cause)
        assert edge.decide(MOMENT, "lobby-screen").offer is None
    with EdgeClient(store, bundle=tmp_path / "cut.bundle") as edge:
        assert edge.wait_ready(20), "the good release is still there"
        assert edge.decide(MOMENT, "lobby-screen").offer is not None


def test_a_typo_in_a_placement_names_the_nearest(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house.server("publish", "--bundle", tmp_path / "town.bundle")
    with EdgeClient(tmp_path / "store", bundle=tmp_path / "town.bundle") as edge:
        assert edge.wait_ready(20)
        with caplog.at_level(logging.WARNING, logger="edge_sdk"):
            decisions = [edge.decide(MOMENT, "loby-screen") for _ in range(5)]
        assert {d.reason for d in decisions} == {"UNKNOWN_PLACEMENT"}
        assert decisions[0].offer is None
        assert "lobby-screen" in str(decisions[0].unknown)
        assert edge.status.reasons["UNKNOWN_PLACEMENT"] == 5
    told = [r for r in caplog.records if "lobby-screen" in r.getMessage()]
    assert len(told) == 1, "one line, not five"


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    run(
        "genome-edge",
        "enrol",
        "--server",
        "127.0.0.1:1",
        "--code",
        "default.AAAA-AAAA-AAAA-AAAA",
        "--store",
        tmp_path / "s",
        codes=(3,),
    )
