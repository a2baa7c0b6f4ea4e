"""Where somebody lives stays on the server: in no row of a device, nameless in a release."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.errors import UsageError
from genome_server.compare.reading import read_some
from genome_server.genomes.consents import for_devices, hint_at
from genome_server.learning.job import sources_of
from genome_server.log import LogReader
from genome_server.store.rows import CustomerRow
from tests.unit._genomes import fresh, interaction, subject
from tests.unit.ingesting import new_tenant, run, write
from tests.unit.server_shell import Shell
from tests.unit.test_consents import ALL, DERIVING, ELSEWHERE, HOME, SHOWN, bought


def test_where_somebody_lives_is_on_no_device(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.write_dna(DERIVING)
        at_home = (("age:30", 256), (f"home:{HOME}", 256))
        house.store.extend_vocabulary(["age:30", f"home:{HOME}"])
        for who, consents in ((1, ALL), (2, SHOWN)):
            house.store.put_customers([CustomerRow(subject(who), at_home, consents)])
        home = [{"marker": f"home:{ELSEWHERE}", "salience_q8": 256}]
        for who in (1, 2):
            house.log([bought(who, 24 * day) for day in range(6)])
            house.log([interaction(who, 5, "view", dna=home)])
        house.build()
        assert all("age:30" in row[2] for row in house.rows().values())
        assert not [name for row in house.rows().values() for name in row[2] if "home" in name]
        genomes = read_some(house.store, [subject(1), subject(2)])
        vocabulary = house.store.vocabulary()
        named = (map(vocabulary.name, genomes.row(row)[0].tolist()) for row in range(2))
        told = [{name for name in names if "home" in name} for names in named]
        assert told == [{f"home:{HOME}", f"home:{ELSEWHERE}", f"insight:home-{HOME}"}, set()]
        with LogReader(house.tenant.log_path) as log:
            learnt_from = sources_of(house.store, log).person(subject(1))
        assert learnt_from.markers == (("age:30", 256),)
        released = for_devices(vocabulary)
        assert (released.lineage, len(released)) == (vocabulary.lineage, len(vocabulary))
        for i, name in enumerate(vocabulary):
            assert released.name(i) == (f"withheld:{i}" if "home" in name else name)


def test_names_that_look_withheld_are() -> None:
    vocabulary = Vocabulary(bytes(16), ["withheld:1", f"home:{HOME}", "brand:a"])
    assert for_devices(vocabulary).markers == ("withheld:0", "withheld:1", "brand:a")
    plain = Vocabulary(bytes(16), ["brand:a"])
    assert for_devices(plain) is plain
    assert for_devices(vocabulary, [f"home:{HOME}"]).markers[1] == f"home:{HOME}"
    with pytest.raises(UsageError):
        Vocabulary(bytes(16), ["withheld:1", "withheld:1"])


def test_homes_are_shown_only_of_who_agreed_to_location(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    plain = ["personalisation", "learning"]
    people = [
        {"id": f"{n}", "attributes": {"home": HOME, "age": 30}, "consent": plain + more}
        for n, more in enumerate([["location"], ["location"], [], []])
    ]
    shell.call("import", "customers", write(tmp_path / "customers.jsonl", people))
    shell.call("build")
    for asked, there in (("0 1", True), ("0 2", True), ("2 3", False), ("2", False), ("0", True)):
        names = asked.split()
        command = "compare" if len(names) == 2 else "show"
        assert (HOME in shell.call("genomes", command, *names).stdout) is there, asked
    told = shell.json("genomes", "compare", "0", "2")
    assert [one["marker"] for one in told["only_first"]] == [f"home:{HOME}"]
    assert told["only_second"] == []
    assert HOME not in json.dumps(shell.json("genomes", "similar", "2"))


def test_nobody_is_told_of_a_home_that_the_vocabulary_still_has() -> None:
    vocabulary = Vocabulary(bytes(16), [f"home:{HOME}", "brand:acme"])
    assert vocabulary.nearest(f"home:{HOME[:-1]}e") == f"home:{HOME}"
    assert hint_at(vocabulary, f"home:{HOME[:-1]}e") == ""
    assert hint_at(vocabulary, "brand:acne") == "; did you mean 'brand:acme'?"
    assert hint_at(vocabulary, "zzz:yyy") == ""


def test_who_asks_for_a_home_does_not_learn_whether_it_is_known(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    home = {"id": "1", "attributes": {"home": HOME}, "consent": ["learning", "location"]}
    shell.call("import", "customers", write(tmp_path / "customers.jsonl", [home]))
    shell.call("build")
    with closing(shell.tenant.open_store()) as store:
        known = store.subject_of("app", "1")
        assert known is not None
        assert store.erase_subject(known)
        assert f"home:{HOME}" in store.vocabulary()
        assert f"home:{ELSEWHERE}" not in store.vocabulary()
    told = [
        shell.json("genomes", "regions", "--marker", f"home:{cell}", code=1)["error"]["message"]
        for cell in (HOME, ELSEWHERE)
    ]
    assert told[0].replace(HOME, "") == told[1].replace(ELSEWHERE, "")


_PLACE = {"id": "x", "kind": "hotel", "lat": 48.1, "lng": 11.5}
_OFFER = {"id": "x", "content": {"title": "A"}}
_DID = {"customer": "1", "time": "2026-03-01T10:00:00Z", "kind": "buy"}


@pytest.mark.parametrize(
    ("kind", "row", "field"),
    [
        ("products", {"id": "x", "dna": ["claim:a", "withheld:3"]}, "dna"),
        ("products", {"id": "x", "attributes": {"Withheld": ["3"]}}, "attributes.Withheld"),
        ("places", {**_PLACE, "dna": [{"marker": "withheld:3", "salience": 2}]}, "dna"),
        ("places", {**_PLACE, "attributes": {"withheld": 3}}, "attributes.withheld"),
        ("contents", {"id": "x", "dna": ["withheld:3"]}, "dna"),
        ("offers", {**_OFFER, "dna": ["withheld:3"]}, "dna"),
        ("offers", {**_OFFER, "none_of": ["withheld:3"]}, "none_of"),
        ("customers", {"id": "1", "attributes": {"withheld": "3"}}, "attributes.withheld"),
        ("customers", {"id": "1", "markers": ["withheld:3"]}, "markers"),
        ("interactions", {**_DID, "dna": ["withheld:3"]}, "dna"),
    ],
)
def test_the_namespace_of_what_has_no_name_is_not_for_imports(
    tmp_path: Path, kind: str, row: dict[str, object], field: str
) -> None:
    """A product of such DNA stopped every release: its marker stood twice in the vocabulary."""
    with new_tenant(tmp_path) as (tenant, store):
        store.extend_vocabulary([f"home:{HOME}"])
        found = run(tenant, store, kind, write(tmp_path / "rows.jsonl", [row]))
        assert [(one.column, one.cause) for one in found.rejects] == [
            (field, "'withheld' is for markers that have no name in a release; call it otherwise")
        ]
        assert not [name for name in store.vocabulary() if name.startswith("withheld:")]
