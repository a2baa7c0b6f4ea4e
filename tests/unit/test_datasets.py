"""The one function that finds data sets, and what it says when a set is not here."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import datasets


def test_the_environment_comes_first_then_the_checkout_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENOME_EDGE_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, checkout, last = datasets.search_path()
    assert first == tmp_path / "mine"
    assert checkout == Path(datasets.__file__).resolve().parents[2] / "shared" / "data"
    assert last == tmp_path / "cache" / "genome-edge" / "data"
    for place in (last, first):  # found in the last, and then in the first although in both
        (place / "uci_coupon").mkdir(parents=True)
        (place / "uci_coupon" / "coupons.csv").touch()
        assert datasets.find("uci_coupon", places=(first, last)) == place / "uci_coupon"


def test_a_folder_without_all_its_files_is_not_the_set(tmp_path: Path) -> None:
    (tmp_path / "open_bandit").mkdir()
    (tmp_path / "open_bandit" / "men_bts.parquet").touch()
    with pytest.raises(datasets.DataSetMissing):
        datasets.find("open_bandit", places=[tmp_path])


def test_a_missing_set_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(datasets.DataSetMissing) as caught:
        datasets.find("uci_coupon", places=[tmp_path])
    said = str(caught.value)
    for word in ("UCI", "603", "CC BY 4.0", str(tmp_path), "synthetic town"):
        assert word in said
    assert datasets.KNOWN["uci_coupon"].files["coupons.csv"] in said


def test_an_unknown_set_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError):
        datasets.find("coupons")


def test_checksums_tell_another_copy(tmp_path: Path) -> None:
    (tmp_path / "coupons.csv").write_text("person\n")
    assert not datasets.same_copy("uci_coupon", tmp_path)
