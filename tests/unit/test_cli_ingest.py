"""init, schema, import, offers, audiences and status, as a person calls them."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from genome_server.ingest.kinds import KINDS
from genome_server.ingest.names import KIND_NAMES
from genome_server.store import DeviceRow
from tests.unit.ingesting import FORMATS, ORDER, write, write_example
from tests.unit.server_shell import Shell


@pytest.fixture
def person(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_the_command_line_names_every_kind_in_order() -> None:
    assert tuple(KINDS) == KIND_NAMES


def import_town(person: Shell) -> None:
    """A hotel, a taxi, a customer."""
    rows: dict[str, list[dict[str, Any]]] = {
        "places": [{"id": "h", "kind": "hotel", "cells": ["8a2a100d2d57fff"]}],
        "placements": [{"id": "lobby", "channel": "kiosk"}],
        "offers": [
            {"id": "taxi", "dna": ["service:taxi"], "near": ["hotel"], "placements": ["lobby"]},
            {"id": "umbrella", "any_of": ["weather:rainy"]},
            {"id": "over", "valid": {"until": "2020-01-01T00:00:00Z"}},
        ],
        "customers": [{"id": "anna", "attributes": {"age": 30}, "consent": ["personalisation"]}],
    }
    for kind, content in rows.items():
        person.call("import", kind, write(person.root / f"{kind}.jsonl", content))


# -- init


def test_init_makes_a_tenant_once(tmp_path: Path) -> None:
    person = Shell(tmp_path, made=False)
    first = person.json("init")
    assert len(first["made"]) == 10
    assert first["present"] == []
    keys = {path: path.read_bytes() for path in person.tenant.keys_dir.glob("*.*")}
    assert {path.name for path in keys} == {
        "root.pem", "release.pem", "timestamp.pem", "credential.pem", "presence.key",
    }  # fmt: skip
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)
    assert stat.S_IMODE(person.tenant.dir.stat().st_mode) == 0o700
    dna = person.tenant.dna_path
    dna.write_text(dna.read_text().replace("claim: 365d", "claim: 300d"))
    second = person.json("init")
    assert second["made"] == []
    assert len(second["present"]) == 7
    assert {path: path.read_bytes() for path in person.tenant.keys_dir.glob("*.*")} == keys
    assert "claim: 300d" in dna.read_text()
    assert "nothing to do" in person.call("init").output


def test_init_completes_but_never_replaces_a_key_that_devices_go_by(person: Shell) -> None:
    person.tenant.credential_key_path.unlink()
    assert len(person.json("init")["made"]) == 1
    store = person.tenant.open_store()
    store.put_device(DeviceRow("d", "lobby", "all", b"k" * 32))
    store.close()
    person.tenant.credential_key_path.unlink()
    assert "backup" in person.call("init", code=1).stderr
    assert not person.tenant.credential_key_path.exists()


# -- schema


@pytest.mark.parametrize("kind", ORDER)
def test_schema_prints_the_schema_and_examples(person: Shell, kind: str) -> None:
    assert json.loads(person.call("schema", kind).stdout) == KINDS[kind].schema
    for format_ in ("csv", "jsonl", "yaml"):
        printed = person.call("schema", kind, "--example", format_)
        path = write_example(person.root, kind, format_)
        assert printed.stdout == path.read_text(), "what is printed can be imported"
        explained = printed.stdout if format_ == "yaml" else printed.stderr
        words = " ".join(explained.replace("#", " ").split())
        for field in KINDS[kind].properties.values():
            assert " ".join(field["description"].split()) in words


# -- import


@pytest.mark.parametrize("format_", FORMATS)
def test_import_says_what_became_of_the_rows(person: Shell, format_: str) -> None:
    path = write_example(person.root, "products", format_)
    said = person.call("import", "products", path)
    assert "1 rows in = 1 new + 0 changed + 0 unchanged + 0 rejected" in said.stdout
    again = person.json("import", "products", path)
    assert (again["rows_in"], again["unchanged"]) == (1, 1)


def test_import_sets_rows_aside_and_ends_with_1(person: Shell) -> None:
    path = person.file("p.csv", "id,brand\na,x\n,y\n")
    said = person.call("import", "products", path, code=1)
    assert f"{path}:3: id: is missing" in said.stderr
    assert "2 rows in = 1 new + 0 changed + 0 unchanged + 1 rejected" in said.stdout
    (kept,) = person.tenant.rejects_dir.iterdir()
    assert str(kept) in said.stdout
    report = person.json("import", "products", path, code=1)
    sums = report["new"] + report["changed"] + report["unchanged"] + report["rejected"]
    assert report["rows_in"] == sums == 2
    assert report["files"][0]["rejects"][0]["line"] == 3


def test_import_of_several_files_adds_up(person: Shell) -> None:
    good = person.file("a.jsonl", '{"id": "a"}\n{"id": "b"}\n')
    bad = person.file("b.csv", "nonsense\n")
    said = person.call("import", "products", good, bad, person.root / "c.csv", code=1)
    assert "refused: " in said.stderr
    assert "no such file" in said.stderr
    assert "products in all: 2 rows in = 2 new" in said.stdout


def test_import_usage(person: Shell) -> None:
    path = person.file("a.txt", "id\na\n")
    assert "--format" in person.call("import", "products", path, code=2).stderr
    person.call("import", "products", path, "--format", "csv")
    person.call("import", "products", path, "--create-customers", code=2)
    person.call("import", "produkts", path, code=2)


# -- offers


def test_offers_check_without_a_tenant(tmp_path: Path) -> None:
    person = Shell(tmp_path, made=False)
    path = person.file(
        "o.jsonl", '{"id": "a"}\n{"id": "b", "hours": ["30"]}\n{"id": "c", "x": 1}\n'
    )
    said = person.call("offers", "check", path, code=1)
    assert f"{path}:2: hours[0]" in said.stderr
    assert f"{path}:3: x" in said.stderr
    assert "3 offers checked, 2 problems found" in said.stdout
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("format_", ["csv", "jsonl", "yaml"])
def test_the_example_of_offers_checks_clean_as_it_is_printed(tmp_path: Path, format_: str) -> None:
    person = Shell(tmp_path, made=False)
    printed = person.call("schema", "offers", "--example", format_).stdout
    assert "assets" in printed
    path = person.file(f"offers.{format_}", printed)
    said = person.call("offers", "check", path)
    assert "2 offers checked, 0 problems found" in said.stdout
    assert said.stderr == ""


def test_the_example_says_how_files_are_named(tmp_path: Path) -> None:
    person = Shell(tmp_path, made=False)
    printed = person.call("schema", "offers", "--example", "yaml").stdout
    with_files = re.sub(r"^  # (assets:|  image.*)$", r"  \1", printed, flags=re.MULTILINE)
    path = person.file("offers.yaml", with_files.replace("  assets: {}\n", "", 1))
    assert (
        "there is no file 'images/taxi.png'" in person.call("offers", "check", path, code=1).stderr
    )
    (path.parent / "images").mkdir()
    for name in ("taxi.png", "taxi-de.png"):
        (path.parent / "images" / name).write_bytes(b"picture")
    assert "0 problems" in person.call("offers", "check", path).stdout


SMALL = {"id": "lobby", "channel": "kiosk", "sizes": ["300x250"]}


def test_offers_check_against_what_is_imported(person: Shell) -> None:
    import_town(person)
    rows: list[dict[str, Any]] = [
        {"id": "a", "placements": ["loby"]},
        {"id": "b", "near": ["hotell"]},
        {"id": "c", "valid": {"until": "2020-01-01T00:00:00Z"}},
        {"id": "d", "placements": ["lobby"], "near": ["hotel"], "near_rings": 2},
        {"id": "e", "sizes": ["a4"]},
    ]
    person.call("import", "placements", write(person.root / "p2.jsonl", [SMALL]))
    said = person.json("offers", "check", write(person.root / "o2.jsonl", rows), code=1)
    problems = said["problems"]
    assert [(problem["line"], problem["column"]) for problem in problems] == [
        (1, "placements[0]"),
        (3, "valid.until"),
        (5, "sizes"),
    ]
    assert "did you mean 'lobby'?" in problems[0]["cause"]
    assert "lobby takes 300x250" in problems[2]["cause"]
    (note,) = said["notes"]
    assert (note["line"], note["column"]) == (2, "areas.near[0]")
    assert note["cause"].endswith("only where the app says so; did you mean 'hotel'?")


def test_offers_check_finds_what_import_would_refuse_or_note(person: Shell) -> None:
    import_town(person)
    rows: list[dict[str, Any]] = [
        {"id": "a", "near": ["hotell"], "near_rings": 1},
        {"id": "a", "near": ["hotel"]},
        {"id": "a", "near": ["hotell"], "near_rings": 1.0},
        {"id": "b", "value": 40_000, "cost": 1},
        {"id": "b", "value": 1},
        {"id": "c", "hours": ["30"]},
    ]
    path = write(person.root / "o2.jsonl", rows)
    checked = person.json("offers", "check", path, code=1)
    imported = person.json("import", "offers", path, code=1)
    (report,) = imported["files"]
    refused = [(one["line"], one["column"], one["cause"]) for one in report["rejects"]]
    assert refused == [(one["line"], one["column"], one["cause"]) for one in checked["problems"]]
    assert [(line, column) for line, column, _ in refused] == [
        (2, "id"),
        (4, "value"),
        (5, "id"),
        (6, "hours[0]"),
    ]
    assert refused[0][2] == (
        "'a' stands in line 1 too, with other values; one of the two rows must go"
    )
    (note,) = checked["notes"]
    assert [f"offer 'a': {note['column']}: {note['cause']}"] == imported["notes"]
    assert note["line"] == 1, "what is said again is not looked at again"
    told = person.call("offers", "check", path, code=1).stderr
    assert f"note: {path}:1: areas.near[0]: no place is a 'hotell'" in told


def test_what_is_wrong_is_told_where_it_stands_and_with_what_to_write(person: Shell) -> None:
    path = person.file(
        "o.yaml",
        "- id: a\n  value: 1\n  hours: 9-13\n"
        "- id: b\n  rings: 2\n"
        "- id: c\n  value: 2\n  caps: [{limit: 2, calendar: day, window_hours: 24}]\n"
        '- id: d\n  valid: {until: "2030-06-06T00:00"}\n'
        "- id: e\n  value: 3\n  near: [hotel]\n  all_of: [nonsense]\n",
    )
    checked = person.json("offers", "check", path, code=1)["problems"]
    (report,) = person.json("import", "offers", path, code=1)["files"]
    zoneless = "'2030-06-06T00:00' is not allowed; expected a time with its offset "
    zoneless += "(2026-06-30T18:00:00+02:00) or a zone beside it"
    either = "24 is not allowed; expected either window_hours or calendar"
    assert [(one["line"], one["column"], one["cause"]) for one in checked] == [
        (3, "hours", "'9-13' is not a list, such as [9-13]"),
        (5, "rings", "2 is not allowed; expected cells that the rings are around"),
        (8, "caps[0].window_hours", either),
        (10, "valid.until", zoneless),
        (14, "all_of[0]", "'nonsense' is not a marker such as claim:organic"),
    ]
    assert report["rejects"] == checked


def test_notes_alone_are_nothing_to_mend(person: Shell) -> None:
    rows = [{"id": "a", "placements": ["lobby"]}, {"id": "b", "near": ["hotel"]}]
    path = write(person.root / "o.jsonl", rows)
    checked = person.json("offers", "check", path)
    assert person.json("import", "offers", path)["notes"] == [
        f"offer 'a': {one['column']}: {one['cause']}" for one in checked["notes"]
    ]
    assert "no placements are imported yet" in checked["notes"][0]["cause"]
    assert "# note: placements[0]: there is no" in person.call("offers", "show", "a").stdout


def test_offers_show(person: Shell) -> None:
    import_town(person)
    assert "service:taxi" in person.call("offers", "show", "taxi").stdout
    assert person.json("offers", "show", "over")["problems"] == ["valid.until: is over"]
    assert "did you mean 'taxi'?" in person.call("offers", "show", "taxy", code=1).stderr


def test_offers_preview_says_what_would_be_shown_and_why_not_the_rest(person: Shell) -> None:
    import_town(person)
    seen = person.json("offers", "preview", "--place", "hotel", "--customer", "anna")
    assert seen["placement"] == "lobby"
    assert seen["slots"][0]["offer"] == "taxi"
    assert seen["losers"]["umbrella"]["reasons"] == ["ANY_OF"]
    assert seen["losers"]["over"]["reasons"] == ["ENDED"]
    by_cell = person.json("offers", "preview", "--cell", "8b2a100d2d54fff")
    assert by_cell["slots"][0]["offer"] == "taxi", "the place layer knows the cell"
    rain = person.call("offers", "preview", "--placement", "lobby", "--attr", "weather=rainy")
    assert "slot 0: umbrella" in rain.stdout
    assert "not taxi: NEAR_PLACE" in rain.stdout
    assert "language='de'" in person.json("offers", "preview", "--language", "de")["moment"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--placement", "loby"], 1, "'lobby'"),
        (["--customer", "ana"], 1, "'anna'"),
        (["--time", "soon"], 2, "soon"),
        (["--attr", "weather"], 2, "NAME=VALUE"),
        (["--cell", "x"], 2, "H3 cell"),
        (["--stage", "later"], 2, "before, during, after"),
        (["--language", "German!"], 2, "BCP 47"),
    ],
)
def test_offers_preview_of_a_moment_that_cannot_be(
    person: Shell, arguments: list[str], code: int, says: str
) -> None:
    import_town(person)
    assert says in person.call("offers", "preview", *arguments, code=code).stderr


# -- audiences


def test_audiences(person: Shell) -> None:
    rows = [{"id": str(n), "attributes": {"age": 20 + n % 2}} for n in range(10)]
    person.call("import", "customers", write(person.root / "c.jsonl", rows))
    ids = person.file("ids.txt", "1\n 2 \n\n2\nnobody\n")
    assert person.json("audiences", "add", "some", "--customers", ids)["members"] == 2
    assert person.json("audiences", "add", "odd", "--marker", "Age:21", "--lookup")["members"] == 5
    none = person.json("audiences", "add", "none", "--none", "--identify", "any")
    assert (none["members"], none["identify"]) == (0, "any")
    listed = {row["name"]: row for row in person.json("audiences", "list")["audiences"]}
    assert {name: row["members"] for name, row in listed.items()} == {
        "all": 10,
        "none": 0,
        "odd": 5,
        "some": 2,
    }
    assert listed["odd"]["lookup"]
    assert not listed["all"]["lookup"], "private by default"
    assert "any of age:21" in person.call("audiences", "list").stdout


def test_an_audience_that_changes_keeps_its_lookup_key(person: Shell) -> None:
    def key() -> bytes:
        store = person.tenant.open_store()
        try:
            audience = store.audience("all")
            assert audience is not None
            return audience.lookup_key
        finally:
            store.close()

    before = key()
    assert len(before) == 32
    person.call("audiences", "add", "all", "--all", "--lookup")
    person.call("audiences", "add", "all", "--marker", "a:b")
    assert key() == before
    assert person.json("audiences", "list")["audiences"][0]["lookup"], (
        "not said again is not undone"
    )


def test_audiences_usage(person: Shell) -> None:
    person.call("audiences", "add", "x", code=2)
    person.call("audiences", "add", "x", "--all", "--none", code=2)
    person.call("audiences", "add", "The X", "--all", code=2)
    person.call("audiences", "add", "x", "--customers", person.root / "nothing.txt", code=1)
    person.call("audiences", "add", "x", "--marker", "nonsense", code=2)
    said = person.call("audiences", "add", "x", "--marker", "daypart:evning")
    assert "did you mean 'daypart:evening'?" in said.stderr


# -- status


def test_status_says_what_to_do_next(person: Shell) -> None:
    assert "import products FILE" in person.json("status")["next"], "as init does"
    person.call("import", "customers", write(person.root / "one.jsonl", [{"id": "anna"}]))
    assert "import offers" in person.json("status")["next"]
    import_town(person)
    status = person.json("status")
    assert status["counts"] == {
        "customers": 1,
        "products": 0,
        "contents": 0,
        "offers": 3,
        "placements": 1,
        "places": 1,
    }
    assert "genome-server build" in status["next"]
    person.call("build")
    status = person.json("status")
    assert status["genomes"]["count"] == 1
    assert "genome-server train" in status["next"]
    row = {"customer": "anna", "kind": "redeem", "offer": "taxi", "time": "2026-03-01T18:05:00Z"}
    person.call("import", "interactions", write(person.root / "i.jsonl", [row]))
    status = person.json("status")
    assert status["log"] == {"events": 1, "interactions": 1, "outcomes": {}}
    assert status["genomes"]["events_waiting"] == 1
    assert "1 events are not in the genomes yet" in person.call("status").stdout
    nowhere = person.call("publish", "--untrained", "--bundle", "no-such-folder/x", code=2)
    assert "no folder no-such-folder" in nowhere.stderr
    person.call("publish", "--untrained")
    status = person.json("status")
    assert status["release"]["version"] == 1
    assert "devices enrol" in status["next"]
    person.call("import", "offers", write(person.root / "o3.jsonl", [{"id": "new"}]))
    status = person.json("status")
    assert status["pending"][-1] == "offers changed since release 1"
    assert "genome-server publish" in status["next"]


def test_a_build_that_no_release_fits_says_so(person: Shell) -> None:
    offers = [{"id": "taxi", "dna": ["service:taxi"]}]
    person.call("import", "offers", write(person.root / "o.jsonl", offers))
    person.call("import", "placements", write(person.root / "p.jsonl", [{"id": "screen"}]))
    person.call("import", "customers", write(person.root / "c.jsonl", [{"id": "anna"}]))
    assert person.json("build")["release_behind"] is None
    person.call("publish", "--untrained")
    assert person.json("build")["release_behind"] is None
    dna = person.root / "home" / "tenants" / "default" / "dna.yaml"
    dna.write_text(dna.read_text() + "\nkinds: {stroll: 0.5}\n")
    assert person.json("build")["release_behind"] == 1
    built = person.call("build")
    assert "release 1 is of another schema epoch" in built.stdout + built.stderr
    assert "genome-server publish" in built.stdout + built.stderr
    assert person.json("status")["next"].startswith("devices get no genomes: release 1 is of")
    person.call("publish", "--untrained")
    assert "publish" not in person.json("status")["next"]
    assert person.json("build")["release_behind"] is None
