from __future__ import annotations

from itertools import permutations

from genome_server.genomes.events import LinkSaid
from genome_server.learning.persons import Persons

A, B, C, D = (bytes([n]) * 16 for n in range(1, 5))


def test_links_make_persons_whatever_the_order() -> None:
    said = [
        LinkSaid(A, B, True, 10),
        LinkSaid(B, C, True, 30),
        LinkSaid(C, D, True, 20),
        LinkSaid(D, C, False, 25),
    ]
    for order in permutations(said):
        persons = Persons()
        for one in order:
            persons.hear(one)
        assert [persons.root(s) for s in (A, B, C, D)] == [A, A, A, D]
        assert sorted(persons.members(A)) == [A, B, C]
        assert persons.linked_since(A) == 30
        assert persons.members(D) == [D]
        assert persons.linked_since(D) == 0


def test_of_two_words_at_once_the_careful_one_counts() -> None:
    persons = Persons()
    persons.hear(LinkSaid(A, B, False, 10))
    persons.hear(LinkSaid(B, A, True, 10))
    assert persons.root(B) == B
