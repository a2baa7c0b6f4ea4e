"""Shares on the command line: 5%, 0.05, 100%."""

from __future__ import annotations

import click


class Share(click.ParamType[float]):
    """A share above 0, from `least` to `most`, as a percentage or a fraction."""

    name = "share"

    def __init__(self, least: float = 0.0, most: float = 1.0) -> None:
        self._least, self._most = least, most

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it; 1 is all."""
        if isinstance(value, float):
            return value
        text = value.strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if share <= 0 or not self._least <= share <= self._most:
            above = f"from {percent(self._least)} " if self._least else ""
            limit = f"{above}up to {self._most * 100:g}%"
            self.fail(f"{value!r} is no share; say 5% or 0.05, {limit}", param, ctx)
        return share


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{share * 100:.4g}%"
