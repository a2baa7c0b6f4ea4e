"""What is asked after so many own answers: the same of everybody, whatever is known."""

from __future__ import annotations

import numpy as np

from genome_server.learning.survey import survey
from tests.bench.model_data import AFTER, Asked
from tests.unit._learning import VOCABULARY, Log, at, query, who


def asked(log: Log, known: int) -> Asked:
    sources = log.sources()
    loader = Asked(sources, survey(sources), VOCABULARY, at(10_000))
    loader.known = known
    return loader


def test_the_same_two_answers_are_asked_and_the_newest_before_them_are_known() -> None:
    log = Log()
    for person, answers in ((1, 20), (2, 21), (3, 24)):
        log.agreed(who(person))
        for hour in range(answers):
            # The twenty before the questions: spa first, then taxi.
            offer = "spa" if hour < 10 else "taxi"
            log.did(who(person), 2.0 * hour, "redeem", offer=offer)
    seen = []
    for known in AFTER:
        examples, _ = asked(log, known).run(None)
        assert examples.person.tolist() == [1, 2, 2], "persons keep their numbers"
        assert examples.time_ms.tolist() == [at(40), at(40), at(42)]
        first = query(examples, 0)
        seen.append({name for name, (warm, cold) in first.items() if warm > cold})
        assert examples.with_history.tolist() == [known > 0] * 3
    assert seen[0] == set()
    assert seen[1] == seen[2] == {"service:taxi"}
    assert {"service:taxi", "service:spa"} <= seen[-1]


def test_the_first_of_two_questions_is_not_known_to_the_second() -> None:
    log = Log()
    log.agreed(who(1))
    for hour in range(22):
        log.did(who(1), 2.0 * hour, "redeem", offer="spa" if hour == 20 else "taxi")
    examples, _ = asked(log, max(AFTER)).run(None)
    assert len(examples) == 2
    assert "service:spa" not in query(examples, 1)
    assert np.array_equal(examples.label, [1.0, 1.0])
