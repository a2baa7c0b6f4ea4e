"""The map: what it draws, also at the ends of the earth, and that it loads nothing."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import h3.api.basic_int as h3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genome_server.regions.demand import Survey
from genome_server.regions.page import Facts, Layer, page
from genome_server.regions.shapes import HEIGHT, WIDTH, flat_map, unrolled, widest_gap
from genome_server.regions.stores import Shop
from tests.unit.regions_town import cells_around, crowd_of

PENTAGON = h3.latlng_to_cell(*h3.cell_to_latlng(sorted(h3.get_pentagons(4))[3]), 5)
FACTS = Facts(people=90, located=80, resolution=5, least=10, day="2026-11-23")

CELLS = st.builds(
    lambda spot, level: h3.latlng_to_cell(*spot, level),
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
    st.integers(3, 8),
)


@given(st.lists(CELLS, min_size=1, max_size=8, unique=True))
def test_every_cell_is_on_the_map_in_one_piece(cells: list[int]) -> None:
    flat = flat_map(cells)
    for cell in cells:
        ring = flat.ring(cell)
        assert len(ring) >= 5
        for x, y in ring:
            assert -1e-6 <= x <= WIDTH + 1e-6
            assert -1e-6 <= y <= HEIGHT + 1e-6
        lats = [lat for lat, _ in unrolled(cell, flat.cut)]
        if max(map(abs, lats)) < 80:
            corners = unrolled(cell, flat.cut)
            assert max(lng for _, lng in corners) - min(lng for _, lng in corners) < 20


def test_cells_on_both_sides_of_the_180th_meridian_are_neighbours() -> None:
    west, east = h3.latlng_to_cell(-17.0, 179.95, 6), h3.latlng_to_cell(-17.0, -179.95, 6)
    flat = flat_map([west, east])
    xs = [flat.spot(h3.cell_to_latlng(cell))[0] for cell in (west, east)]
    assert 0 < xs[1] - xs[0] < WIDTH
    assert flat.scale > 1000  # a map of two cells, and not of the earth
    across = h3.latlng_to_cell(-17.0, 180.0, 5)
    corners = unrolled(across, flat.cut)
    assert max(lng for _, lng in corners) - min(lng for _, lng in corners) < 1


def test_the_cut_is_where_nothing_is() -> None:
    assert widest_gap([170.0, -170.0]) == 0.0
    assert widest_gap([-74.0, 16.0]) == pytest.approx(151.0)
    assert widest_gap([10.0]) == pytest.approx(190.0)


def test_a_cell_that_holds_a_pole_is_a_band() -> None:
    pole = h3.latlng_to_cell(90.0, 0.0, 3)
    ring = unrolled(pole, 0.0)
    assert ring[-1][0] == ring[-2][0] == 90.0
    assert abs(ring[-2][1] - ring[-1][1]) == pytest.approx(360.0)
    south = unrolled(h3.latlng_to_cell(-90.0, 0.0, 3), 0.0)
    assert south[-1][0] == -90.0


def test_a_pentagon_has_its_own_corners() -> None:
    assert h3.is_pentagon(PENTAGON)
    assert len(unrolled(PENTAGON, 0.0)) == len(h3.cell_to_boundary(PENTAGON))


class Read(HTMLParser):
    """What stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def drawn(title: str = "soap") -> str:
    near, far = cells_around(2, 5)
    genomes = [{"a:1": 1.0, "a:</script>": 2.0}] * 30 + [{"a:1": 1.0}] * 50
    crowd = crowd_of(genomes, [{near: 1.0}] * 30 + [{far: 1.0}] * 50)
    survey = Survey(crowd, 5)
    layers = [
        Layer(title, survey.demand([("a:1", 256), ("a:</script>", 256)])),
        Layer("a:1", survey.demand([("a:1", 256)])),
        Layer("nobody wants it", survey.demand([("z:1", 256)])),
    ]
    return page("Where", layers, FACTS, [Shop('<b>"one"', near)])


def test_the_page_is_whole_and_loads_nothing() -> None:
    text = drawn("<i>soap</i>")
    read = Read(text)
    assert not read.open
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert {"link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in read.tags)
    assert not any({"src", "href"} & at.keys() for _, at in read.tags)
    assert [option["value"] for option in read.named("option")][:3] == ["0", "1", "2"]
    assert "default-src 'none'" in text
    assert "&lt;i&gt;soap" in text
    assert "&lt;b&gt;&quot;one" in text
    assert text.count("</script>") == 1  # no marker ends it


def test_the_page_says_what_is_shown_and_what_is_withheld() -> None:
    text = drawn()
    data = re.search(r"const LAYERS=(\[.*?\]),STEPS", text)
    assert data is not None
    layers = json.loads(data[1])
    both, one, none = layers
    near, far = (f"{cell:x}" for cell in cells_around(2, 5))
    assert [(r[3], r[4], r[5]) for r in both["r"]] == [
        (near, "68.8 %", "1.83 ×"), (far, "31.2 %", "0.50 ×"),
    ]  # fmt: skip
    assert [r[4] for r in one["r"]] == ["62.5 %", "37.5 %"]
    assert none["r"] == []
    assert none["note"] == "Nothing is withheld."
    assert both["f"][0][0] == "0.0 %"
    assert both["f"][0][-1] == "50.5 %"  # 68.8 · (6 / 7)²
    assert [r[1:3] for r in both["r"]] == [[6, 4], [4, 1]]
    assert both["r"][0][6].endswith('0.0 km from <b>"one"')
    assert "drawn by a:</script> 73 %, a:1 27 %" in both["r"][0][6]
    polygons = Read(text).named("polygon")
    assert len(polygons) == 2
    assert all(len(str(p["points"]).split()) >= 6 for p in polygons)
    assert "fewer than 10 people" in text


def test_a_map_of_nothing_is_refused() -> None:
    survey = Survey(crowd_of([{}], [{}]), 5)
    with pytest.raises(ValueError, match="no region that may be shown"):
        page("Where", [Layer("x", survey.demand([("z:1", 256)]))], FACTS)
