"""Genomes as they were before what happened: what a customer's genome could have told then."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.schema import HOUR_MS, DnaSchema
from genome_server.foresee.columns import Ints
from genome_server.foresee.facets import Columns
from genome_server.foresee.meeting import Meeting
from genome_server.genomes.rows import Profiles
from genome_server.learning.history import History, PastImprint
from genome_server.store.protocol import Store

Floats = npt.NDArray[np.float64]


class Past:
    """How well genomes met categories, by some of the columns' rows only.

    `counted` bool[n] says which rows imprint: of the crowd those of ids that agreed to learning, of
    who is asked about all of theirs that may be told of them. Profiles are those of the ids that
    did something there, and of `asked` (a subject) as well. As in rows of devices, where somebody
    lives is left out.
    """

    def __init__(
        self, store: Store, schema: DnaSchema, columns: Columns, meeting: Meeting,
        counted: npt.NDArray[np.bool_], asked: bytes | None = None,
    ) -> None:  # fmt: skip
        self._store, self._schema, self._columns = store, schema, columns
        self._vocabulary, self._meeting = store.vocabulary(), meeting
        self._profiles = Profiles(schema, self._vocabulary, homes=False)
        self._asked = asked
        self._met: dict[int, Floats] = {}
        rows = np.flatnonzero(counted)
        self._rows = rows[np.argsort(columns.who[rows], kind="stable")]
        self._who = columns.who[self._rows]

    def meets(self, rows: Ints) -> Floats:
        """How well the genome before each row met each category: float64[n, categories].

        `rows` int64[n] are the columns'; those of one customer ascend.
        """
        new = np.array([row for row in rows.tolist() if row not in self._met], np.int64)
        for who in np.unique(self._columns.who[new]).tolist():
            self._look(self._history(who), new[self._columns.who[new] == who])
        met = [self._met[row] for row in rows.tolist()]
        return np.array(met).reshape(-1, len(self._meeting))

    def _look(self, history: History, rows: Ints) -> None:
        columns, name = self._columns, self._vocabulary.name
        for row in rows.tolist():
            at_ms = int(columns.at_ms[row])
            # What stands in the same hour may be the answer itself.
            before = at_ms + 1 if columns.events[row] is None else at_ms // HOUR_MS * HOUR_MS
            weights = history.features(at_ms, before_ms=before)
            self._met[row] = self._meeting.meets((name(m), w) for m, w, _ in weights if w > 0)

    def _history(self, who: int) -> History:
        columns = self._columns
        begin, end = np.searchsorted(self._who, [who, who + 1]).tolist()
        mine = [columns.events[row] for row in self._rows[begin:end].tolist()]
        happened = [event for event in mine if event is not None]
        subjects = {event.subject for event in happened}
        if self._asked is not None:
            subjects.add(self._asked)
        facts = tuple(fact for row in self._store.customers(subjects) for fact in row.markers)
        imprints = [PastImprint(e.at_ms, e.at_ms // HOUR_MS, e.votes) for e in happened]
        profile = self._profiles.strengths(facts)
        return History(profile, imprints, self._schema, self._vocabulary)
