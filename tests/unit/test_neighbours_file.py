"""The file that keeps who is near whom: damaged, and when somebody is erased."""

from __future__ import annotations

from pathlib import Path

import pytest

from genome_server.compare import neighbours_file
from genome_server.compare.neighbours_file import FILE, open_index, open_rarity
from genome_server.files import write_whole
from tests.unit._genomes import fresh, subject
from tests.unit.test_consents import ALL, bought


def test_who_is_erased_is_in_no_file_beside_the_store(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        for who in (1, 2):
            house.customer(who, ALL)
            house.log([bought(who, who)])
        house.build()
        open_index(house.tenant, house.store)
        assert (house.tenant.dir / FILE).exists()
        draft = house.tenant.dir / f".{FILE}.killed"
        draft.write_bytes(b"")
        house.store.erase_subject(subject(1))
        assert not (house.tenant.dir / FILE).exists()
        assert not draft.exists()


def test_who_is_erased_while_the_index_is_made_is_not_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(path: Path, content: bytes) -> None:
        house.store.erase_subject(subject(1))
        write_whole(path, content)

    with fresh(tmp_path) as house:
        for who in (1, 2):
            house.customer(who, ALL)
            house.log([bought(who, who)])
        house.build()
        monkeypatch.setattr(neighbours_file, "write_whole", late)
        open_index(house.tenant, house.store)
        assert not (house.tenant.dir / FILE).exists()


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, ALL)
        house.log([bought(1, 1)])
        house.build()
        open_index(house.tenant, house.store)
        path = house.tenant.dir / FILE
        whole = path.read_bytes()
        directory = whole.index(b"PK\x01\x02")
        damages = [whole.replace(b"carried.npy", b"carrier.npy"), whole[:-40], b"", b"\x93NUMPY"]
        damages += [  # one entry: versions, flags, sizes
            whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
            for at in range(directory + 4, directory + 46)
        ]
        for damaged in damages:
            path.write_bytes(damaged)
            assert open_index(house.tenant, house.store).row_of(subject(1)) == 0
            path.write_bytes(damaged)
            assert open_rarity(house.tenant, house.store).people == 1
