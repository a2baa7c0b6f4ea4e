"""What is told of a demand: nobody's number can be found out by a share."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from genome_server.compare.telling import roughly
from genome_server.regions.demand import Survey
from genome_server.regions.told import drawn_by, told
from tests.unit.regions_town import cells_around, crowd_of

NEAR, FAR, THIRD = cells_around(3, 5)
SMALLEST, MOST = 10, 28


def test_a_share_fits_several_counts_of_people() -> None:
    """All want it equally: each share would be a count over another."""
    seen: Counter[tuple[float, ...]] = Counter()
    for near in range(SMALLEST, MOST):
        for far in range(SMALLEST, MOST):
            crowd = crowd_of(
                [{"a:1": 1.0}] * (near + far) + [{"b:1": 1.0}] * 40,
                [{NEAR: 1.0}] * near + [{FAR: 1.0}] * far + [{THIRD: 1.0}] * 40,
            )
            said = told(Survey(crowd, 5).demand([("a:1", 256)]))
            assert said.people.tolist() in (
                [roughly(near), roughly(far)],
                [roughly(far), roughly(near)],
            )
            facts = (said.people, said.share, said.against, said.parts[:, 0])
            seen[tuple(np.concatenate(facts).tolist())] += 1
    # 10, 11 and 12 are told alike, and so are 13 to 17.
    assert min(seen.values()) == 3 * 3, "so many pairs of counts fit what was told"


def test_the_breach_itself() -> None:
    crowd = crowd_of([{"a:1": 1.0}] * 23, [{NEAR: 1.0}] * 13 + [{FAR: 1.0}] * 10)
    found = Survey(crowd, 5).demand([("a:1", 256)])
    assert sorted(found.share.tolist()) == pytest.approx([10 / 23, 13 / 23])
    said = told(found)
    assert sorted(said.people.tolist()) == [10, 15]
    assert sorted(said.share.tolist()) == pytest.approx([10 / 25, 15 / 25])
    assert sorted(said.parts[:, 0].tolist()) == pytest.approx([10 / 25, 15 / 25])


def test_of_many_people_shares_are_as_fine_as_their_number() -> None:
    near, far = 1_203, 2_404
    crowd = crowd_of(
        [{"a:1": 1.0, "b:1": 1.0}] * near + [{"a:1": 3.0}] * far,
        [{NEAR: 1.0}] * near + [{FAR: 1.0}] * far,
    )
    survey = Survey(crowd, 5)
    found = survey.demand([("a:1", 256), ("b:1", 256)])
    said = told(found)
    np.testing.assert_allclose(said.share, found.share, atol=2.5 / (near + far))
    np.testing.assert_allclose(said.parts[:, 0], found.parts[:, 0], atol=2.5 / (near + far))
    np.testing.assert_allclose(said.against, found.share / found.crowd, rtol=0.01)
    assert (said.withheld, said.withheld_people) == (0.0, 0)
    everybody = told(survey.everybody())
    assert everybody.against.tolist() == [1.0, 1.0]


def test_shares_that_are_told_add_up() -> None:
    wanted = [{"a:1": 1.0 + n % 7, "b:1": 1.0} for n in range(61)] + [{"a:1": 0.01}] * 5
    crowd = crowd_of(
        wanted,
        [{(NEAR, FAR, THIRD)[n % 3]: 1.0} for n in range(61)] + [{NEAR: 0.5, FAR: 0.5}] * 5,
    )
    said = told(Survey(crowd, 5).demand([("a:1", 256), ("b:1", 100)]))
    assert said.share.sum() + said.withheld == pytest.approx(1.0)


def test_what_is_withheld_is_told_no_finer() -> None:
    crowd = crowd_of([{"a:1": 1.0}] * 43, [{NEAR: 1.0}] * 43)
    said = told(Survey(crowd, 5, 100).demand([("a:1", 256)]))
    assert (said.withheld, said.withheld_people, len(said.share)) == (1.0, 45, 0)


def test_what_too_few_have_is_not_told() -> None:
    genomes = [{"a:1": 1.0, "b:1": 1.0}] * 9 + [{"a:1": 1.0}] * 20 + [{"b:1": 1.0}] * 15
    crowd = crowd_of(genomes, [{NEAR: 1.0}] * 29 + [{FAR: 1.0}] * 15)
    found = Survey(crowd, 5).demand([("a:1", 256), ("b:1", 256)])
    assert np.isnan(found.parts).any()
    assert np.array_equal(np.isnan(told(found).parts), np.isnan(found.parts))


def test_no_marker_drew_more_than_all() -> None:
    named = drawn_by([("a", 0.25), ("b", float("nan")), ("c", 0.75), ("d", 0.0)], 0.5)
    assert named == [("c", 0.75), ("a", 0.25)]
    assert drawn_by([("a", 0.3)], 0.6) == [("a", 0.5)]
    assert drawn_by([("a", 0.0)], 0.0) == []
