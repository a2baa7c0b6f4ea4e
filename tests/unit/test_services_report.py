"""Reports over real sockets: exactly once, whatever is repeated, forked or killed."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from operator import gt
from pathlib import Path

import grpc
import pytest

from genome_server.home import Home, Tenant
from genome_server.log import LogReader, verify_log
from tests.serving import FRAME, RawDevice, add_code, filler, info, make_home, serving, until

SERVER = Path(sys.executable).with_name("genome-server")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def channel(home: Home) -> Iterator[grpc.Channel]:
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        yield channel


@pytest.fixture
def device(home: Home, channel: grpc.Channel) -> RawDevice:
    device = RawDevice(channel)
    device.enrol(add_code(home.tenant("default")))
    return device


def logged(tenant: Tenant, device: str) -> list[tuple[int, bytes]]:
    with LogReader(tenant.log_path) as log:
        return [(f.sequence, f.body) for f in log.frames() if f.device == device]


def refusal(device: RawDevice, first: int, data: bytes, last: int) -> tuple[str, dict[str, str]]:
    with pytest.raises(grpc.RpcError) as caught:
        device.report(first, data, last)
    found = info(caught.value)
    return found.reason, dict(found.metadata)


def test_a_repeated_report_is_one(home: Home, device: RawDevice) -> None:
    data = filler(1, 10)
    first, again = device.report(1, data, 10), device.report(1, data, 10)
    assert first.received_through == again.received_through == first.safe_through == 10
    assert first.incarnation == again.incarnation
    assert [s for s, _ in logged(home.tenant("default"), device.id)] == list(range(1, 11))


def test_lanes_and_epochs_are_apart(home: Home, device: RawDevice) -> None:
    device.report(1, filler(1, 1, b"lane 0"), 1)
    device.report(1, filler(1, 1, b"lane 1"), 1, lane=1)
    device.epoch = bytes(16)
    device.report(1, filler(1, 1, b"epoch"), 1)
    bodies = [body for _, body in logged(home.tenant("default"), device.id)]
    assert bodies == [b"lane 0", b"lane 1", b"epoch"]


def test_a_forked_epoch_is_refused(home: Home, device: RawDevice) -> None:
    device.report(1, filler(1, 3), 3)
    assert refusal(device, 1, filler(1, 4, b"y"), 4) == ("FORKED_EPOCH", {"sequence": "1"})
    assert len(logged(home.tenant("default"), device.id)) == 3


def test_refusals_tell_what_to_do(device: RawDevice) -> None:
    device.report(1, filler(1, 2), 2)
    assert refusal(device, 5, filler(5, 1), 5) == ("SEQUENCE_GAP", {"expected": "3"})
    assert refusal(device, 3, filler(3, 2)[:-1], 4)[0] == "BAD_FRAME"
    too_many = filler(3, 5_001)
    assert refusal(device, 3, too_many, 5_003) == ("TOO_LARGE", {"limit": "5000"})
    heavy = filler(3, 5, bytes(850_000))
    assert refusal(device, 3, heavy, 7) == ("TOO_LARGE", {"limit": str(4 * 1024 * 1024)})
    device.epoch = b"short"
    assert refusal(device, 1, filler(1, 1), 1) == ("INVALID_ARGUMENT", {"field": "epoch"})


def test_the_largest_batch_fits(device: RawDevice) -> None:
    body = bytes(4 * 1024 * 1024 // 5_000 - 38)
    assert device.report(1, filler(1, 5_000, body), 5_000).received_through == 5_000


def event(sequence: int) -> bytes:
    body = str(sequence).encode()
    return FRAME.pack(len(body), sequence, bytes(16), 2, 1_000 + sequence) + body


class Load:
    """One device that reports until told to stop, the way a device must: until it is answered."""

    def __init__(self, address: str, device: RawDevice) -> None:
        self.device = device
        self.address = address
        self.acknowledged = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._random = random.Random(device.id)

    def _run(self) -> None:
        while not self.stop.is_set():
            with grpc.insecure_channel(self.address) as channel:
                self.device.channel = channel
                with contextlib.suppress(grpc.RpcError):
                    while not self.stop.is_set():
                        self._report()
            time.sleep(0.02)

    def _report(self) -> None:
        first = self.acknowledged + 1
        last = first + self._random.randrange(20)
        # After a kill the same events come again, byte for byte, cut differently.
        frames = b"".join(event(i) for i in range(first, last + 1))
        answer = self.device.report(first, frames, last)
        self.acknowledged = max(self.acknowledged, answer.received_through)


def all_moved(loads: list[Load], before: list[int]) -> bool:
    return all(map(gt, (load.acknowledged for load in loads), before))


class Server:
    """The server as a process that can be killed and started again on the same port."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        listen = f"127.0.0.1:{self.port}"
        process = self.process = subprocess.Popen(
            [SERVER, "serve", "--home", self.home.root, "--listen", listen, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        self.port = int(json.loads(process.stdout.readline())["port"])

    def kill(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()


def test_nothing_acknowledged_is_lost_or_doubled_when_the_server_is_killed(
    tmp_path: Path,
) -> None:
    home = make_home(tmp_path / "home")
    tenant = home.tenant("default")
    server = Server(home)
    server.start()
    address = f"127.0.0.1:{server.port}"
    loads = []
    try:
        for _ in range(4):
            with grpc.insecure_channel(address) as channel:
                device = RawDevice(channel)
                device.enrol(add_code(tenant))
            loads.append(Load(address, device))
        for load in loads:
            load.thread.start()
        for _ in range(3):
            before = [load.acknowledged for load in loads]
            until(partial(all_moved, loads, before))
            time.sleep(0.2)
            server.kill()
            server.start()
    finally:
        for load in loads:
            load.stop.set()
            load.thread.join(20)
        server.kill()
    assert verify_log(tenant.log_path).whole
    for load in loads:
        found = logged(tenant, load.device.id)
        assert load.acknowledged > 0
        assert max(Counter(found).values()) == 1
        sequences = [sequence for sequence, _ in found]
        assert sequences == list(range(1, len(found) + 1))
        assert len(found) >= load.acknowledged
        assert all(body == str(sequence).encode() for sequence, body in found)
