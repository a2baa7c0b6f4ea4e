"""The page of one genome, in words that people use."""

from __future__ import annotations

from genome_server.compare.page import Fact, Picture, page_of


def test_markers_are_words() -> None:
    facts = [
        Fact("path", "search>product", 0.5, 0.2, 0.4),
        Fact("not-topic", "crime-novels", 2.0, 0.5, None),
        Fact("age-band", "30-44", 1.0, 0.3, 0.25),
    ]
    text = page_of(Picture("customer <1>", "2026-03-01", facts))
    assert "search → product" in text
    assert "turned down, topic" in text
    assert "crime novels" in text
    assert "30-44" in text, "between numbers it is no gap"
    assert "hardly anybody else" in text
    assert "customer &lt;1&gt;" in text
    assert "customer <1>" not in text
    # What few have comes first in what stands out.
    summary = text.split("What stands out")[1].split("</p>")[0]
    assert summary.index("crime novels") < summary.index("30-44") < summary.index("search")
