"""Under which settings and counts the DNA of each epoch is; kept in the store.

An epoch of the DNA schema names all that rows of genomes go by, and so what the DNA of things goes
by: the sections of dna.yaml and the counts of `dna learn` are kept under its number when it begins.
Whoever has a schema (the build the new one, live increments, learning and releases the one that
was built) has the DNA that belongs to it, whatever dna.yaml says meanwhile.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from genome_server.things.dna import Things
from genome_server.things.rarity import Counts, Rarity
from genome_server.things.settings import Settings
from genome_server.things.text import VERSION

if TYPE_CHECKING:
    from genome_server.store.protocol import Store

NEWEST_EPOCH: Final = "schema_epoch"
"""The setting of the store that holds the number of the newest epoch."""

_LEARNT_KEY: Final = "things_learnt"
_COUNTS_KEY: Final = "things_counts:"
_ALL_KEY: Final = "things_counts"
_EPOCH_KEY: Final = "things_of_epoch:"


def learnt(store: Store) -> Counts | None:
    """What `dna learn` counted last; None where it never did, or was told to forget."""
    return _counts(store, store.meta(_LEARNT_KEY) or "")


def keep_learnt(store: Store, counts: Counts | None) -> None:
    """Keep what was counted (None: forget it); the next build goes by it.

    Earlier counts stay for as long as the newest epoch, or that of the genomes, goes by them.
    """
    from genome_server.genomes.rows import built_schema  # which genomes need what is kept here

    digest = "" if counts is None else counts.digest
    with store.transaction():
        known = set(json.loads(store.meta(_ALL_KEY) or "[]"))
        needed = {digest, _counts_of(store, int(store.meta(NEWEST_EPOCH) or 1))}
        built = built_schema(store)
        if built is not None:
            needed.add(_counts_of(store, built.epoch))
        for one in sorted(known - needed):
            store.set_meta(_COUNTS_KEY + one, "")
        if counts is not None:
            store.set_meta(_COUNTS_KEY + digest, counts.to_json())
        store.set_meta(_ALL_KEY, json.dumps(sorted((known | {digest}) & needed - {""})))
        store.set_meta(_LEARNT_KEY, digest)


def things_under(store: Store, settings: Settings) -> Things:
    """The DNA of things under some settings and what was learnt last."""
    counts = learnt(store)
    return _things(store, settings, counts)


def keep_epoch(store: Store, epoch: int, things: Things) -> None:
    """Keep what the DNA of things goes by in an epoch that begins."""
    if not things.digest():
        return  # an epoch of which nothing is kept has the defaults
    counts = things.rarity.counts.digest if things.rarity is not None else ""
    kept = {"version": VERSION, "settings": things.settings.to_json(), "counts": counts}
    store.set_meta(f"{_EPOCH_KEY}{epoch}", json.dumps(kept, ensure_ascii=False))


def things_of(store: Store, epoch: int) -> Things:
    """What the DNA of things goes by in an epoch."""
    text = store.meta(f"{_EPOCH_KEY}{epoch}")
    if text is None:
        return _things(store, Settings(), None)
    kept = json.loads(text)
    settings = Settings.from_json(kept["settings"])
    return _things(store, settings, _counts(store, kept["counts"]))


def outdated(store: Store, epoch: int) -> bool:
    """Whether an epoch's texts were read by another version of the rules: it must be built anew."""
    text = store.meta(f"{_EPOCH_KEY}{epoch}")
    return text is not None and json.loads(text)["version"] != VERSION


def _things(store: Store, settings: Settings, counts: Counts | None) -> Things:
    rarity = None if counts is None else Rarity(counts, settings.rarity)
    return Things(settings, rarity, lambda name: store.document("product", name))


def _counts_of(store: Store, epoch: int) -> str:
    """The counts that an epoch goes by; "" for none."""
    text = store.meta(f"{_EPOCH_KEY}{epoch}")
    return "" if text is None else str(json.loads(text)["counts"])


def _counts(store: Store, digest: str) -> Counts | None:
    if not digest:
        return None
    text = store.meta(_COUNTS_KEY + digest)
    return None if text is None else _parsed(text)


@lru_cache(maxsize=4)
def _parsed(text: str) -> Counts:
    return Counts.from_json(text)
