"""A list that is decided by a process that is killed again and again comes out as if it was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genome_server.home import Tenant
from genome_server.log import verify_log
from tests.unit.lists import AT_MS, a_tenant, copied, decisions, rows

CUSTOMERS = tuple(f"c{n}" for n in range(400))
KILLS = 6
# Small parts, so that there are many moments between two of them.
_DECIDE = """
import sys
from genome_server.bulk import lists
lists.PART_ROWS = 20
from genome_server.cli import main
main(sys.argv[1:])
"""


def command(tenant: Tenant, file: Path, out: Path) -> list[str]:
    at = datetime.fromtimestamp(AT_MS / 1000, UTC).isoformat()
    return [
        *(sys.executable, "-c", _DECIDE, "decide", str(file), "--out", str(out), "--resume"),
        *("--home", str(tenant.dir.parent.parent), "--placement", "feed", "--slots", "2"),
        *("--budget", "mail=300", "--at", at, "--moment", "channel=email", "--json"),
    ]


def finished(tenant: Tenant, file: Path, out: Path) -> dict[str, Any]:
    done = subprocess.run(
        command(tenant, file, out), check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stdout + done.stderr  # two rows are set aside
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def killed(tenant: Tenant, file: Path, out: Path, chance: random.Random) -> bool:
    """Whether a run was killed after it had begun to keep parts."""
    folder = out.with_name(f"{out.name}.run")
    before = len(list(folder.glob("0*.parquet"))) if folder.is_dir() else 0
    process = subprocess.Popen(
        command(tenant, file, out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    more = chance.randint(1, 3)
    while process.poll() is None:
        there = len(list(folder.glob("0*.parquet"))) if folder.is_dir() else 0
        if there >= before + more:
            time.sleep(chance.random() * 0.02)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0005)
    return False


def test_killed_again_and_again_a_list_comes_out_the_same(tmp_path: Path) -> None:
    tenant = a_tenant(tmp_path / "home", CUSTOMERS)
    file = tmp_path / "mails.csv"
    lines = [f"m{n},c{n * 7 % 400},{'soap|bread' if n % 9 else ''}\n" for n in range(600)]
    lines[100], lines[333] = "m100,who,\n", "m333,c1,a|b,c\n"
    file.write_text("id,customer,basket\n" + "".join(lines))
    other = copied(tenant, tmp_path / "other")
    through = finished(other, file, tmp_path / "through.parquet")
    assert (through["decided"], through["rejected"], through["resumed"]) == (598, 2, 0)

    out, chance = tmp_path / "out.parquet", random.Random(20)
    kills = sum(killed(tenant, file, out, chance) for _ in range(KILLS))
    assert kills == KILLS
    told = finished(tenant, file, out)
    assert told["resumed"] >= KILLS * 20
    assert out.read_bytes() == (tmp_path / "through.parquet").read_bytes()
    assert decisions(tenant) == decisions(other)
    assert not verify_log(tenant.log_path).faults
    assert told["budgets"] == through["budgets"]
    assert [Path(told["rejects_file"]).read_text()] == [Path(through["rejects_file"]).read_text()]
    shown = Counter(row["offer"] for row in rows(out))
    assert (shown["few"], shown["once"]) == (3, 297)
