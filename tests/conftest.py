"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# Tests prove what is right and time nothing: on a busy machine a pause is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
