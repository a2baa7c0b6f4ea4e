"""Modules that are loaded when something is asked of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import pytest

from edge_sdk.lazy import later


def test_a_module_is_loaded_when_something_is_asked_of_it() -> None:
    script = (
        "import sys; from edge_sdk.lazy import later\n"
        "wave = later('wave')\n"
        "assert 'wave' not in sys.modules\n"
        "assert not hasattr(wave, '__path__') and 'wave' not in sys.modules\n"
        "opened = wave.open\n"
        "import wave as real\n"
        "assert opened is real.open and vars(wave)['open'] is real.open\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_what_it_does_not_have_is_an_error() -> None:
    with pytest.raises(AttributeError):
        _ = later("json").nothing
    with pytest.raises(ModuleNotFoundError):
        _ = later("no_such_module").anything


def test_a_fork_waits_until_what_is_being_loaded_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_to_load.py").write_text("import time; time.sleep(0.3); answer = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    slow = later("slow_to_load")
    thread = threading.Thread(target=lambda: slow.answer)
    thread.start()
    child = os.fork()
    if child == 0:
        os._exit(0 if slow.answer == 42 else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_two_threads_that_need_each_others_modules_both_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaf_of_it.py").write_text("answer = 42\n")
    (tmp_path / "stem_of_it.py").write_text(
        "import time\nfrom edge_sdk.lazy import later\n"
        "time.sleep(0.3)\nanswer = later('leaf_of_it').answer\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found: list[int] = []
    works = (
        lambda: found.append(import_module("stem_of_it").answer),
        lambda: found.append(later("stem_of_it").answer),
    )
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
        time.sleep(0.1)  # it is in the middle of it
    for thread in threads:
        thread.join(10)
    assert found == [42, 42]
