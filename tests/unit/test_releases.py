"""Publishing: parts, signature, what stays, what is refused, and bundles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_sdk import Context, EdgeClient
from edge_sdk.dna.genome import rows_from_block
from edge_sdk.engine.release import Release, load_bundle
from edge_sdk.errors import TrustError
from edge_sdk.sync.trust import FEATURES, verify_manifest
from genome_edge.v1 import release_pb2
from genome_server.cli import cli
from genome_server.errors import Refused, UsageError
from genome_server.genomes.build import build
from genome_server.home import Tenant
from genome_server.ingest import reference_rows
from genome_server.learning.export import ModelFacts, tower_model
from genome_server.learning.towers import Shape, random_towers
from genome_server.models.shelf import save_model
from genome_server.releases.bundle import write_bundle
from genome_server.releases.check import check_parts, load_as_device, references
from genome_server.releases.features import SLATES
from genome_server.releases.publish import manifest_of, publish
from genome_server.releases.trust import TrustDesk
from genome_server.store.protocol import CustomerRow, DeviceRow, ReleaseRow, Store
from tests.serving import AGREED, make_home, offer
from tests.unit.releasing import NOW, built_tenant, contents

DAY_MS = 86_400_000
PARTS = (
    "schema", "vocabulary", "offers", "placements", "products", "places", "model", "golden",
)  # fmt: skip


@pytest.fixture
def tenant(tmp_path: Path) -> Tenant:
    return built_tenant(tmp_path / "home")


@pytest.fixture
def store(tenant: Tenant) -> Iterator[Store]:
    with closing(tenant.open_store()) as opened:
        yield opened


def trained(tenant: Tenant, store: Store, seed: int = 1) -> str:
    vocabulary = store.vocabulary()
    towers = random_towers(seed, len(vocabulary), Shape(members=2, width=8, hidden=4, dimension=2))
    model = tower_model(towers, ModelFacts(vocabulary.lineage, len(vocabulary)))
    return save_model(tenant.models_dir, store, model, {})


def test_a_release_is_signed_and_loads_on_a_device(tenant: Tenant, store: Store) -> None:
    name = trained(tenant, store)
    done = publish(tenant, now_ms=NOW)
    assert not done.unchanged
    assert done.model == name
    assert done.release == store.release()
    signed = release_pb2.SignedManifest.FromString(done.release.manifest)
    root = root_of(tenant)
    manifest = verify_manifest(signed, root, NOW, 0)
    assert manifest == done.manifest
    assert tuple(part.name for part in manifest.parts) == done.changed == PARTS
    assert (manifest.version, manifest.channel, manifest.tenant) == (1, "stable", "default")
    assert manifest.expires_ms - manifest.created_ms == 30 * DAY_MS
    assert list(manifest.required_features) == ["offer-model-1", "quantiser-1"]
    release = Release.from_parts(manifest, contents(tenant, manifest))
    release.check_golden()
    assert len(release_pb2.GoldenVectors.FromString(contents(tenant, manifest)["golden"]).vectors)
    assert release.catalogue.ids == ["spa", "taxi"]
    assert release.products.dna("soap") == [(release.vocabulary.index("brand:acme"), 256)]
    assert (tenant.releases_dir / "1" / "manifest.pb").read_bytes() == done.release.manifest
    for part in manifest.parts:
        content = (tenant.parts_dir / part.sha256.hex()).read_bytes()
        assert hashlib.sha256(content).digest() == part.sha256
    with pytest.raises(TrustError):
        verify_manifest(signed, make_root(tenant), NOW, 0)


def root_of(tenant: Tenant) -> release_pb2.TrustRoot:
    with closing(tenant.open_store()) as store:
        return TrustDesk(tenant, store).root()


def make_root(tenant: Tenant) -> release_pb2.TrustRoot:
    root = root_of(tenant)
    root.release_keys[0] = bytes(32)
    return root


def test_nothing_changed_says_so_and_keeps_the_release(tenant: Tenant, store: Store) -> None:
    trained(tenant, store)
    first = publish(tenant, now_ms=NOW)
    again = publish(tenant, now_ms=NOW + DAY_MS)
    assert again.unchanged
    assert again.release == first.release
    assert again.changed == ()
    assert len(store.releases()) == 1
    # What is about to expire is published anew, with the same parts.
    later = publish(tenant, now_ms=NOW + 16 * DAY_MS)
    assert (later.release.version, later.changed) == (2, ())
    assert len(list(tenant.parts_dir.iterdir())) == len({p.sha256 for p in first.manifest.parts})


def test_a_change_sends_only_what_changed(tenant: Tenant, store: Store) -> None:
    trained(tenant, store)
    publish(tenant, now_ms=NOW)
    store.put_documents("offer", [offer("spa", "service:spa", value=3.0)])
    done = publish(tenant, now_ms=NOW)
    assert done.release.version == 2
    assert done.changed == ("offers", "golden")
    trained(tenant, store, seed=2)
    assert publish(tenant, now_ms=NOW).changed == ("model", "golden")


def test_a_dry_run_writes_nothing(tenant: Tenant, store: Store) -> None:
    trained(tenant, store)
    store.put_documents("offer", [offer("new", "brand:never-seen")])
    before = store.vocabulary()
    done = publish(tenant, dry_run=True, now_ms=NOW)
    assert (done.release.version, done.changed) == (0, PARTS)
    assert store.releases() == []
    assert store.vocabulary() == before
    assert not list(tenant.parts_dir.iterdir())
    assert not list(tenant.releases_dir.iterdir())
    assert publish(tenant, now_ms=NOW).release.version == 1
    assert "brand:never-seen" in store.vocabulary()
    assert publish(tenant, dry_run=True, now_ms=NOW).unchanged


def test_files_of_offers_become_parts(tenant: Tenant, store: Store, tmp_path: Path) -> None:
    (tmp_path / "taxi.png").write_bytes(b"picture")
    row = {"id": "taxi", "dna": ["service:taxi"], "assets": {"image": "taxi.png"}}
    document, _ = reference_rows.offer(row, tmp_path, tenant.parts_dir)
    store.put_documents("offer", [("taxi", document)])
    done = publish(tenant, untrained=True, now_ms=NOW)
    (asset,) = [part for part in done.manifest.parts if part.asset]
    assert asset.name == document["assets"]["image"]
    assert (asset.size, asset.sha256) == (7, hashlib.sha256(b"picture").digest())
    assert "assets-1" not in done.manifest.required_features
    # Devices that cannot wait for files lose the offer, and publishing says how many they are.
    for number, features in enumerate((["assets-1"], ["squarecb"], ["squarecb"])):
        store.put_device(DeviceRow(f"d{number}", "", "all", b"k" * 32))
        store.touch_devices({f"d{number}": (1, {"features": ["offer-model-1", *features]})})
    store.put_device(DeviceRow("d9", "", "all", b"k" * 32))
    again = publish(tenant, untrained=True, dry_run=True, now_ms=NOW)
    lacking = again.lacking.as_json()
    assert (lacking["devices"], lacking["heard"]) == (4, 3)
    assert lacking["features"]["assets-1"] == {
        "devices": 2, "share": 2 / 3, "release": False, "offers": 1, "ignored": [],
    }  # fmt: skip
    assert again.lacking.sentences()[0] == (
        "66.7% of the devices (2 of 3) lose 1 offer: their SDK lacks assets-1"
    )
    (tenant.parts_dir / asset.sha256.hex()).write_bytes(b"other")
    with pytest.raises(Refused, match="is damaged"):
        publish(tenant, untrained=True, now_ms=NOW)
    (tenant.parts_dir / asset.sha256.hex()).unlink()
    with pytest.raises(Refused, match="import the offer and its file again"):
        publish(tenant, untrained=True, now_ms=NOW)


def test_devices_that_decide_without_what_slates_ask_for_are_counted(
    tenant: Tenant, store: Store
) -> None:
    for number, features in enumerate((FEATURES, ["offer-model-1", "quantiser-1", "squarecb"])):
        store.put_device(DeviceRow(f"d{number}", "", "all", b"k" * 32))
        store.touch_devices({f"d{number}": (1, {"features": list(features)})})
    (name, plain), *_ = store.documents("placement")

    def told(placement: dict[str, Any], **fields: Any) -> list[str]:
        store.put_documents("placement", [(name, {**plain, **placement})])
        store.put_documents("offer", [offer("spa", "service:spa", **fields)])
        done = publish(tenant, untrained=True, dry_run=True, now_ms=NOW)
        manifest, catalogue = done.manifest, store.documents("offer")
        assert SLATES not in manifest.required_features, "older devices still get it"
        assert not any(document.get("required_features") for _, document in catalogue)
        for need in done.lacking.as_json()["features"].values():
            assert (need["devices"], need["share"], need["offers"]) == (1, 0.5, 0)
        return done.lacking.sentences()

    whose = "50.0% of the devices (1 of 2) decide without "
    lacks = ": their SDK lacks slates-1"
    assert told({}) == []
    assert told({"holdout": 0.1}) == [f"{whose}the hold-out{lacks}"]
    assert told({"least_worth": 0}) == [f"{whose}least worths{lacks}"]
    assert told({"most_per_category": 1}, cost=0.5) == [
        f"{whose}the most of each category and costs{lacks}"
    ]
    assert told({"holdout": 0.1, "least_worth": -1, "most_per_category": 1}) == [
        f"{whose}the hold-out, least worths and the most of each category{lacks}"
    ]
    said = CliRunner().invoke(
        cli,
        ["publish", "--untrained", "--dry-run", "--home", str(tenant.dir.parent.parent)],
    )
    assert f"note: {whose}the hold-out, least worths" in said.stderr
    assert SLATES in FEATURES


def test_a_bundle_brings_its_files_along(tenant: Tenant, store: Store, tmp_path: Path) -> None:
    (tmp_path / "taxi.png").write_bytes(b"picture")
    row = {"id": "taxi", "dna": ["service:taxi"], "value": 9.0, "assets": {"image": "taxi.png"}}
    document, _ = reference_rows.offer(row, tmp_path, tenant.parts_dir)
    store.put_documents("offer", [("taxi", document)])
    publish(tenant, untrained=True)
    write_bundle(tenant, tmp_path / "x.bundle")
    with EdgeClient(tmp_path / "store", bundle=tmp_path / "x.bundle") as edge:
        assert edge.wait_ready(20)
        offer = edge.decide(Context(), "screen").offer
        assert offer is not None
        assert offer.asset("image").read_bytes() == b"picture"


def test_versions_go_on_above_what_devices_have(tenant: Tenant, store: Store) -> None:
    store.put_device(DeviceRow("d1", "", "all", b"k" * 32))
    store.put_device(DeviceRow("d2", "", "all", b"k" * 32))
    store.touch_devices({"d1": (1, {"release": 7})})
    store.touch_devices({"d2": (1, {"release": 2**62})})
    assert publish(tenant, untrained=True, now_ms=NOW).release.version == 8


def test_without_a_model_nothing_is_published_unless_asked(tenant: Tenant) -> None:
    with pytest.raises(Refused, match="there is no model yet; run: genome-server train"):
        publish(tenant, now_ms=NOW)
    done = publish(tenant, untrained=True, now_ms=NOW)
    assert done.model == "untrained"
    release = Release.from_parts(done.manifest, contents(tenant, done.manifest))
    assert set(release.scorer.vectors([[], []]).ravel().tolist()) == {0.0}
    assert publish(tenant, untrained=True, now_ms=NOW).unchanged


def test_what_has_to_come_first_is_said(tmp_path: Path) -> None:
    made = make_home(tmp_path / "home").tenant()
    with pytest.raises(Refused, match="run: genome-server build"):
        publish(made, untrained=True)
    with closing(made.open_store()) as store:
        build(store, None, made.dna_path)
    root_of(made)
    made.release_key_path.unlink()
    with pytest.raises(Refused, match="keys rotate release"):
        publish(made, untrained=True)


def test_a_model_of_another_vocabulary_is_refused(tenant: Tenant, store: Store) -> None:
    model = tower_model(random_towers(1, 3), ModelFacts(b"x" * 16, 3))
    name = save_model(tenant.models_dir, store, model, {})
    with pytest.raises(Refused, match=f"model {name} was trained on another vocabulary"):
        publish(tenant, now_ms=NOW)


@pytest.mark.parametrize("name", [part for part in PARTS if part != "golden"])
def test_a_part_that_devices_would_refuse_is_named(tenant: Tenant, store: Store, name: str) -> None:
    trained(tenant, store)
    done = publish(tenant, now_ms=NOW)
    parts = contents(tenant, done.manifest)
    check_parts(parts)
    with pytest.raises(Refused, match=f"part '{name}' of the release is wrong"):
        check_parts({**parts, name: b"\xff" + parts[name][:7]})
    del parts[name]
    with pytest.raises(Refused, match=f"lacks its part '{name}'"):
        check_parts(parts)


def test_golden_vectors_that_do_not_hold_stop_a_release(tenant: Tenant, store: Store) -> None:
    trained(tenant, store)
    done = publish(tenant, now_ms=NOW)
    parts = contents(tenant, done.manifest)
    golden = release_pb2.GoldenVectors.FromString(parts["golden"])
    golden.vectors[3].values[1] += 0.001
    parts["golden"] = golden.SerializeToString()
    with pytest.raises(Refused, match="devices would refuse this release: golden vector 3"):
        load_as_device(done.manifest, parts)


def test_a_changed_schema_is_released_with_its_epoch(tenant: Tenant, store: Store) -> None:
    first = publish(tenant, untrained=True, now_ms=NOW)
    tenant.dna_path.write_text(tenant.dna_path.read_text().replace("brand: 60d", "brand: 30d"))
    # Written is not built: devices could not read the rows yet.
    assert publish(tenant, untrained=True, now_ms=NOW).unchanged
    build(store, None, tenant.dna_path)
    second = publish(tenant, untrained=True, now_ms=NOW)
    assert second.changed == ("schema", "golden")
    assert second.release.schema_epoch == first.release.schema_epoch + 1
    assert second.manifest.lineage.schema_epoch == second.release.schema_epoch


def test_names_that_are_not_there_are_noted(tenant: Tenant, store: Store) -> None:
    spa = offer("spa", "service:spa", placements=["lift", "feed"])
    store.put_documents("offer", [spa])
    store.put_documents("placement", [("feed", {"id": "feed", "house_offer": "gone"})])
    done = publish(tenant, untrained=True, now_ms=NOW)
    assert done.notes == (
        "offer 'spa' is for placement 'lift', which does not exist",
        "placement 'feed' has house offer 'gone', which does not exist",
    )
    assert references(contents(tenant, done.manifest)) == list(done.notes)


def test_channels_have_releases_of_their_own(tenant: Tenant, store: Store) -> None:
    one = publish(tenant, untrained=True, now_ms=NOW)
    other = publish(tenant, untrained=True, channel="canary", now_ms=NOW)
    assert [one.release.version, other.release.version] == [1, 2]
    stable = store.release()
    assert stable is not None
    assert stable.version == 1


def test_a_bundle_carries_everything(tenant: Tenant, store: Store, tmp_path: Path) -> None:
    subjects = store.subjects_of("app", ["ann", "bob"])
    store.put_customers([CustomerRow(subjects["bob"], (), consents=0, updated_ms=NOW)])
    trained(tenant, store)
    done = publish(tenant, now_ms=NOW)
    written = write_bundle(tenant, tmp_path / "a.bundle", audience="all")
    data = written.path.read_bytes()
    assert (written.version, written.size, written.genomes) == (1, len(data), 2)
    found = load_bundle(data, root_of(tenant))
    assert found.signed.SerializeToString() == done.release.manifest
    assert found.parts == contents(tenant, done.manifest)
    rows = [row for block in found.blocks for row in rows_from_block(block)]
    assert subjects["ann"] in [row.subject for row in rows]
    assert subjects["bob"] not in [row.subject for row in rows], "consent comes first"
    assert all(row.consents & AGREED for row in rows)
    assert found.blocks[0].lineage == done.manifest.lineage
    assert not write_bundle(tenant, tmp_path / "b.bundle").genomes
    with pytest.raises(UsageError, match="no audience 'none'"):
        write_bundle(tenant, tmp_path / "c.bundle", audience="none")
    assert not (tmp_path / "c.bundle").exists()


def test_a_bundle_is_not_made_of_damaged_parts(tenant: Tenant, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such release"):
        write_bundle(tenant, tmp_path / "a.bundle")
    done = publish(tenant, untrained=True, now_ms=NOW)
    path = tenant.parts_dir / next(p.sha256.hex() for p in done.manifest.parts if p.name == "model")
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(Refused, match="part 'model' is damaged"):
        write_bundle(tenant, tmp_path / "a.bundle")
    path.unlink()
    with pytest.raises(Refused, match="part 'model' is gone"):
        write_bundle(tenant, tmp_path / "a.bundle")
    assert not (tmp_path / "a.bundle").exists()
    # Publishing again puts it back, though nothing changed.
    assert publish(tenant, untrained=True, now_ms=NOW).unchanged
    assert write_bundle(tenant, tmp_path / "a.bundle").version == 1


def test_the_manifest_of_a_row(tenant: Tenant) -> None:
    done = publish(tenant, untrained=True, now_ms=NOW)
    assert isinstance(done.release, ReleaseRow)
    assert manifest_of(done.release) == done.manifest
    assert done.size == sum(part.size for part in done.manifest.parts)


def test_the_command(tenant: Tenant, tmp_path: Path) -> None:
    home = ["--home", str(tenant.dir.parent.parent)]

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["publish", *arguments, *home])
        assert done.exit_code == code, done.output
        return done.output

    assert "error: there is no model yet" in run(code=1)
    assert "Would publish" in run("--untrained", "--dry-run")
    data = json.loads(run("--untrained", "--json"))
    assert data["version"] == 1
    assert data["published"] is True
    assert data["bytes"] == sum(data["parts"].values())
    assert "Nothing changed: release 1 stays." in run("--untrained")
    bundle = tmp_path / "town.bundle"
    out = run("--untrained", "--bundle", str(bundle), "--bundle-audience", "all")
    assert "with 3 genomes" in out
    assert load_bundle(bundle.read_bytes()).signed
    assert "--bundle-audience needs" in run("--bundle-audience", "all", code=2)
    assert "leave it out" in run("--bundle", str(bundle), "--dry-run", code=2)
