from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_sdk.dna.imprint import GenomeState
from genome_server.cli.build import command
from genome_server.errors import Refused, SchemaFileError
from genome_server.genomes import aggregation, gather
from genome_server.genomes import build as build_module
from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import SubjectState, built_schema
from genome_server.log import LogReader
from genome_server.store.protocol import AudienceRow, DeleteReason
from tests.unit._genomes import (
    DNA_YAML,
    HOUR,
    LANDMARK_HOUR,
    NOW_MS,
    Happened,
    consent,
    fresh,
    interaction,
    link,
    outcome,
    reference,
    subject,
)

STORY = [
    interaction(1, -300, "buy", product="soap", amount_micros=4_990_000, interaction_id="i-1"),
    interaction(1, -300, "buy", product="soap", amount_micros=4_990_000, interaction_id="i-1"),
    interaction(2, 3, "dismiss", offer="taxi"),
    interaction(1, 20, "view", product="bread"),
    outcome(1, 20, "buy", "taxi", event_id="o-1", value_micros=30_000_000),
    outcome(1, 21, "buy", "taxi", event_id="o-1", value_micros=30_000_000),
    interaction(2, 190, "view", product="nope"),
    interaction(2, 190, "view", product="rock"),
]


def test_a_build_is_what_the_sdk_computes(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, consents=2, age="26")
        house.customer(3, age="40")
        house.log(STORY)
        report = house.build()
        schema = built_schema(house.store)
        assert schema is not None
        rows = house.rows()
        for who, age in ((1, "26"), (2, ""), (3, "40")):
            consents, as_of, codes = rows[subject(who)]
            assert (as_of, codes) == reference(schema, STORY, who, age)
            assert consents == (2 if who == 1 else 0)
        assert (report.events, report.imprints, report.repeated) == (8, 4, 2)
        assert report.skipped == {"no_dna": 1, "unknown_product": 1}
        assert report.genomes == report.changed == len(rows) == 3
        assert house.store.consumer_offset("genomes", schema.epoch) == 8
        assert house.store.applied_marks("till-1") == [(b"e" * 16, 1, 8)]
        assert not list(tmp_path.glob("build-*"))


def test_a_second_build_changes_nothing(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, consents=2, age="26")
        house.log(STORY)
        house.build()
        stamp, rows = house.store.newest_stamp(), list(house.store.genomes())
        assert house.build(NOW_MS + 5 * HOUR).changed == 0
        assert house.store.newest_stamp() == stamp
        assert list(house.store.genomes()) == rows


def test_without_a_log_there_are_profiles(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, age="26")
        report = house.build()
        assert (report.events, report.genomes) == (0, 1)
        assert house.rows()[subject(1)] == (0, 0, {"age:26": 49})


def test_many_votes_are_taken_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [interaction(n, n % 50, "buy", product="soap") for n in range(1, 200)]
    with fresh(tmp_path / "a") as whole, fresh(tmp_path / "b") as parts:
        whole.log(events)
        whole.build()
        monkeypatch.setattr(gather, "_EVENTS_AT_ONCE", 50)
        monkeypatch.setattr(aggregation, "INTERACTIONS_AT_ONCE", 60)
        parts.log(events)
        parts.build()
        assert parts.rows() == whole.rows()
        assert len(whole.rows()) == 199


def test_what_happens_during_a_build_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes on logging and applying while the build aggregates."""
    late = [
        interaction(1, 100, "buy", product="bread", interaction_id="late"),
        interaction(1, 110, "buy", product="soap", interaction_id="i-1"),
        interaction(4, 100, "view", product="soap", interaction_id="new"),
        link(4, 101, 2),
        consent(1, 102, 1, False),
        consent(4, 102, 2, True),
    ]
    with fresh(tmp_path / "a") as busy, fresh(tmp_path / "b") as calm:
        for house in (busy, calm):
            house.customer(1, consents=2, age="26")
            house.log(STORY)
        real, consumer = build_module._differing, LiveConsumer(busy.tenant, now_ms=lambda: NOW_MS)

        def meanwhile(*args: object) -> object:
            found = list(real(*args))  # type: ignore[arg-type]
            busy.log(late[:3])
            consumer.catch_up()
            busy.log(late[3:])
            return found

        busy.build()
        monkeypatch.setattr(build_module, "_differing", meanwhile)
        busy.build()
        assert consumer.catch_up() == 0
        consumer.close()
        monkeypatch.undo()
        calm.log(late)
        calm.build()
        assert busy.rows() == calm.rows()
        assert busy.rows()[subject(1)][0] == 0
        more = [interaction(4, 120, "view", product="soap", interaction_id="new")]
        before = busy.states()
        busy.log(more)
        again = LiveConsumer(busy.tenant, now_ms=lambda: NOW_MS)
        assert again.catch_up() == 1
        again.close()
        assert busy.states() == before


def test_links_make_one_person_and_can_be_undone(tmp_path: Path) -> None:
    stranger = [interaction(9, 5, "buy", product="bread")]
    known = [interaction(1, 6, "buy", product="soap")]
    with fresh(tmp_path / "a") as house, fresh(tmp_path / "b") as apart:
        house.customer(1, consents=2, age="26")
        house.log([*stranger, *known, link(1, 7, 9)])
        house.build()
        schema = built_schema(house.store)
        assert schema is not None
        one = [*known, *(interaction(1, 5, "buy", product="bread") for _ in stranger)]
        _, as_of, codes = house.rows()[subject(1)]
        assert (as_of, codes) == reference(schema, one, 1, "26")
        assert house.rows()[subject(9)] == (0, as_of, codes)

        house.log([link(9, 8, 1, linked=False)])
        house.build()
        apart.customer(1, consents=2, age="26")
        apart.log([*stranger, *known])
        apart.build()
        assert house.rows() == apart.rows()


def test_consent_decides_what_devices_hear(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, consents=2)
        house.customer(2, consents=0)
        house.store.put_audience(AudienceRow("all", {"all": True}))
        house.store.set_members("all", [subject(1), subject(2)])
        house.log([interaction(n, 1, "buy", product="soap") for n in (1, 2)])
        house.build()
        changes = house.store.genome_changes("all", 0, 10)
        assert [(c.subject, c.row is not None) for c in changes] == [(subject(1), True)]
        house.log([consent(1, 5, 1, False), consent(2, 5, 1, True)])
        house.build()
        after = house.store.genome_changes("all", changes[-1].changed, 10)
        assert {c.subject: (c.row is not None, c.reason) for c in after} == {
            subject(1): (False, DeleteReason.CONSENT_WITHDRAWN),
            subject(2): (True, None),
        }


def test_a_consent_stated_after_the_log_is_not_undone_by_a_build(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, consents=0)
        house.log([consent(1, 5, 1, True)])
        house.build()
        assert house.rows()[subject(1)][0] == 2
        house.store.set_consents(subject(1), 0)
        house.build()
        assert house.rows()[subject(1)][0] == 0


def test_an_older_word_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.log([consent(1, 50, 1, False), consent(1, 60, 2, True)])
        house.build()
        house.log([consent(1, 40, 1, True), consent(1, 70, 3, True)])
        house.build()
        assert house.rows()[subject(1)][0] == 1 << 2 | 1 << 3


def test_a_changed_schema_is_a_new_epoch(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.log(STORY)
        first = house.build()
        house.write_dna(DNA_YAML.replace("claim: 240h", "claim: 100h"))
        second = house.build()
        assert second.epoch == first.epoch + 1
        assert second.changed == second.genomes == first.genomes
        schema = built_schema(house.store)
        assert schema is not None
        assert schema.half_life("claim") == 100
        _, as_of, codes = house.rows()[subject(1)]
        assert (as_of, codes) == reference(schema, STORY, 1)


def test_the_landmark_moves_before_it_is_used_up(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.log(STORY)
        kept = house.build((LANDMARK_HOUR + 20 * 24) * HOUR)
        assert not kept.landmark_moved
        late = LANDMARK_HOUR + 20 * 24 + 1
        moved = house.build(late * HOUR)
        assert moved.landmark_moved
        assert (moved.epoch, moved.landmark_hour) == (kept.epoch + 1, late - 5 * 24)
        schema = built_schema(house.store)
        assert schema is not None
        for who in (1, 2):
            assert house.rows()[subject(who)][1:] == reference(schema, STORY, who)
        assert not house.build(late * HOUR).landmark_moved


def test_what_is_gone_from_the_log_is_gone_from_the_genome(tmp_path: Path) -> None:
    with fresh(tmp_path / "a") as house, fresh(tmp_path / "b") as other:
        house.log(STORY)
        house.build()
        other.store.put_genomes(house.store.genomes(), 1)
        other.build()
        assert [codes for _, _, codes in other.rows().values()] == [{}, {}]
        empty = SubjectState(GenomeState()).to_bytes()
        assert set(other.states().values()) == {empty}


def test_a_wrong_dna_file_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.log(STORY)
        house.build()
        rows = house.rows()
        house.write_dna("landmark: 2025-01-01\nkinds: {buy: much}\n")
        with pytest.raises(SchemaFileError, match=r"kinds\.buy"):
            house.build()
        assert house.rows() == rows


def test_progress_adds_up(tmp_path: Path) -> None:
    seen: list[int] = []
    with fresh(tmp_path) as house:
        house.log(STORY, cut=3)
        with LogReader(house.tenant.log_path) as log:
            build_module.build(
                house.store, log, house.tenant.dna_path, now_ms=NOW_MS, progress=seen.append
            )
    assert seen == [3, 3, 2]


def test_the_command(tmp_path: Path) -> None:
    home = tmp_path / "home"
    runner = CliRunner()
    with fresh(home / "tenants" / "default") as house:
        house.customer(1, consents=2, age="26")
        events: list[Happened] = [*STORY]
        house.log(events)
    done = runner.invoke(command, ["--home", str(home), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["customers"], said["events"], said["repeated"]) == (2, 8, 2)
    assert said["skipped"] == {"no_dna": 1, "unknown_product": 1}
    for_people = runner.invoke(command, ["--home", str(home)])
    assert for_people.exit_code == 0
    assert "2 genomes" in for_people.stdout
    assert "1 events name a product that is not known" in for_people.stdout


def test_a_build_that_another_overtook_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the genomes would be of an epoch that no release speaks of any more."""
    with fresh(tmp_path) as house:
        house.log([interaction(1, 5, "buy", product="soap")])
        before = house.build().epoch
        real = build_module._differing

        def meanwhile(*args: Any) -> Any:
            found = list(real(*args))
            monkeypatch.undo()
            house.write_dna(DNA_YAML.replace("claim: 240h", "claim: 100h"))
            assert house.build().epoch > before
            return found

        house.log([interaction(2, 9, "buy", product="bread")])
        monkeypatch.setattr(build_module, "_differing", meanwhile)
        with pytest.raises(Refused, match="another build finished meanwhile, of schema epoch"):
            house.build()
        after = built_schema(house.store)
        assert after is not None
        assert after.epoch > before
        assert {record.epoch for record in house.store.genomes()} == {after.epoch}
        assert (house.build().epoch, house.build().changed) == (after.epoch, 0)
