from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge_sdk.dna.markers import Vocabulary
from edge_sdk.dna.schema import ONE_Q24, DnaSchema, KindRule, NamespaceRule, default_schema
from edge_sdk.errors import UsageError


def small(**changes: object) -> DnaSchema:
    base = DnaSchema(
        epoch=3,
        landmark_hour=1000,
        namespaces=(
            NamespaceRule("brand", 48),
            NamespaceRule("not-claim", 7),
            NamespaceRule("claim", 24, max_markers=2),
            NamespaceRule("age", 0, ONE_Q24),
        ),
        kinds=(
            KindRule("buy", ONE_Q24, dwell_weight_q24=ONE_Q24 // 8, beside=("tender",)),
            KindRule("dismiss", ONE_Q24, 0, "not-", -1),
        ),
        default_half_life_hours=100,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def test_round_trip() -> None:
    for schema in (small(), default_schema(480_000, epoch=2)):
        assert DnaSchema.from_proto(schema.to_proto()) == schema
    assert small().quotas == {"claim": 2}


def test_half_life_sees_through_the_prefix_of_a_kind() -> None:
    schema = small()
    assert schema.half_life("brand") == 48
    assert schema.half_life("not-brand") == 48
    assert schema.half_life("not-claim") == 7  # listed itself
    assert schema.half_life("nothing") == 100
    assert schema.half_life("not-else") == 100
    assert schema.half_life("not-") == 100
    assert schema.half_life("not-age") == 0
    assert schema.shortest_half_life_hours == 7
    assert schema.profile_weight("age") == ONE_Q24
    assert schema.profile_weight("brand") == schema.profile_weight("else") == 0


def test_half_lives_of_a_vocabulary() -> None:
    schema = small()
    vocabulary = Vocabulary(bytes(16), ["brand:a", "age:26", "not-brand:a", "x:y"])
    hours = schema.half_lives(vocabulary)
    assert np.array_equal(hours, [48, 0, 48, 100])
    assert schema.half_lives(vocabulary) is hours
    grown = vocabulary.extend(["claim:organic"])
    assert schema.half_lives(grown)[-1] == 24


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'dismiss'"):
        small().kind("dismis")
    with pytest.raises(UsageError, match="known: buy, dismiss"):
        small().kind("zzzz")
    assert small().has_kind("buy")
    assert not small().has_kind("sell")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quantiser": 3}, "quantiser 3"),
        ({"max_markers": 0}, "1 to 4096"),
        ({"default_half_life_hours": -1}, "half-life"),
        ({"epoch": -1}, "negative"),
        ({"namespaces": (NamespaceRule("a", 1), NamespaceRule("a", 2))}, "namespace stands twice"),
        ({"kinds": (KindRule("a", 1), KindRule("a", 2))}, "kind stands twice"),
    ],
)
def test_schema_refuses(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        small(**changes)


def test_rules_refuse() -> None:
    for wrong in (
        lambda: NamespaceRule("Bad Name", 1),
        lambda: NamespaceRule("a", -1),
        lambda: NamespaceRule("a", 10**6),
        lambda: NamespaceRule("a", 24, ONE_Q24),
        lambda: NamespaceRule("a", 0, 33 * ONE_Q24),
        lambda: NamespaceRule("a", 1, max_markers=-1),
        lambda: NamespaceRule("a", 1, max_markers=4097),
        lambda: KindRule("", 1),
        lambda: KindRule("a", -1),
        lambda: KindRule("a", 33 * ONE_Q24),
        lambda: KindRule("a", 1, marker_prefix="Not "),
        lambda: KindRule("a", 1, label=2),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_lineage_says_what_belongs_together() -> None:
    vocabulary = Vocabulary(bytes(range(16)), ["a:b"])
    lineage = small().lineage(vocabulary)
    assert lineage.vocabulary_lineage == bytes(range(16))
    assert (lineage.vocabulary_size, lineage.schema_epoch) == (1, 3)
    assert (lineage.landmark_hour, lineage.quantiser) == (1000, 1)
