"""A new tenant reads titles of products, words take few places; a catalogue wants counting."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from genome_server.genomes.rows import row_of
from tests.unit.server_shell import Shell

WHEN = "2026-03-01T18:05:00+01:00"
TITLE = (
    "Organic vanilla zebra quokka walrus ferret badger otter lemur gecko iguana tapir 450 g frozen"
)


def bought(shell: Shell) -> list[str]:
    """The markers of the row of somebody who bought something with that title, and nothing else."""
    for kind, row in {
        "products": {"id": "p", "title": TITLE},
        "customers": {"id": "anna", "consent": ["personalisation"]},
        "interactions": {"customer": "anna", "kind": "buy", "product": "p", "time": WHEN},
    }.items():
        shell.call("import", kind, shell.file(f"{kind}.jsonl", json.dumps(row) + "\n"))
    shell.call("build")
    with closing(shell.tenant.open_store()) as store:
        (record,) = store.genomes()
        return [store.vocabulary().name(index) for index in row_of(record).indices.tolist()]


def test_a_title_alone_is_dna_and_words_have_eight_places(tmp_path: Path) -> None:
    names = bought(Shell(tmp_path))
    assert {"claim:organic", "flavour:vanilla", "size:450g", "form:frozen"} <= set(names)
    words = [name for name in names if name.startswith("word:")]
    assert len(words) == 8 == len(names) - 4, "of ten that the title has"


def test_a_file_without_the_section_reads_no_title(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    text = shell.tenant.dna_path.read_text()
    assert "\ntext:\n  products: [title]\n" in text
    shell.tenant.dna_path.write_text(text.replace("\ntext:\n  products: [title]\n", "\n"))
    assert bought(shell) == []


def test_status_names_a_catalogue_that_was_never_counted(tmp_path: Path) -> None:
    shell = Shell(tmp_path)

    def told(count: int) -> bool:
        rows = [json.dumps({"id": f"p{n}", "title": f"Soap {n % 7}"}) for n in range(count)]
        shell.call("import", "products", shell.file("p.jsonl", "\n".join(rows) + "\n"))
        return "genome-server dna learn" in shell.call("status").stdout

    assert not told(99)
    assert told(100)
    assert shell.json("status")["learnt"] is False
    shell.call("dna", "learn")
    assert not told(100)
    assert shell.json("status")["learnt"] is True
