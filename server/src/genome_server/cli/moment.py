"""Moments on the command line: a date, or a time."""

from __future__ import annotations

from datetime import UTC, datetime

import click


class Moment(click.ParamType[int]):
    """A date or time, as Unix milliseconds; UTC unless it says otherwise."""

    name = "time"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read a date such as 2026-06-01, or a time."""
        if isinstance(value, int):
            return value
        try:
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no date or time such as 2026-06-01T08:00", param, ctx)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return int(when.timestamp() * 1000)
