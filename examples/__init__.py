"""Things a person runs in the field: `python -m examples.demo` is the whole story in one go."""

import sys
from importlib.util import find_spec

if find_spec("genome_edge") is None:
    # Without the SDK even `import edge_sdk` finds something: the folder of that name.
    sys.exit(
        "Genome Edge is not installed for this Python. From the root of the repository run:\n"
        "  make setup\n"
        "and start the examples with .venv/bin/python -m examples.NAME"
    )
