"""Names of channels on the command line."""

from __future__ import annotations

import re

import click


class Channel(click.ParamType[str]):
    """A name for a channel: lower-case letters, digits and hyphens, at most 63."""

    name = "channel"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read it."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", value):
            self.fail(
                f"{value!r} is no name for a channel: lower-case letters, digits and hyphens",
                param,
                ctx,
            )
        return value
