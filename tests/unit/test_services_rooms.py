"""Tenants that cannot be used, and logs that are gone: named, and nobody else's concern."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner

from genome_server.cli import cli
from genome_server.errors import StoreDamaged
from genome_server.genomes.rows import LOG_KEY
from genome_server.home import Tenant
from genome_server.services.serve import House
from tests.serving import RawDevice, add_code, make_home, make_tenant, serving, until


def test_a_damaged_tenant_does_not_keep_the_others_closed(tmp_path: Path) -> None:
    home = make_home(tmp_path / "home")
    other = make_tenant(home, "other", ["zoe"])
    code = add_code(other)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        device = RawDevice(channel)
        device.enrol(add_code(other))
    for path in other.dir.glob("tenant.sqlite*"):
        path.unlink() if path.suffix != ".sqlite" else path.write_bytes(b"no database" * 999)
    with serving(home) as house, grpc.insecure_channel(house.address) as channel:
        assert list(house.rooms) == ["default"]
        assert "tenant.sqlite is damaged" in house.rooms.closed["other"]
        RawDevice(channel).enrol(add_code(home.tenant("default")))
        device.channel = channel
        for call in (lambda: device.report(1, b"", 1), lambda: RawDevice(channel).enrol(code)):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "tenant other has to be repaired" in caught.value.details()
            # With a reason, SDKs would take it for the last word.
            assert not caught.value.trailing_metadata()
    for path in home.tenant("default").dir.glob("tenant.sqlite*"):
        path.write_bytes(b"no database" * 999)
    with pytest.raises(StoreDamaged):
        House(home, "127.0.0.1:0", None)


def test_a_log_that_is_gone_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = make_home(tmp_path / "home")
    tenant = home.tenant("default")
    with serving(home):
        until(lambda: _built_from_a_log(tenant), "genomes")
    for path in tenant.dir.glob("log.sqlite*"):
        path.unlink()
    refused = CliRunner().invoke(cli, ["build", "--home", str(home.root)])
    assert refused.exit_code == 1
    assert f"the log {tenant.log_path} is missing" in refused.output
    with caplog.at_level("ERROR"), serving(home):
        pass
    assert f"the log {tenant.log_path} is missing" in caplog.text


def _built_from_a_log(tenant: Tenant) -> bool:
    with closing(tenant.open_store()) as store:
        return bool(store.meta(LOG_KEY))
