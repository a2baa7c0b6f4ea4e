"""Generate the Python stubs of proto/ into the SDK, or check that they are current.

python tools/generate_stubs.py            # write
python tools/generate_stubs.py --check    # exit 1 where the committed stubs differ
"""

from __future__ import annotations

import argparse
import filecmp
import re
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
OUT = ROOT / "edge_sdk" / "src"
PACKAGE = Path("genome_edge") / "v1"
# It only keeps its place in the contract: nothing speaks it yet.
RESERVED = "lease.proto"
# Of gRPC's ways to call, the experimental one: nobody uses it, and every device would carry it.
EXPERIMENTAL = re.compile(
    r"\n\n # This class is part of an EXPERIMENTAL API\.\nclass .*?(?=\n\n\nclass \w+Stub\b|\Z)",
    re.DOTALL,
)

# Constants of every field, which nobody here asks for: a fifth of the type stubs.
FIELD_NUMBER = re.compile(r"^ +\w+_FIELD_NUMBER: _ClassVar\[int\]\n", re.MULTILINE)

# Where messages begin in their file and which options they have: only an implementation in Python
# is told, and reads the file itself. A sixth of the stubs.
IN_PYTHON = re.compile(r"^if not _descriptor\._USE_C_DESCRIPTORS:\n(  .*\n)+", re.MULTILINE)


def generate(target: Path) -> None:
    """Write every stub of the contract below `target`."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    found = [p for p in (PROTO / PACKAGE).glob("*.proto") if p.name != RESERVED]
    files = sorted(str(p.relative_to(PROTO)) for p in found)
    status = protoc.main(
        [
            "protoc",
            f"-I{PROTO}",
            f"-I{well_known}",
            f"--python_out={target}",
            f"--pyi_out={target}",
            f"--grpc_python_out={target}",
            *files,
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}")
    for stub in (target / PACKAGE).glob("*_pb2_grpc.py"):
        text = EXPERIMENTAL.sub("", stub.read_text())
        if "class " in text:
            stub.write_text(text.rstrip() + "\n")
        else:  # a file without a service
            stub.unlink()
    for stub in (target / PACKAGE).glob("*_pb2.pyi"):
        stub.write_text(FIELD_NUMBER.sub("", stub.read_text()))
    for stub in (target / PACKAGE).glob("*_pb2.py"):
        stub.write_text(IN_PYTHON.sub("", stub.read_text()))


def main() -> int:
    """Write the stubs, or compare them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    args = parser.parse_args()
    if not args.check:
        for old in (OUT / PACKAGE).glob("*_pb2*"):
            old.unlink()
        generate(OUT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = {p.name for p in (fresh / PACKAGE).iterdir()} | {
            p.name for p in (OUT / PACKAGE).glob("*_pb2*")
        }
        _, differ, missing = filecmp.cmpfiles(
            fresh / PACKAGE, OUT / PACKAGE, sorted(names), shallow=False
        )
    if differ or missing:
        print("stubs are out of date; run `make proto`:", *differ, *missing, sep="\n  ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
