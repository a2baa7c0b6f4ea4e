"""What a publish has read, so that it undoes nothing that came out or was imported meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from genome_server.errors import Refused
from genome_server.genomes.rows import built_schema
from genome_server.models.shelf import promotions
from genome_server.store.protocol import Store


@dataclass(frozen=True)
class Read:
    """What a release is made from: the newest `release` of the `channel` and the one that is
    `whole`, which all of its devices have (0: none), the state of the documents, the built schema's
    epoch (0: none) and the model that the next release takes (None where that does not matter)."""

    channel: str
    release: int
    whole: int
    documents: int
    epoch: int
    model: str | None

    @classmethod
    def of(cls, store: Store, channel: str, *, keep_model: bool) -> Read:
        """As it is now."""
        from genome_server.gate.run import in_force

        newest, schema = store.release(channel=channel), built_schema(store)
        whole = in_force(store, channel)
        return cls(
            channel,
            newest.version if newest is not None else 0,
            whole.row.version if whole is not None else 0,
            store.documents_version(),
            schema.epoch if schema is not None else 0,
            None if keep_model else promotions(store).current,
        )

    def refuse_changed(self, now: Read) -> None:
        """Raise Refused where it is not what it was."""
        if now.release != self.release:
            what = f"release {now.release} was published in channel {self.channel!r}"
        elif now.whole != self.whole:
            what = f"release {now.whole} became the one that all devices have"
        elif now.documents != self.documents:
            what = "offers, products, placements or places were changed"
        elif now.epoch != self.epoch:
            what = "genomes were built for another DNA schema"
        elif now.model != self.model:
            what = f"model {now.model} became the one that the next release takes"
        else:
            return
        raise Refused(f"{what} meanwhile, so nothing is issued: publish again")
