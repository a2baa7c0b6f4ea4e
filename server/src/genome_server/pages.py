"""Pages for people: one HTML file each, which loads nothing and needs no network.

    text = page("What comes next", [section("Over which channel", [Bar("app", 0.7, "70%")])])
    write_private(path, text)

Every page has the same head, which forbids a browser to load or run what is not in the file, and
the same look, in light and in dark. What a page alone needs it adds as `style` and `script`. All
text that a caller did not write goes through `escape`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Bar", "escape", "page", "section", "write_private"]

_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1d2430;--soft:#667085;--paper:#fff;--line:#e4e7ec;
--bar:#2563a8;--wide:60rem;--column:20rem}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#98a2b3;--paper:#12161d;--line:#2a3140;
--bar:#6ea8e5}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0}
main{max-width:var(--wide);margin:0 auto;padding:2rem 1.25rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}
p{margin:.3rem 0 1rem;max-width:44rem}.lead{font-size:1.15rem}.soft{color:var(--soft)}
svg{display:block;width:100%;height:auto}
table{border-collapse:collapse;width:100%;table-layout:fixed}
td{padding:.18rem .5rem .18rem 0;vertical-align:middle;overflow-wrap:anywhere}
td.name{width:42%}td.said{width:30%;text-align:right;font-size:.85rem;color:var(--soft);
font-variant-numeric:tabular-nums}
.bar{height:.75rem;border-radius:.2rem;background:var(--bar);min-width:1px}
.groups{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(var(--column),100%),1fr));
gap:0 2.5rem}
"""


class Bar(NamedTuple):
    """A row of a section: a name, a bar of `share` (0 to 1) of the width, and words beside it.

    `colour`, as CSS writes it, where it is not that of all bars.
    """

    name: str
    share: float
    said: str
    colour: str = ""


def page(title: str, parts: Iterable[str], *, style: str = "", script: str = "") -> str:
    """The whole file, UTF-8: a heading and `parts`, which are HTML.

    `style` comes after the common one and so overrides it; `script` runs when all is there.
    """
    allowed = "; script-src 'unsafe-inline'" if script else ""
    runs = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'unsafe-inline'{allowed}\">"
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head><body><main>"
        f"<h1>{escape(title)}</h1>{''.join(parts)}</main>{runs}</body></html>\n"
    )


def section(heading: str, bars: Iterable[Bar]) -> str:
    """A table of bars under a heading."""
    rows = "".join(
        f'<tr><td class="name">{escape(bar.name)}</td><td><div class="bar" '
        f'style="width:{100 * bar.share:.1f}%{_coloured(bar)}"></div></td>'
        f'<td class="said">{escape(bar.said)}</td></tr>'
        for bar in bars
    )
    return f"<section><h2>{escape(heading)}</h2><table>{rows}</table></section>"


def _coloured(bar: Bar) -> str:
    return f";background:{bar.colour}" if bar.colour else ""


def write_private(path: Path, text: str) -> None:
    """Write a page about a person: nobody else's on this machine to read, at no moment.

    Raises OSError.
    """
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text, encoding="utf-8")
