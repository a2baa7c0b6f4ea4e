"""`python -m edge_sdk.cli`: the command line where its script is not on the path."""

from __future__ import annotations

import sys

from edge_sdk.cli import main

sys.exit(main())
