"""Publishing to a share, promoting, rolling back, comparing; pausing offers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge_sdk.sync import roles
from edge_sdk.sync.trust import manifest_digest, verify_manifest
from genome_edge.v1 import release_pb2, sync_pb2
from genome_server.genomes.build import build
from genome_server.releases.trust import TrustDesk
from genome_server.store.protocol import DeviceRow, Store
from tests.serving import make_home, now_ms, offer
from tests.unit.server_shell import Shell


class Person(Shell):
    """Calls commands on a home that has something to publish."""

    def __init__(self, root: Path) -> None:
        make_home(root / "home")
        super().__init__(root, made=False)

    def said(self, *arguments: object, code: int = 0) -> str:
        """What it printed."""
        return self.call(*arguments, code=code).output


@pytest.fixture
def person(tmp_path: Path) -> Person:
    made = Person(tmp_path)
    with closing(made.tenant.open_store()) as store:
        build(store, None, made.tenant.dna_path)
    return made


@pytest.fixture
def store(person: Person) -> Iterator[Store]:
    with closing(person.tenant.open_store()) as opened:
        yield opened


class Device:
    """A device at the level of what it believes: the highest release, and what is in force."""

    def __init__(self, person: Person, store: Store, name: str) -> None:
        self.name = name
        self._store = store
        self._desk = TrustDesk(person.tenant, store)
        self.standing = roles.Standing(self._desk.root())
        self.highest, self._digest = 0, b""
        self.manifest = release_pb2.Manifest()
        store.put_device(DeviceRow(name, "", "all", b"k" * 32))

    def sync(self) -> int:
        """Take what the server has for it; the version that it then decides from."""
        self._desk.look()
        message = sync_pb2.Trust(
            roots=self._desk.roots_after(self.standing.root.version),
            timestamp=self._desk.timestamp(),
            stop_list=self._desk.stop_list(),
        )
        taken = roles.take(self.standing, message, now_ms())
        assert taken.refused == ()
        self.standing = taken.standing
        row = self._store.release_for(self.name)
        if row is not None and row.version >= self.highest:
            signed = release_pb2.SignedManifest.FromString(row.manifest)
            self.manifest = verify_manifest(
                signed, self.standing.root, now_ms(), self.highest, seen_digest=self._digest
            )
            self.highest, self._digest = row.version, manifest_digest(signed)
            assert self.standing.fresh_until(row.version, self._digest, 0) > now_ms()
        self._store.touch_devices(
            {
                self.name: (
                    now_ms(),
                    {
                        "release": self.highest,
                        "stop_list_version": self.standing.stop_list_version,
                        "features": ["offer-model-1", "quantiser-1"],
                    },
                )
            }
        )
        return self.highest


def test_a_canary_is_promoted_with_its_version_and_rolled_back_under_a_new_one(
    person: Person, store: Store
) -> None:
    assert person.json("publish", "--untrained")["version"] == 1
    fleet = [Device(person, store, f"dev-{number}") for number in range(40)]
    assert {device.sync() for device in fleet} == {1}
    first = list(fleet[0].manifest.parts)
    store.put_documents("offer", [offer("spa", "service:spa", value=3.0)])
    published = person.json("publish", "--untrained", "--share", "30%")
    assert (published["version"], published["share"], published["channel"]) == (2, 0.3, "stable")
    held = [device.sync() for device in fleet]
    assert set(held) == {1, 2}
    listed = person.json("releases", "list")["releases"]
    assert [(one["version"], one["state"], one["devices"]) for one in listed] == [
        (2, "in force", held.count(2)),
        (1, "in force", held.count(1)),
    ]
    assert person.json("publish", "--untrained")["notes"] == [
        "release 2 is out for 30% of the channel; for more: genome-server releases promote 2"
    ]
    # More of them get it, and those that had it keep it.
    person.call("releases", "promote", 2, "--share", "60%")
    assert sum(device.sync() == 2 for device in fleet) > held.count(2)
    assert "devices never go back" in person.said("releases", "promote", 2, "--share", 0.1, code=1)
    done = person.json("releases", "promote", 2)
    assert (done["version"], done["share"], done["renewed"]) == (2, 1.0, False)
    assert {device.sync() for device in fleet} == {2}
    # Back: the old content, above everything that devices have seen.
    back = person.json("releases", "rollback")
    assert (back["version"], back["content_of"], back["withdrawn"]) == (3, 1, [2])
    assert {device.sync() for device in fleet} == {3}
    assert list(fleet[0].manifest.parts) == first
    assert fleet[0].manifest.content_of == 1
    states = [one["state"] for one in person.json("releases", "list")["releases"]]
    assert states == ["in force", "withdrawn", "superseded"]
    assert "was withdrawn" in person.said("releases", "promote", 2, code=1)
    assert "is superseded" in person.said("releases", "promote", 1, code=1)
    # Forward again, by name.
    again = person.json("releases", "rollback", "--to", 2)
    assert (again["version"], again["content_of"]) == (4, 2)
    assert {device.sync() for device in fleet} == {4}
    assert person.call("releases", "rollback", "--to", 4, code=2)


def test_another_channel_gets_the_same_content_under_a_new_version(
    person: Person, store: Store
) -> None:
    person.call("publish", "--untrained", "--to", "beta")
    device = Device(person, store, "dev-1")
    assert device.sync() == 0
    store.set_device_channel("dev-1", "beta")
    person.call("devices", "channel", "dev-1", "stable")
    assert store.release_for("dev-1") is None
    done = person.json("releases", "promote", 1, "--to", "stable")
    assert (done["version"], done["channel"], done["content_of"]) == (2, "stable", 1)
    assert device.sync() == 2
    assert person.json("releases", "diff", 1, 2)["parts"] == {}
    assert "same content" in person.said("releases", "diff", 1, 2)
    assert "no release 9" in person.said("releases", "show", 9, code=1)
    assert "had no other content" in person.said("releases", "rollback", code=1)
    assert "no release to go back" in person.said("releases", "rollback", "--channel", "x", code=1)
    person.call("devices", "channel", "dev-1", "Not A Channel", code=2)


def test_a_diff_names_what_changed(person: Person, store: Store) -> None:
    person.call("publish", "--untrained")
    store.put_documents(
        "offer", [offer("spa", "service:spa", value=3.0), offer("new", "service:new")]
    )
    person.call("publish", "--untrained")
    found = person.json("releases", "diff", 1, 2)
    assert found["offers"] == {"added": ["new"], "removed": [], "changed": ["spa"]}
    value = {"field": "value", "before": 1.0, "after": 3.0}
    assert found["fields"] == {"offers": {"spa": [value]}, "placements": {}}
    assert {"offers", "vocabulary"} <= found["parts"].keys()
    assert found["bytes_to_send"] == sum(part["after"] for part in found["parts"].values())
    assert found["markers_added"] == 1
    said = person.said("releases", "diff", 1, 2)
    assert "offer new: added" in said
    assert "offer spa: changed\n  value: 1.0 → 3.0\n" in said
    shown = person.json("releases", "show", 2)
    assert len(shown["signed_by"]) == 1
    assert {part["name"] for part in shown["parts"]} >= {"offers", "model"}
    assert person.said("releases", "show", 2).startswith("Release 2 on channel stable, 100%")


def test_a_lost_part_stops_a_rollback(person: Person, store: Store) -> None:
    person.call("publish", "--untrained")
    store.put_documents("offer", [offer("spa", "service:spa", value=3.0)])
    done = person.json("publish", "--untrained")
    shown = person.json("releases", "show", 1)
    digest = next(part["sha256"] for part in shown["parts"] if part["name"] == "offers")
    (person.tenant.parts_dir / digest).unlink()
    assert "'offers' is gone" in person.said("releases", "rollback", code=1)
    assert [row.version for row in store.releases_in_force()] == [done["version"]]


@pytest.mark.parametrize("share", ["0", "0%", "101%", "1.1", "x", "-5%", "nan"])
def test_a_share_that_makes_no_sense_is_refused(person: Person, share: str) -> None:
    assert "5%" in person.said("publish", "--share", share, code=2)


def test_publishing_says_which_devices_lack_a_feature(person: Person, store: Store) -> None:
    Device(person, store, "dev-1").sync()
    store.put_documents("offer", [offer("spa", "service:spa", max_offline_age_hours=5)])
    done = person.json("publish", "--untrained", "--dry-run")
    assert done["lacking"] == {
        "devices": 1,
        "heard": 1,
        "features": {
            "offline-age-1": {
                "devices": 1,
                "share": 1.0,
                "release": False,
                "offers": 1,
                "ignored": [],
            },
        },
    }
    assert "their SDK lacks offline-age-1" in person.said("publish", "--untrained", "--dry-run")


def test_pausing_offers(person: Person, store: Store) -> None:
    person.call("publish", "--untrained")
    fleet = [Device(person, store, f"dev-{number}") for number in range(3)]
    assert person.said("offers", "stops") == "No offer was ever stopped.\n"
    assert "did you mean 'taxi'" in person.said("offers", "pause", "taxo", code=1)
    assert "--force" in person.said("offers", "pause", "taxo", code=1)
    stopped = person.json("offers", "pause", "taxi", "spa", "--reason", "price is wrong")
    assert [one["id"] for one in stopped["offers"]] == ["spa", "taxi"]
    assert stopped["offers"][0]["reason"] == "price is wrong"
    assert (stopped["devices"], stopped["informed"]) == (3, 0)
    again = person.json("offers", "pause", "spa")["offers"]  # why and since when stay
    assert again[0] == stopped["offers"][0]
    assert person.json("offers", "pause", "taxi", "--reason", "no cars")["offers"][1]["reason"] == (
        "no cars"
    )
    fleet[0].sync()
    assert fleet[0].standing.stopped == {"spa", "taxi"}
    for part in person.tenant.parts_dir.iterdir():
        part.unlink()  # a stop does not wait for what was lost
    person.call("offers", "pause", "spa")
    assert "is on 1 of 3 devices" in person.said("offers", "stops")
    assert person.json("offers", "show", "spa")["stopped"]
    assert "# stopped" in person.said("offers", "show", "spa")
    assert "is not stopped" in person.said("offers", "resume", "bus", code=1)
    again = person.json("offers", "resume", "spa")
    assert again["version"] > stopped["version"]
    for device in fleet:
        device.sync()
        assert device.standing.stopped == {"taxi"}
    assert person.json("offers", "stops")["informed"] == 3
    # Also what is only in a release, and with --force what nobody knows.
    store.put_documents("offer", [offer("bus", "service:bus")])
    assert person.json("offers", "pause", "gone", "--force")["offers"][0]["id"] == "gone"


def test_codes_name_a_channel(person: Person, store: Store) -> None:
    made = person.json("devices", "enrol", "--channel", "beta")
    assert made["channel"] == "beta"
    person.call("devices", "enrol", "--channel", "B E", code=2)
    for command in (["publish", "--to"], ["releases", "rollback", "--channel"]):
        assert "no name for a channel" in person.said(*command, "B E", code=2)
    Device(person, store, "dev-1")
    assert "publish --to beta" in person.said("devices", "channel", "dev-1", "beta")
    person.call("publish", "--untrained", "--to", "beta")
    assert "note" not in person.said("devices", "channel", "dev-1", "beta")
