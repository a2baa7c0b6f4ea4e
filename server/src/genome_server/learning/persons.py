"""Which subjects are one person, as far as the log says."""

from __future__ import annotations

from genome_server.genomes.events import LinkSaid


class Persons:
    """Links between subjects; of each pair the latest word counts, and of two at once "apart".

    By the rule of `genomes.rows.person_of`, which walks from one subject. Here all persons are
    found at once, and since when each is known to be one, which training needs and a walk does not
    tell.
    """

    def __init__(self) -> None:
        self._words: dict[tuple[bytes, bytes], tuple[int, bool]] = {}
        self._root: dict[bytes, bytes] | None = None
        self._members: dict[bytes, list[bytes]] = {}
        self._since: dict[bytes, int] = {}

    def hear(self, said: LinkSaid) -> None:
        """Take in one event. Not to be called after the first question."""
        pair = (min(said.subject, said.other), max(said.subject, said.other))
        word = (said.time_ms, not said.linked)
        self._words[pair] = max(word, self._words.get(pair, word))

    def root(self, subject: bytes) -> bytes:
        """Return the subject that stands for the person: the smallest of theirs."""
        return self._resolved().get(subject, subject)

    def members(self, root: bytes) -> list[bytes]:
        """Return all subjects of a person."""
        self._resolved()
        return self._members.get(root, [root])

    def linked_since(self, root: bytes) -> int:
        """Return since when all of them are known to be one, Unix milliseconds; 0 for one alone."""
        self._resolved()
        return self._since.get(root, 0)

    def _resolved(self) -> dict[bytes, bytes]:
        if self._root is not None:
            return self._root
        root: dict[bytes, bytes] = {}

        def find(subject: bytes) -> bytes:
            while root.setdefault(subject, subject) != subject:
                subject = root[subject]
            return subject

        linked = [(pair, at) for pair, (at, apart) in self._words.items() if not apart]
        for (one, other), _ in linked:
            low, high = sorted((find(one), find(other)))
            root[high] = low
        self._root = {subject: find(subject) for subject in root}
        for subject, representative in self._root.items():
            self._members.setdefault(representative, []).append(subject)
        for (one, _), at in linked:
            representative = self._root[one]
            self._since[representative] = max(at, self._since.get(representative, 0))
        return self._root
