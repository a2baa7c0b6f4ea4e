"""Shares of devices on the command line: 5%, 0.05, 100%."""

from __future__ import annotations

import click


class Share(click.ParamType[float]):
    """A share above 0 and up to 1, as a percentage or a fraction."""

    name = "share"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it; 1 is everybody."""
        if isinstance(value, float):
            return value
        text = value.strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            self.fail(f"{value!r} is no share of devices; say 5% or 0.05, up to 100%", param, ctx)
        return share


def percent(share: float) -> str:
    """A share as people read it."""
    return f"{share * 100:.4g}%"
