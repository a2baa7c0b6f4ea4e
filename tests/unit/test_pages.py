"""The pages that commands write: whole, of themselves alone, and nobody else's to read."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from genome_server.pages import Bar, page, section, write_private


def test_a_page_loads_nothing_and_trusts_no_text() -> None:
    bars = [Bar('<a href="x">', 0.256, "1 < 2", "#123456"), Bar("plain", 0, "none")]
    text = page("<b>title", [section("a & b", bars)])
    assert text.count("&lt;b&gt;title") == 2
    assert "<b>" not in text
    assert "a &amp; b" in text
    assert "&lt;a href=&quot;x&quot;&gt;" in text
    assert "1 &lt; 2" in text
    assert 'style="width:25.6%;background:#123456"' in text
    assert 'style="width:0.0%"' in text
    assert not re.search(r"https?:|//|@import|url\(|src=", text)


def test_only_a_page_with_a_script_may_run_one() -> None:
    plain, alive = page("t", []), page("t", [], script="let x=1", style="p{margin:0}")
    assert "default-src 'none'; style-src 'unsafe-inline'\">" in plain
    assert "script" not in plain
    assert "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">" in alive
    assert "<script>let x=1</script></body>" in alive
    assert alive.index("p{margin:0}") > alive.index(".groups{"), "what is its own overrides"


@pytest.mark.parametrize("there", [False, True])
def test_a_page_about_a_person_is_never_open_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, there: bool
) -> None:
    path = tmp_path / "page.html"
    if there:
        path.write_text("an older one, which others may read")
        path.chmod(0o644)
    seen: list[int] = []
    write = Path.write_text

    def watched(self: Path, text: str, encoding: str) -> int:
        seen.append(stat.S_IMODE(self.stat().st_mode))
        return write(self, text, encoding=encoding)

    monkeypatch.setattr(Path, "write_text", watched)
    before = os.umask(0)
    try:
        write_private(path, "ü")
    finally:
        os.umask(before)
    assert seen == [0o600]
    assert path.read_text(encoding="utf-8") == "ü"
