"""Offers and placements on their way in: what is refused, what is noted, the files they need."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import pytest

from edge_sdk.engine.offers import offer_from_document
from edge_sdk.sync.trust import Limits
from genome_server.home import Tenant
from genome_server.ingest.assets import asset_path
from genome_server.ingest.importing import notes_of
from genome_server.store import Store
from tests.unit.ingesting import counts, new_tenant, run, write

TenantStore = tuple[Tenant, Store]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[TenantStore]:
    with new_tenant(tmp_path / "home") as made:
        yield made


FRIDAY = {"from": "2026-06-05T00:00", "until": "2026-06-06T00:00"}


def test_offers_that_break_the_format_or_can_never_be_shown(
    tmp_path: Path, home: TenantStore
) -> None:
    tenant, store = home
    rows: list[dict[str, Any]] = [
        {"id": "fine", "near": ["hotel"], "hours": ["17-21"]},
        {"id": "never", "all_of": ["a:b"], "none_of": ["a:b"]},
        {"id": "hours", "hours": ["25"]},
        {"id": "cell", "cells": ["8a2a100d2d57ffe"]},
        {"id": "cap", "caps": [{"limit": 0}]},
        {"id": "late", "zone": "Europe/Berlin", "days": ["sat"], "valid": FRIDAY},
        {"id": "wrong", "zone": "Europe/Berln"},
        {"id": "paced", "caps": [{"limit": 2, "paced": True}]},
    ]
    report = run(tenant, store, "offers", write(tmp_path / "o.jsonl", rows))
    said = {one.line: f"{one.column} {one.cause}" for one in report.rejects}
    assert set(said) == set(range(2, 9))
    assert said[2].startswith("all_of[0] it can never be shown: ")
    assert said[6].startswith("valid it can never be shown: none of the days and hours")
    assert said[7].startswith("zone ")
    assert "did you mean 'Europe/Berlin'?" in said[7]
    assert said[8].startswith("caps[0].paced ")
    assert said[3].startswith("hours[0]")
    assert "H3 cell" in said[4]
    assert said[5].startswith("caps[0].limit")
    assert {"place:hotel"} <= set(store.vocabulary())


def test_areas_are_kept_in_as_few_cells_as_possible(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    town = h3.latlng_to_cell(48.2, 16.4, 7)
    fine = [h3.int_to_str(cell) for cell in sorted(h3.cell_to_children(town, 9))]
    rows: list[dict[str, Any]] = [
        {"id": "a", "cells": fine[:30], "areas": {"cells": fine[30:], "near": ["hotel"]}},
        {"id": "b", "cells": fine[:2]},
        {"id": "c", "cells": fine[:7], "rings": 1},
    ]
    path = write(tmp_path / "o.jsonl", rows)
    report = run(tenant, store, "offers", path)
    assert report.notes == ["58 cells of areas became 10"]
    assert report.as_json()["notes"] == report.notes
    kept = [store.document("offer", name) or {} for name in "abc"]
    assert kept[0]["areas"] == {"near": ["hotel"], "cells": [h3.int_to_str(town)]}
    assert "cells" not in kept[0]
    assert kept[1]["cells"] == fine[:2]
    assert kept[2]["cells"] == fine[:7]  # rings are around each of them
    assert counts(run(tenant, store, "offers", path)) == (0, 0, 3, 0)


def test_names_that_nothing_answers_to_are_noted(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    run(
        tenant,
        store,
        "placements",
        write(tmp_path / "s.jsonl", [{"id": "lobby", "house_offer": "hi"}]),
    )
    place = {"id": "h", "kind": "hotel", "cells": ["8a2a100d2d57fff"]}
    run(tenant, store, "places", write(tmp_path / "p.jsonl", [place]))
    rows: list[dict[str, Any]] = [
        {"id": "o", "placements": ["loby"]},
        {"id": "n", "near": ["hotel", "spa"], "near_rings": 2},
    ]
    run(tenant, store, "offers", write(tmp_path / "o.jsonl", rows))
    notes = notes_of(store)
    assert [note for note in notes if "'n'" in note] == [
        "offer 'n': areas.near[1]: no place is a 'spa', so it shows only where the app says so"
    ]
    assert any("'loby'" in note and "'lobby'" in note for note in notes)
    assert any("'hi'" in note for note in notes)


def test_files_of_offers_are_taken_in_by_content(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    pictures = tmp_path / "in" / "pictures"
    pictures.mkdir(parents=True)
    (pictures / "a.PNG").write_bytes(b"one")
    (pictures / "b").write_bytes(b"two")
    row = {
        "id": "taxi",
        "dna": ["service:taxi"],
        "max_offline_age_hours": 48,
        "texts": {"de": {"title": "Taxi"}},
        "assets": {"image": "pictures/a.PNG", "image.de": "pictures/b"},
    }
    path = write(tmp_path / "in" / "offers.jsonl", [row])
    assert run(tenant, store, "offers", path).whole
    document = store.document("offer", "taxi")
    assert document is not None
    one, two = (hashlib.sha256(text).hexdigest() for text in (b"one", b"two"))
    assert document["assets"] == {
        "image": f"asset/{one[:16]}.png",
        "image.de": f"asset/{two[:16]}",
    }
    assert sorted(kept.name for kept in tenant.parts_dir.iterdir()) == sorted((one, two))
    assert asset_path(tenant.parts_dir, document["assets"]["image"]) == tenant.parts_dir / one
    assert asset_path(tenant.parts_dir, "asset/0000000000000000") is None
    assert asset_path(tenant.parts_dir, "../tenant.sqlite") is None
    spec = offer_from_document(document)
    assert [(asset.name, asset.language) for asset in spec.assets] == [
        ("image", ""),
        ("image", "de"),
    ]
    assert list(spec.required_features) == ["assets-1", "offline-age-1"]
    # Another picture under the same name is another offer.
    (pictures / "b").write_bytes(b"three")
    assert counts(run(tenant, store, "offers", path)) == (0, 1, 0, 0)
    # What was damaged since is put right.
    (tenant.parts_dir / one).write_bytes(b"eno")
    assert counts(run(tenant, store, "offers", path)) == (0, 0, 1, 0)
    assert (tenant.parts_dir / one).read_bytes() == b"one"


def test_a_file_of_an_offer_that_cannot_be_used_is_named(tmp_path: Path, home: TenantStore) -> None:
    tenant, store = home
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "empty").touch()
    with (folder / "huge").open("wb") as file:
        file.truncate(Limits().asset_bytes + 1)
    (folder / "ring").symlink_to(folder / "ring")
    named = ["none.png", "../secret", str(tmp_path / "secret"), "link", "empty", "huge", "."]
    named += ["ring", "zero\0"]
    rows = [
        {"id": f"o{n}", "dna": ["a:b"], "assets": {"image": name}} for n, name in enumerate(named)
    ]
    report = run(tenant, store, "offers", write(folder / "o.jsonl", rows))
    assert counts(report) == (0, 0, 0, len(named))
    assert [reject.line for reject in report.rejects] == list(range(1, len(named) + 1))
    assert {reject.column for reject in report.rejects} == {"assets.image"}
    words = ["no file", "outside", "outside", "outside", "empty", "are allowed", "no file"]
    words += ["no path", "no path"]
    for reject, word in zip(report.rejects, words, strict=True):
        assert word in reject.cause
    assert not list(tenant.parts_dir.iterdir())
