"""The nearest of many ids."""

from __future__ import annotations

import time

from genome_server.ingest.nearest import KnownIds


def test_the_nearest_of_few() -> None:
    known = KnownIds("product", ["tea", "milk"])
    assert "tea" in known
    assert known.unknown("tee") == "there is no product 'tee'; did you mean 'tea'?"
    assert known.unknown("xyz") == "there is no product 'xyz'"
    assert KnownIds("offer", []).unknown("x").endswith("no offers are imported yet")


def test_the_nearest_of_many_is_quick() -> None:
    known = KnownIds("product", (f"sku-{n:07d}-{n % 97}" for n in range(90_000)))
    started = time.perf_counter()
    assert "'sku-0045000-89'" in known.unknown("sku-0045000-98")
    assert "'sku-0045000-89'" in known.unknown("skv-0045000-89"), "a slip at the beginning"
    for n in range(50):
        known.unknown(f"sku-x{n:06d}")
    assert time.perf_counter() - started < 5
