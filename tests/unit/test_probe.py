"""Asking a server whether it is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.errors import UnreachableError
from edge_sdk.store.device import DeviceStore
from edge_sdk.sync import probe
from genome_edge.v1 import sync_pb2


class Nobody:
    """A link to a server that ends every stream at once, and asks for what was said only later."""

    address = property(lambda self: self)
    text = "http://nobody"

    def open_sync(self, requests: Iterator[sync_pb2.SyncRequest]) -> Any:
        self.requests = requests
        return self

    def cancel(self) -> None:
        pass

    def __iter__(self) -> Iterator[sync_pb2.SyncResponse]:
        return iter(())


def test_what_is_asked_is_known_before_the_store_is_closed(tmp_path: Path) -> None:
    store, link = DeviceStore.open(tmp_path / "edge"), Nobody()
    epoch = store.epoch()
    with pytest.raises(UnreachableError, match="without a greeting"):
        probe._greeting(link, store, 5.0)  # type: ignore[arg-type]
    store.close()
    assert next(link.requests).hello.epoch == epoch
    assert list(link.requests) == []
