"""A map of demand as one HTML file that loads nothing: cells in SVG, and a chooser.

Every layer (a product, a marker, the customers) has regions of its own, since each shows only
those in which enough people share a marker with it. A region's outline is drawn once; choosing a
layer shades the outlines that it has and hides the others, coarse ones below fine ones. What stands
in the file are ids of cells, outlines in pixels, shares and counts of at least the threshold.
Without scripts the first layer is seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from genome_server import pages
from genome_server.compare.telling import roughly
from genome_server.pages import escape
from genome_server.regions.cells import kilometres, middles, resolutions
from genome_server.regions.demand import Demand
from genome_server.regions.shapes import HEIGHT, WIDTH, Flat, flat_map
from genome_server.regions.stores import Shop
from genome_server.regions.told import Told, drawn_by, told

_STEPS: Final = ("#eef3f6", "#cfe1e6", "#a8cdd3", "#7cb5bd", "#4f98a6", "#2f7789", "#1d5468")
_MOST_NAMED: Final = 4
# Against the average, a step is this wide. Shares go by the square root, for few cells have most.
_INDEX_STEP: Final = 0.4


@dataclass(frozen=True)
class Layer:
    """One choice of the map: its title, and where it is wanted."""

    title: str
    demand: Demand


@dataclass(frozen=True)
class Facts:
    """What the page says about whom it speaks of."""

    people: int
    located: int
    resolution: int
    least: int
    day: str


def page(title: str, layers: Sequence[Layer], facts: Facts, shops: Sequence[Shop] = ()) -> str:
    """The whole HTML file.

    Raises ValueError where no layer has a region to show.
    """
    cells = sorted({int(cell) for layer in layers for cell in layer.demand.cell.tolist()})
    if not cells:
        raise ValueError("there is no region that may be shown")
    # Coarse ones first: what is the rest of a parent lies below what is shown inside it.
    levels = resolutions(np.array(cells, np.uint64)).tolist()
    ordered = [cell for _, cell in sorted(zip(levels, cells, strict=True))]
    place = {cell: i for i, cell in enumerate(ordered)}
    flat = flat_map([*ordered, *(shop.cell for shop in shops)])
    near = _nearest(ordered, shops)
    drawn = [_told(layer, place, near) for layer in layers]
    data = json.dumps(drawn, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    options = "".join(
        f'<option value="{i}">{escape(layer.title)}</option>' for i, layer in enumerate(layers)
    )
    return pages.page(
        title,
        [
            f'<p class="quiet">{_lead(facts)}</p>',
            f'<div class="tools"><label>Show <select id="what">{options}</select></label>',
            '<label>as <select id="how"><option value="0">share of all demand</option>',
            '<option value="1">per customer, against the average</option></select></label></div>',
            f'<div class="two"><div class="map">{_svg(flat, ordered, drawn[0], shops)}</div>',
            f'<div><div id="legend">{_legend(drawn[0])}</div>',
            "<table><thead><tr><th>region</th><th>share</th><th>against the average</th></tr>",
            f'</thead><tbody id="rows">{_rows(drawn[0])}</tbody></table>',
            f'<p id="note">{drawn[0]["note"]}</p></div></div>',
            f'<p class="quiet small">{_privacy(facts)}</p>',
        ],
        style=_STYLE,
        script=f"const LAYERS={data},STEPS={json.dumps(_STEPS)};{_SCRIPT}",
    )


def _told(layer: Layer, place: dict[int, int], near: dict[int, str]) -> dict[str, Any]:
    """A layer for the page: by region its place among the outlines, share, index, and title."""
    demand, said = layer.demand, told(layer.demand)
    most = float(said.share.max(initial=0.0)) or 1.0
    regions: list[list[Any]] = []
    for row, cell in enumerate(demand.cell.tolist()):
        share, index = float(said.share[row]), float(said.against[row])
        against = "" if math.isnan(index) else f"{index:.2f} ×"
        regions.append(
            [
                place[cell],
                _step(math.sqrt(share / most) * len(_STEPS)),
                _step(index / _INDEX_STEP) if against else 0,
                f"{cell:x}" + (" (rest)" if demand.partial[row] else ""),
                f"{100 * share:.1f} %",
                against,
                _title(demand, said, row) + near.get(cell, ""),
            ]
        )
    regions.sort(key=lambda region: (-float(region[4][:-2]), region[3]))
    note = (
        f"{100 * said.withheld:.1f} % of the demand is of {said.withheld_people:,} "
        "people in regions that are too small to be shown."
        if demand.withheld_people
        else "Nothing is withheld."
    )
    floors = [
        [f"{100 * most * (n / len(_STEPS)) ** 2:.1f} %" for n in range(len(_STEPS))],
        [f"{_INDEX_STEP * n:.1f} ×" for n in range(len(_STEPS))],
    ]
    return {"r": regions, "f": floors, "note": note}


def _step(value: float) -> int:
    return min(int(value), len(_STEPS) - 1)


def _nearest(cells: Sequence[int], shops: Sequence[Shop]) -> dict[int, str]:
    """Of each cell, how far it is to the nearest store."""
    if not shops:
        return {}
    here = middles(np.array(cells, np.uint64))
    there = middles(np.array([shop.cell for shop in shops], np.uint64))
    distance = kilometres(here, there)
    best = distance.argmin(axis=1)
    return {
        cell: f"\n{distance[row, at]:.1f} km from {shops[at].id}"
        for row, (cell, at) in enumerate(zip(cells, best.tolist(), strict=True))
    }


def _title(demand: Demand, said: Told, row: int) -> str:
    rest = ", less what is shown apart in it" if demand.partial[row] else ""
    share, index = float(said.share[row]), float(said.against[row])
    against = "" if math.isnan(index) else f", {index:.2f} times the average per customer"
    lines = [
        f"cell {int(demand.cell[row]):x}{rest}",
        f"{100 * share:.1f} % of the demand{against}",
        f"about {int(said.people[row]):,} people share a marker",
    ]
    if len(demand.weights) > 1:
        named = drawn_by(zip(demand.weights, said.parts[row].tolist(), strict=True), share)
        if named:
            spoken = (f"{name} {100 * part:.0f} %" for name, part in named[:_MOST_NAMED])
            lines.append("drawn by " + ", ".join(spoken))
    return "\n".join(lines)


def _svg(flat: Flat, cells: Sequence[int], first: dict[str, Any], shops: Sequence[Shop]) -> str:
    shown = {region[0]: region for region in first["r"]}
    parts = []
    for i, cell in enumerate(cells):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in flat.ring(cell))
        region = shown.get(i)
        look = f'fill="{_STEPS[region[1]]}"' if region else 'class="off"'
        said = escape(region[6]) if region else ""
        parts.append(f'<polygon points="{points}" {look}><title>{said}</title></polygon>')
    import h3.api.basic_int as h3

    for shop in shops:
        x, y = flat.spot(h3.cell_to_latlng(shop.cell))
        name = escape(shop.id)
        parts.append(
            f'<g class="shop"><circle cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text x="{x + 8:.1f}" y="{y + 4:.1f}">{name}</text><title>{name}</title></g>'
        )
    bar, length = flat.scale_bar()
    floor = HEIGHT - 14
    parts.append(
        f'<path d="M16 {floor - 5} V{floor} H{16 + bar:.0f} V{floor - 5}"/>'
        f'<text x="{16 + bar / 2:.0f}" y="{floor - 8}" class="scale">{length}</text>'
    )
    return (
        f'<svg id="map" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-label="Demand by region">{"".join(parts)}</svg>'
    )


def _legend(told: dict[str, Any]) -> str:
    """Each colour with the least that it stands for."""
    steps = zip(_STEPS, told["f"][0], strict=True)
    return "".join(f'<i style="background:{c}"></i><span>{floor}</span>' for c, floor in steps)


def _rows(told: dict[str, Any]) -> str:
    return "".join(f"<tr><td>{r[3]}</td><td>{r[4]}</td><td>{r[5]}</td></tr>" for r in told["r"])


def _lead(facts: Facts) -> str:
    return (
        f"What the genomes of <b>{roughly(facts.located):,}</b> customers want, by where they are, "
        f"on {escape(facts.day)}. Cells of H3 resolution {facts.resolution}, or larger ones "
        "where no more is known or too few people are there."
    )


def _privacy(facts: Facts) -> str:
    return (
        f"Only customers who agreed to learning and to location are counted: "
        f"{roughly(facts.located):,} of about {roughly(facts.people):,} with a genome that may be "
        "counted. No region, no rest of a region and nothing that is withheld stands for fewer "
        f"than {facts.least} people; a marker is named "
        "in a region only where so many people there have it. This file holds no customer, no "
        "coordinates of anybody, and loads nothing."
    )


_STYLE = """
/* The shades are those of light, so it is light everywhere. */
:root{color-scheme:light;--ink:#1d2733;--soft:#5d6b7a;--line:#d9dfe5;--paper:#f6f7f8;--card:#fff;
--wide:1240px}
body{font-size:15px}
.quiet,#note{color:var(--soft);max-width:82ch}
.small,#note{font-size:13.5px}
.quiet b{color:var(--ink)}
.tools{display:flex;flex-wrap:wrap;gap:16px;margin:0 0 16px}
select{font:inherit;padding:4px 8px;border:1px solid var(--line);border-radius:6px;
background:var(--card);max-width:46ch}
.two{display:grid;grid-template-columns:minmax(0,7fr) minmax(280px,4fr);gap:24px;
align-items:start}
.map{background:var(--card);border:1px solid var(--line);border-radius:10px}
polygon{stroke:#fff;stroke-width:1}
polygon:hover{stroke:var(--ink);stroke-width:2}
.off{display:none}
.shop circle{fill:#b5532a;stroke:#fff;stroke-width:1.5}
.shop text,.scale{fill:var(--ink);font:11px system-ui,sans-serif;stroke:#fff;stroke-width:3px;
stroke-linejoin:round;paint-order:stroke}
.scale{text-anchor:middle}
path{fill:none;stroke:#5d6b7a}
#legend{display:grid;grid-template-rows:12px auto;grid-auto-flow:column;grid-auto-columns:1fr;
margin:0 0 12px;font-size:11.5px;color:var(--soft)}
tbody tr:hover{background:var(--paper)}
polygon.hot{stroke:#b5532a;stroke-width:3}
table{font-size:13.5px;display:block;max-height:480px;
overflow:auto}
th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--line);width:100%}
td+td,th+th{white-space:nowrap;text-align:right}
th{color:var(--soft);font-weight:500}
@media(max-width:860px){.two{grid-template-columns:1fr}}
"""

_SCRIPT = """
const what=document.getElementById('what'),how=document.getElementById('how');
const shapes=document.querySelectorAll('#map polygon');
function draw(){
const layer=LAYERS[what.value],by=+how.value;
for(const s of shapes){s.setAttribute('class','off')}
const rows=document.getElementById('rows');rows.textContent='';
for(const r of layer.r){
const s=shapes[r[0]];s.removeAttribute('class');s.setAttribute('fill',STEPS[r[1+by]]);
s.querySelector('title').textContent=r[6];
const row=rows.insertRow();for(const t of [r[3],r[4],r[5]])row.insertCell().textContent=t;
row.title=r[6];row.onmouseenter=()=>s.classList.add('hot');
row.onmouseleave=()=>s.classList.remove('hot')}
document.querySelectorAll('#legend span').forEach((at,n)=>{at.textContent=layer.f[by][n]});
document.getElementById('note').textContent=layer.note}
what.addEventListener('change',draw);how.addEventListener('change',draw);draw();
"""
