from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genome_server.genomes.live import LiveConsumer
from genome_server.genomes.rows import RowEncoder, SubjectState, built_schema
from tests.unit._genomes import (
    HOUR,
    LANDMARK_HOUR,
    NOW_MS,
    Happened,
    House,
    consent,
    fresh,
    interaction,
    link,
    outcome,
    reference,
    subject,
)

PEOPLE = st.integers(1, 4)
HOURS = st.integers(-400, 199)
IDS = st.sampled_from(["", "", "i-1", "i-2", "i-3"])

happened = st.one_of(
    st.builds(
        lambda who, hours, kind, product, amount, name: interaction(
            who, hours, kind, product=product, amount_micros=amount, interaction_id=name
        ),
        PEOPLE,
        HOURS,
        st.sampled_from(["view", "buy", "dismiss"]),
        st.sampled_from(["soap", "bread", "rock", "nope"]),
        st.sampled_from([0, 7_990_000]),
        IDS,
    ),
    st.builds(
        lambda who, hours, kind, offer, name: outcome(who, hours, kind, offer, event_id=name),
        PEOPLE,
        HOURS,
        st.sampled_from(["view", "dismiss"]),
        st.sampled_from(["taxi", "spa", "gone"]),
        IDS,
    ),
    st.builds(consent, PEOPLE, HOURS, st.integers(1, 3), st.booleans()),
    st.builds(link, PEOPLE, HOURS, PEOPLE, st.booleans()),
)


def named_states(house: House) -> dict[bytes, tuple[object, ...]]:
    vocabulary = house.store.vocabulary()
    found: dict[bytes, tuple[object, ...]] = {}
    for whose, data in house.states().items():
        state = SubjectState.from_bytes(data)
        values = {vocabulary.name(index): value for index, value in state.imprints.values.items()}
        found[whose] = (values, state.imprints.newest_hour, state.consents, state.links)
    return found


def consents(house: House) -> dict[bytes, int | None]:
    return {customer.subject: customer.consents for customer in house.store.customers()}


def people(house: House) -> House:
    house.customer(1, consents=2, age="26")
    house.customer(2, consents=0, age="30")
    return house


def check_split(events: list[Happened], prefix: int, cut: int, steps: int) -> None:
    """A build of everything against a build of the first part and increments in pieces."""
    with (
        tempfile.TemporaryDirectory() as folder,
        fresh(Path(folder) / "a") as whole,
        fresh(Path(folder) / "b") as split,
    ):
        people(whole).log(events)
        whole.build()
        people(split)
        if events[:prefix]:
            split.log(events[:prefix], cut=cut)
        split.build()
        if events[prefix:]:
            split.log(events[prefix:], cut=cut)
            consumer = LiveConsumer(split.tenant, now_ms=lambda: NOW_MS)
            while consumer.catch_up(steps):
                pass
            consumer.close()
        assert split.rows() == whole.rows()
        assert named_states(split) == named_states(whole)
        assert consents(split) == consents(whole)
        assert split.store.applied_marks("till-1") == whole.store.applied_marks("till-1")
        # What the increments made is what a build finds.
        assert split.build().changed == 0

        schema = built_schema(whole.store)
        assert schema is not None
        if not any(event.payload.HasField("link") for event in events):
            for who, age in ((1, "26"), (2, "30"), (3, ""), (4, "")):
                row = whole.rows().get(subject(who), (0, 0, {}))
                assert row[1:] == reference(schema, events, who, age)


splits = given(
    events=st.lists(happened, min_size=1, max_size=25),
    prefix=st.integers(0, 25),
    cut=st.integers(1, 7),
    steps=st.integers(1, 9),
)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@splits
def test_any_split_gives_what_one_build_gives(
    events: list[Happened], prefix: int, cut: int, steps: int
) -> None:
    check_split(events, prefix, cut, steps)


@pytest.mark.long
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@splits
def test_many_splits_give_what_one_build_gives(
    events: list[Happened], prefix: int, cut: int, steps: int
) -> None:
    check_split(events, prefix, cut, steps)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(happened, min_size=1, max_size=20), chance=st.randoms(use_true_random=False))
def test_any_order_and_any_mixture_of_builds_and_increments(
    events: list[Happened], chance: Random
) -> None:
    """One build of everything, against the same in another order, built and added to in turns."""
    # Of an id the first event counts. That it is the same one in any order, its events are equal.
    events = list({_id_of(event) or str(i): event for i, event in enumerate(events)}.values())
    others = [*events, *(event for event in events if _id_of(event) and chance.random() < 0.5)]
    chance.shuffle(others)
    with (
        tempfile.TemporaryDirectory() as folder,
        fresh(Path(folder) / "a") as whole,
        fresh(Path(folder) / "b") as mixed,
    ):
        people(whole).log(events)
        whole.build()
        people(mixed).build()
        while others:
            some = chance.randint(1, len(others))
            device = chance.choice(["till-1", "till-2"])
            mixed.log(others[:some], device, cut=chance.randint(1, 7))
            del others[:some]
            if chance.random() < 0.5:
                mixed.build()
                continue
            consumer = LiveConsumer(mixed.tenant, now_ms=lambda: NOW_MS)
            while consumer.catch_up(chance.randint(1, 9)):
                pass
            consumer.close()
        assert mixed.rows() == whole.rows()
        assert named_states(mixed) == named_states(whole)
        assert consents(mixed) == consents(whole)


def _id_of(event: Happened) -> str:
    """What makes an event count once."""
    said = event.payload
    if said.HasField("outcome") and said.outcome.event_id:
        return f"{said.outcome.kind} {said.outcome.event_id}"
    return said.interaction.interaction_id


def test_the_first_catching_up_builds(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        people(house).log([interaction(1, 5, "buy", product="soap")])
        consumer = LiveConsumer(house.tenant, now_ms=lambda: NOW_MS)
        assert consumer.catch_up() == 1
        assert consumer.catch_up() == 0
        consumer.close()
        assert set(house.rows()) == {subject(1), subject(2)}


def test_only_what_differs_is_stamped(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        people(house).log([interaction(n, 5, "buy", product="soap") for n in (1, 2)])
        house.build()
        stamps = {record.subject: record.changed for record in house.store.genomes()}
        house.log(
            [interaction(1, 6, "buy", product="bread"), interaction(2, 6, "buy", product="nope")]
        )
        consumer = LiveConsumer(house.tenant)
        assert consumer.catch_up() == 2
        consumer.close()
        after = {record.subject: record.changed for record in house.store.genomes()}
        assert after[subject(1)] > stamps[subject(1)]
        assert after[subject(2)] == stamps[subject(2)]


def test_a_consumer_that_dies_half_way_has_done_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh(tmp_path) as house:
        people(house).log([interaction(1, 5, "view", product="soap")])
        house.build()
        before = (house.rows(), house.states(), house.store.applied_marks("till-1"))
        house.log(
            [interaction(1, 6, "buy", product="soap", interaction_id="x"), consent(1, 6, 1, False)]
        )
        consumer = LiveConsumer(house.tenant)

        def dies(*args: object) -> None:
            raise OSError("power cut")

        monkeypatch.setattr(RowEncoder, "people", dies)
        with pytest.raises(OSError, match="power cut"):
            consumer.catch_up()
        assert (house.rows(), house.states(), house.store.applied_marks("till-1")) == before
        assert consents(house)[subject(1)] == 2
        monkeypatch.undo()
        assert consumer.catch_up() == 2
        consumer.close()
        assert house.rows()[subject(1)][0] == 0
        assert house.build().changed == 0


def test_a_used_up_landmark_is_moved_by_building(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        people(house).log([interaction(1, 5, "buy", product="soap")])
        first = house.build()
        late = 27 * 24
        import tests.unit._genomes as helper

        logged_at = (LANDMARK_HOUR + late) * HOUR
        original, helper.NOW_MS = helper.NOW_MS, logged_at
        try:
            house.log([interaction(1, late, "buy", product="soap")])
        finally:
            helper.NOW_MS = original
        consumer = LiveConsumer(house.tenant, now_ms=lambda: logged_at)
        assert consumer.catch_up() == 1
        assert consumer.catch_up() == 0
        consumer.close()
        schema = built_schema(house.store)
        assert schema is not None
        assert schema.epoch == first.epoch + 1
        assert schema.landmark_hour == LANDMARK_HOUR + late - 5 * 24


def test_a_new_dna_file_waits_for_the_build(tmp_path: Path) -> None:
    with fresh(tmp_path) as house:
        people(house).log([interaction(1, 5, "buy", product="soap")])
        house.build()
        before = built_schema(house.store)
        house.write_dna(house.tenant.dna_path.read_text().replace("brand: 24h", "brand: 90h"))
        house.log([interaction(1, 6, "buy", product="soap")])
        consumer = LiveConsumer(house.tenant)
        assert consumer.catch_up() == 1
        consumer.close()
        assert built_schema(house.store) == before
        assert {record.epoch for record in house.store.genomes()} == {1}
