"""`max_markers` of a namespace, from dna.yaml to rows: it limits what is read, not what is kept."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.dna.genome import Row
from edge_sdk.dna.imprint import encode_row
from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import DnaSchema, NamespaceRule
from genome_server.compare.reading import read_some
from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.quotas import quotas_of
from genome_server.genomes.rows import SubjectState, built_schema, row_of
from genome_server.store.rows import CONSENT_PERSONALISATION
from tests.unit._genomes import (
    DNA_YAML,
    LANDMARK_HOUR,
    NOW_MS,
    House,
    fresh,
    interaction,
    link,
    subject,
)

LIMITED = DNA_YAML.replace("brand: 24h", "brand: {half_life: 24h, max_markers: 1}")


def markers(house: House, who: int) -> set[str]:
    return set(house.rows()[subject(who)][2])


def test_a_row_has_no_more_of_a_namespace_and_the_state_has_all(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.customer(1, CONSENT_PERSONALISATION)
        events = [(1, "view", "soap"), (2, "buy", "bread")]
        house.log([interaction(1, hour, kind, product=name) for hour, kind, name in events])
        house.build()
        before, states = house.rows(), house.states()
        assert {"brand:acme", "brand:mill"} < markers(house, 1)
        first = built_schema(house.store)
        house.write_dna(LIMITED)
        house.build()
        schema = built_schema(house.store)
        assert first is not None
        assert schema is not None
        assert schema.epoch == first.epoch + 1, "rows of both are never mixed"
        assert markers(house, 1) == {"brand:mill", "category:food", "claim:organic"}
        assert house.states() == states
        vocabulary = house.store.vocabulary()
        genomes = read_some(house.store, [subject(1)], hour=LANDMARK_HOUR + 2)
        row = genomes.row_of(subject(1))
        assert row is not None
        shown = {vocabulary.name(int(marker)) for marker in genomes.row(row)[0]}
        assert shown == markers(house, 1), "whoever looks at it sees what a device sees"
        everything = read_some(house.store, [subject(1)], hour=LANDMARK_HOUR + 2, whole=True)
        told = {vocabulary.name(int(marker)) for marker in everything.row(row)[0]}
        assert told == set(before[subject(1)][2]) | shown, "or all that there is"
        assert "brand:acme" in told - shown
        house.write_dna(DNA_YAML)
        house.build()
        assert house.rows() == before


def test_increments_and_links_give_what_a_build_gives(tmp_path: Path) -> None:
    events = [
        interaction(1, 1, "view", product="soap"),
        interaction(2, 3, "buy", product="bread"),
        link(1, 4, 2),
        interaction(1, 5, "buy", product="soap"),
        link(1, 6, 2, linked=False),
        interaction(2, 7, "buy", offer="taxi"),
    ]
    with fresh(tmp_path / "live") as house, fresh(tmp_path / "built") as other:
        for one in (house, other):
            one.write_dna(LIMITED)
            one.customer(1, CONSENT_PERSONALISATION)
            one.customer(2, CONSENT_PERSONALISATION)
        house.log(events[:1])
        house.build()
        consumer = LiveConsumer(house.tenant, now_ms=lambda: NOW_MS)
        for event in events[1:]:
            house.log([event])
            consumer.catch_up()
            spaces = [name.split(":")[0] for name in markers(house, event.who)]
            assert spaces.count("brand") <= 1
        consumer.close()
        other.log(events)
        other.build()
        assert house.rows() == other.rows()
        assert house.build().changed == 0


def test_the_row_is_that_of_the_reference(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        house.write_dna(LIMITED)
        house.customer(1)
        house.log([interaction(1, 1, "buy", product=name) for name in ("soap", "bread")])
        house.build()
        schema, vocabulary = built_schema(house.store), house.store.vocabulary()
        assert schema is not None
        (record,) = house.store.genomes()
        state = SubjectState.from_bytes(record.state).imprints
        wanted: Row = encode_row(state, {}, schema, vocabulary, subject=record.subject)
        assert row_of(record) == wanted


def test_limits_are_by_the_whole_name_of_a_namespace() -> None:
    with_prefix = Vocabulary(bytes(16), ["brand:a", "not-brand:a", "brand-x:a"])
    schema = DnaSchema(1, 0, (NamespaceRule("brand", 1, max_markers=3),), (), 0)
    quotas = quotas_of(schema, with_prefix)
    assert quotas is not None
    assert quotas.group.tolist() == [1, 0, 0]
    assert quotas_of(DnaSchema(1, 0, (), (), 0), with_prefix) is None
