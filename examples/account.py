"""How the demo speaks: numbered steps and short sentences, on a terminal and in a pipe alike."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from edge_sdk import Decision

_WIDTH = 88
_INDENT = "   "


class Account:
    """Prints an account. Bold on a terminal only; never wider than 88 columns."""

    def __init__(self) -> None:
        self._console = Console(width=_WIDTH, highlight=False, soft_wrap=True)
        self._step = 0

    def title(self, text: str) -> None:
        """What the account is about."""
        self._write(text, style="bold", indent="")

    def listing(self, heading: str, points: Iterable[str]) -> None:
        """A heading and some points."""
        self._console.print()
        self._console.print(Text(heading, style="bold"))
        for point in points:
            self._write(point, indent=" - ", hang="   ")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A numbered step; how long it took is said when it is done."""
        self._step += 1
        self._console.print()
        self._console.print(Text(f"{self._step}. {text}.", style="bold"))
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        if seconds >= 1:
            self._console.print(Text(f"{_INDENT}({seconds:.0f} s)", style="dim"))

    def say(self, text: str) -> None:
        """A sentence."""
        self._write(text, indent=_INDENT)

    def table(self, tally: Mapping[str, Mapping[str, int]]) -> None:
        """Rows in and what became of them."""
        head = f"{_INDENT}{'':<14}{'rows in':>10}  = {'accepted':>10}  + {'rejected':>8}"
        self._console.print(Text(head, style="dim"))
        for kind, row in tally.items():
            numbers = f"{row['rows']:>10,}  = {row['accepted']:>10,}  + {row['rejected']:>8,}"
            self._console.print(Text(f"{_INDENT}{kind:<14}{numbers}"))

    def screen(self, decision: Decision) -> None:
        """What the guest sees."""
        offer, slot = decision.offer, decision.slots[0]
        assert offer is not None
        lines = (offer.content.get("title", offer.id), offer.content.get("body", ""))
        inner = max(map(len, lines)) + 2
        frame = [
            f"+{'-' * inner}+",
            *(f"| {line:<{inner - 2}} |" for line in lines if line),
            f"+{'-' * inner}+",
        ]
        frame[1] += f"   chance of being taken: {100 * slot.score:.0f} %"
        for number, line in enumerate(frame):
            bold = "bold" if number == 1 else ""
            self._console.print(Text(_INDENT + line, style=bold))

    def end(self, text: str) -> None:
        """The last word."""
        self._console.print()
        self._console.print(Text(text, style="bold green"))

    def failed(self, text: str) -> None:
        """What did not hold."""
        self._console.print()
        self._console.print(Text("This step did not hold:", style="bold red"))
        for line in text.splitlines():
            self._console.print(Text(f"{_INDENT}{line}"))

    def _write(self, text: str, *, style: str = "", indent: str, hang: str | None = None) -> None:
        lines = textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=indent,
            subsequent_indent=indent if hang is None else hang,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for line in lines:
            self._console.print(Text(line, style=style))
