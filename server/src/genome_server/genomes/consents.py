"""Whose doings count for what, where several ids are one person, and what no device gets.

Free of I/O. The one place that says it: rows of devices, what is shown and compared, spending,
regions and forecasts all ask here.

Rules.
- What an id did counts for a use (personalisation, learning, location) only where that id agreed to
  that use. To agree by one id is not to agree by another.
- An id that never said anything about consent (a stranger's, minted on a device; a card's from a
  list without consents) follows the ids that it is linked to: it counts where one of them agreed
  and none of those that spoke refused.
- Who asks must itself have agreed. What it would get is worked out as if it had, so that a consent
  given later is in force at once; it is sent, shown and counted only where it was given.
- What each id did is kept as it is, whatever it agreed to: only what is read is chosen. So a
  consent that is taken back and given again, and a link that is undone, leave no trace.
- Of an `interaction_id` the first event counts, whoever's it is and whatever they agreed to: an id
  that two customers share is one interaction.
- Where somebody lives (`HOME`) is for the server's own statistics: it is in no row of a device and
  has no name in the vocabulary of a release, whoever agreed to what.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from edge_sdk.dna.markers import Vocabulary
from genome_server.store.rows import CustomerRow
from genome_server.store.words import Word

if TYPE_CHECKING:
    from genome_server.genomes.rows import SubjectState

STATED_HOME: Final = "home:"
"""How the marker of a profile begins that says in which cell somebody lives."""
HOME: Final = (STATED_HOME, "insight:home-")
"""How markers begin that say where somebody lives: a profile's, and the one that is derived."""

_WITHHELD: Final = "withheld:"


def counting(
    states: Mapping[bytes, SubjectState],
    customers: Mapping[bytes, CustomerRow],
    purpose: int,
    *,
    asker: bytes | None = None,
) -> list[bytes]:
    """The subjects of a person, in order, whose doings count for a use (a bit of consent).

    `states` are what the log says of each, `customers` those of them that the store knows. With
    `asker`, as if that one had agreed.
    """
    agreed, silent, refused = [], [], False
    for one, state in states.items():
        customer = customers.get(one)
        if one == asker or (customer is not None and (customer.consents or 0) & purpose):
            agreed.append(one)
        elif (customer is None or customer.silent) and not state.consents:
            silent.append(one)
        else:
            refused = True
    return sorted(agreed + silent if agreed and not refused else agreed)


def told(
    customer: CustomerRow | None, subject: bytes, said: Mapping[int, Word]
) -> CustomerRow | None:
    """A customer after words on purposes (by number) that the store has not taken in yet.

    As the store will: an older word than the one that is known changes nothing.
    """
    if not said:
        return customer
    row = customer or CustomerRow(subject)
    words = row.words.after(said)
    return replace(row, consents=words.consents, silent=False, words=words)


def tells_home(marker: str) -> bool:
    """Whether a marker says where somebody lives."""
    return marker.startswith(HOME)


def hint_at(vocabulary: Vocabulary, marker: str) -> str:
    """What to say after a marker that nobody has: one that is like it; "" where none is.

    Never where somebody lives: the vocabulary keeps such names after who lived there was erased.
    """
    near = vocabulary.nearest(marker)
    return f"; did you mean {near!r}?" if near and not tells_home(near) else ""


@lru_cache(maxsize=2)
def homes(vocabulary: Vocabulary) -> frozenset[int]:
    """The indices of the markers that say where somebody lives."""
    return frozenset(i for i, name in enumerate(vocabulary) if tells_home(name))


def for_devices(vocabulary: Vocabulary, named: Collection[str] = ()) -> Vocabulary:
    """The vocabulary as releases carry it: every index means what it meant, homes have no name.

    But for `named`: what offers and products say of themselves is in the release anyway.
    """
    private = (*HOME, _WITHHELD)
    if not any(name.startswith(private) for name in vocabulary):
        return vocabulary
    known = frozenset(named)
    names = [
        f"{_WITHHELD}{i}" if name.startswith(private) and name not in known else name
        for i, name in enumerate(vocabulary)
    ]
    return Vocabulary(vocabulary.lineage, names)
