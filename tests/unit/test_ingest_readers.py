"""Reading files: rows with their lines, and words for everything that people's files have."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genome_server.errors import ImportRefused, UsageError
from genome_server.ingest.kinds import KINDS
from genome_server.ingest.readers import RawRow, format_of, read_rows

PRODUCTS = KINDS["products"]


def read(path: Path, content: bytes | str, kind: str = "products") -> list[RawRow]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_rows(path, KINDS[kind]))


def refusal(path: Path, content: bytes | str, kind: str = "products") -> str:
    with pytest.raises(ImportRefused) as caught:
        read(path, content, kind)
    assert str(path) in str(caught.value)
    return str(caught.value)


def found(rows: list[RawRow]) -> list[tuple[int, Any]]:
    """(line, values) of good rows, (line, cause) of bad ones."""
    return [(row.line, row.error.cause if row.error else row.values) for row in rows]


# -- CSV


def test_csv_nested_fields_lists_and_empty_cells(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "a.csv",
        "id,brand,attributes.claim,attr.roast,dna\n"
        "a, Acme ,organic|fair,dark,scent:x=0.5|note:y\n"
        "b,,,,\n",
    )
    assert found(rows) == [
        (
            2,
            {
                "id": "a",
                "brand": "Acme",
                "attributes": {"claim": ["organic", "fair"], "roast": "dark"},
                "dna": [{"marker": "scent:x", "salience": 0.5}, "note:y"],
            },
        ),
        (3, {"id": "b"}),
    ]
    assert rows[0].raw["brand"] == " Acme ", "rejects have the row as it was"


def test_csv_lines_are_physical_lines(tmp_path: Path) -> None:
    content = 'id,title\n"a","two\nlines"\n\nb,"x ""quoted"" y"\r\n,,\nc,z\n'
    rows = read(tmp_path / "a.csv", content.replace(",,\n", ",\n"))
    assert found(rows) == [
        (2, {"id": "a", "title": "two\nlines"}),
        (5, {"id": "b", "title": 'x "quoted" y'}),
        (7, {"id": "c", "title": "z"}),
    ]


def test_csv_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert found(read(tmp_path / "a.csv", b"\xef\xbb\xbfid\na\n")) == [(2, {"id": "a"})]


def test_csv_an_unclosed_quote_costs_one_row(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", 'id,title\na,"never closed\nb,good\nc,"also ""good"""\nd,x\n')
    assert [row.line for row in rows if row.error] == [2]
    assert "quote" in str(rows[0].error)
    assert [row.values.get("id") for row in rows[1:]] == ["b", "c", "d"]


def test_csv_an_unclosed_quote_in_a_long_file(tmp_path: Path) -> None:
    lines = [
        "id,title",
        *(f"p{n},t" for n in range(500)),
        'bad,"open',
        *(f"q{n},t" for n in range(900)),
    ]
    rows = read(tmp_path / "a.csv", "\n".join(lines))
    assert [row.line for row in rows if row.error] == [502]
    assert len(rows) == 1401


def test_csv_wrong_number_of_cells(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", "id,title\na\nb,t,more\nc,t\n")
    assert found(rows) == [
        (2, "has 1 cells where the header has 2"),
        (3, "has 3 cells where the header has 2"),
        (4, {"id": "c", "title": "t"}),
    ]
    assert rows[0].raw == "a"


def test_csv_a_line_in_another_encoding(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", b"id,title\na,x\n" + "b,Café\n".encode("cp1252") + b"c,y\n")
    assert [row.line for row in rows if row.error] == [3]
    assert "UTF-8" in str(rows[1].error)
    assert "character 6" in str(rows[1].error)
    assert [row.values.get("id") for row in rows] == ["a", None, "c"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("\n\n", "blank"),
        ("id;title;brand\na;b;c\n", "semicolons"),
        ("id\ttitle\na\tb\n", "tabs"),
        ("p-1,Espresso\np-2,Tea\n", "no header"),
        ("id,titel\n", "did you mean 'title'?"),
        ("ID,title\n", "did you mean 'id'?"),
        ("id,title,id\n", "'id' stands twice"),
        ("id,title,\n", "column 3 has no name"),
        ("title,brand\n", "'id' is missing"),
        ("id,atributes.age\n", "attributes."),
        (b"\xff\xfei\x00d\x00", "UTF-16"),
        (b"PK\x03\x04xxxx", "spreadsheet"),
        (b"\x1f\x8b1234", "gzip"),
        (b"i\x00d\x00", "no text file"),
        (b"id\ra\rb", "CR alone"),
        (b"PAR1", "Parquet"),
        ('"id,title\n', "header"),
    ],
)
def test_csv_files_that_are_none(tmp_path: Path, content: bytes | str, says: str) -> None:
    assert says in refusal(tmp_path / "a.csv", content)


def test_csv_with_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "id,title\n") == []


def test_csv_numbers_booleans_and_json(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "a.csv",
        "id,value,priority,stop_after.redeem,hours,caps,content.title\n"
        'o,4.50,2,yes,17-21|3,"[{""limit"": 3}]",T\n'
        "p,a lot,1.5,perhaps,,{broken,\n",
        "offers",
    )
    assert rows[0].values == {
        "id": "o",
        "value": 4.5,
        "priority": 2,
        "stop_after": {"redeem": True},
        "hours": ["17-21", "3"],
        "caps": [{"limit": 3}],
        "content": {"title": "T"},
    }
    # What cannot be turned stays, and the check says what is wrong with it.
    assert rows[1].values["value"] == "a lot"
    assert rows[1].values["stop_after"] == {"redeem": "perhaps"}


# -- JSON Lines


def test_jsonl_lines_and_causes(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "a.jsonl",
        '{"id": "a", "brand": null, "attributes": {"x": null, "y": 1}}\n\n'
        '{"id": "b",}\n[1]\n{"id": "c", "id": "d"}\n{"id": NaN}\n{"id": "e"}',
    )
    assert rows[0].values == {"id": "a", "attributes": {"y": 1}}
    assert [row.line for row in rows] == [1, 3, 4, 5, 6, 7]
    causes = [row.error.cause for row in rows if row.error]
    assert "character" in causes[0]
    assert causes[1] == "is no JSON object"
    assert "'id' stands twice" in causes[2]
    assert "NaN" in causes[3]
    assert rows[-1].values == {"id": "e"}


def test_jsonl_deeply_nested_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", '{"id": ' + "[" * 100_000 + '\n{"id": "b"}\n')
    assert rows[0].error is not None
    assert rows[1].values == {"id": "b"}


def test_jsonl_half_a_character_is_an_error_of_its_row(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", '{"id": "\\ud800"}\n{"id": "\\ud83d\\ude00"}\n')
    assert "half a character" in str(rows[0].error)
    assert rows[1].values == {"id": "\U0001f600"}


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "empty"), ('[{"id": 1}]', "one object per line"), ('{\n"id": 1\n}', "in one line")],
)
def test_jsonl_files_that_are_none(tmp_path: Path, content: str, says: str) -> None:
    assert says in refusal(tmp_path / "a.jsonl", content)


# -- YAML


def test_yaml_has_the_values_of_json_and_remembers_lines(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "a.yaml",
        "# comment\n- id: 007\n  brand: no\n  title: 2026-01-31\n\n"
        "- id: 7\n  dna:\n    - claim:x\n",
    )
    assert found(rows) == [
        (2, {"id": "007", "brand": "no", "title": "2026-01-31"}),
        (6, {"id": 7, "dna": ["claim:x"]}),
    ]
    assert rows[0].lines == {"id": 2, "brand": 3, "title": 4}


def test_yaml_documents_and_a_list_under_its_kind(tmp_path: Path) -> None:
    assert found(read(tmp_path / "a.yaml", "id: a\n---\nid: b\n")) == [
        (1, {"id": "a"}),
        (3, {"id": "b"}),
    ]
    assert found(read(tmp_path / "b.yaml", "products:\n- id: a\n")) == [(2, {"id": "a"})]


def test_yaml_rows_that_are_wrong(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "a.yaml",
        "- id: a\n  id: b\n- just text\n- &x\n  id: c\n  dna: [*x]\n- id: d\n- 1: x\n"
        "- id: !!python/none x\n",
    )
    assert [row.line for row in rows] == [1, 3, 4, 7, 8, 9]
    assert "stands twice" in str(rows[0].error)
    assert "no mapping" in str(rows[1].error)
    assert "refers to itself" in str(rows[2].error)
    assert rows[3].values == {"id": "d"}
    assert "no text" in str(rows[4].error)
    assert rows[5].error is not None
    assert "id: c" in rows[2].raw, "rejects have the row as it was"


def test_yaml_merge_keys(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.yaml", "- &base\n  id: a\n  brand: x\n- <<: *base\n  id: b\n")
    assert rows[1].values == {"id": "b", "brand": "x"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("- id: a\n  title: [1, 2\n- id: b\n", ":3: character 5"),
        ("- id: a\n\tb: 1\n", "is not YAML"),
        ("just text\n", "a list of products"),
        ("[" * 50_000, "nested too deeply"),
        (b"- id: caf\xe9\n", ":1: is not UTF-8"),
    ],
)
def test_yaml_files_that_are_none(tmp_path: Path, content: bytes | str, says: str) -> None:
    assert says in refusal(tmp_path / "a.yaml", content)


# -- Parquet


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(
        pa.table({name.replace("__", "."): value for name, value in columns.items()}), path
    )
    return path


def test_parquet_types_and_row_numbers(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        id=[1, 2],
        brand=["x", None],
        attributes__age=[26.0, float("nan")],
        attributes__price=pa.array([Decimal("1.50"), None]),
        attributes__day=[datetime(2026, 1, 31, tzinfo=UTC), None],
        dna=[[{"marker": "a:b", "salience": 0.5}], None],
    )
    assert found(list(read_rows(path, PRODUCTS))) == [
        (
            1,
            {
                "id": 1,
                "brand": "x",
                "attributes": {"age": 26, "price": 1.5, "day": "2026-01-31T00:00:00+00:00"},
                "dna": [{"marker": "a:b", "salience": 0.5}],
            },
        ),
        (2, {"id": 2}),
    ]


def test_parquet_structs_maps_and_text_lists(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "a.parquet",
        id=["a"],
        attributes=pa.array([[("x", "1")]], pa.map_(pa.string(), pa.string())),
        dna=["a:b|c:d=2"],
    )
    (row,) = read_rows(path, PRODUCTS)
    assert row.values == {
        "id": "a",
        "attributes": {"x": "1"},
        "dna": ["a:b", {"marker": "c:d", "salience": 2}],
    }


def test_parquet_files_that_are_none(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "a.parquet", id=[f"p{n}" for n in range(1000)]).read_bytes()
    assert "truncated" in refusal(tmp_path / "b.parquet", whole[: len(whole) // 2])
    assert "no Parquet file" in refusal(tmp_path / "c.parquet", "id,title\n")
    assert "damaged" in refusal(tmp_path / "d.parquet", whole[:40] + bytes(200) + whole[240:])
    unknown = parquet(tmp_path / "e.parquet", id=["a"], titel=["x"]).read_bytes()
    assert "did you mean 'title'?" in refusal(tmp_path / "f.parquet", unknown)
    missing = parquet(tmp_path / "g.parquet", title=["a"]).read_bytes()
    assert "'id' is missing" in refusal(tmp_path / "h.parquet", missing)
    pq.write_table(pa.table({"id": ["a"], "__index_level_0__": [1]}), tmp_path / "j.parquet")
    with pytest.raises(ImportRefused, match="index=False"):
        list(read_rows(tmp_path / "j.parquet", PRODUCTS))


# -- all


def test_the_format_is_told_by_the_name_or_said(tmp_path: Path) -> None:
    assert [format_of(Path(name)) for name in ("a.CSV", "a.ndjson", "a.yml", "a.pq")] == [
        "csv",
        "jsonl",
        "yaml",
        "parquet",
    ]
    assert format_of(Path("a.txt"), "csv") == "csv"
    with pytest.raises(UsageError, match="--format"):
        format_of(Path("a.txt"))
    with pytest.raises(UsageError, match="jsonl"):
        format_of(Path("a.json"))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="no such file"):
        list(read_rows(tmp_path / "a.csv", PRODUCTS))
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(ImportRefused, match="directory"):
        list(read_rows(tmp_path / "d.csv", PRODUCTS))
