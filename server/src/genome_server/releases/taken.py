"""Which model a release takes, and which it may not take now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genome_server.canary.kept import canaries
from genome_server.errors import Refused
from genome_server.home import Tenant
from genome_server.learning.export import ExportError, ModelFacts, model_facts, untrained_model
from genome_server.models.shelf import Model, current_model, load_model, model_in, promotions
from genome_server.store.protocol import Store

if TYPE_CHECKING:
    from genome_server.gate.run import InForce


def model_for(tenant: Tenant, store: Store, *, untrained: bool, kept: InForce | None) -> Model:
    """Return the model to publish: the newest, or that of the release whose model is `kept`.

    Raises Refused where there is none, or where it is of another vocabulary.
    """
    vocabulary = store.vocabulary()
    if kept is not None:
        return _model_of(tenant, kept)
    if untrained:
        # It knows no marker, so that it stays the same while the vocabulary grows.
        content = untrained_model(ModelFacts(vocabulary.lineage, vocabulary_size=0))
        return Model("untrained", content, {})
    model = current_model(tenant.models_dir, store)
    if model is None:
        raise Refused(
            "there is no model yet; run: genome-server train "
            "(or publish --untrained, which values every offer the same)"
        )
    try:
        facts = model_facts(model.content)
    except ExportError as error:
        raise Refused(f"model {model.id} cannot be published: {error}") from error
    if facts["vocabulary_lineage"] != vocabulary.lineage.hex():
        raise Refused(
            f"model {model.id} was trained on another vocabulary; run: genome-server train"
        )
    return model


def needed_in_force(store: Store, channel: str) -> InForce:
    """What all devices of a channel have. Raises Refused where they have nothing."""
    from genome_server.gate.run import in_force

    found = in_force(store, channel)
    if found is None:
        raise Refused("no release is in force whose model could be kept; leave out --keep-model")
    return found


def _model_of(tenant: Tenant, kept: InForce) -> Model:
    """The model that devices have, from where it lies still: an id says every byte of it."""
    from genome_server.releases.publish import part_content

    part = next(part for part in kept.manifest.parts if part.name == "model")
    try:
        return Model(kept.model, part_content(tenant, part), {})
    except Refused:
        if not (tenant.models_dir / kept.model).is_dir():
            raise
        return Model(kept.model, load_model(tenant.models_dir, kept.model).content, {})


def waiting(store: Store, kept: InForce) -> tuple[str, ...]:
    """A sentence on the model that the next plain `publish` would take instead of the one kept."""
    current = promotions(store).current
    if current is None or current == kept.model:
        return ()
    return (f"model {current} waits; what the gate says of it: genome-server models gate",)


def refuse_taken_back(store: Store, model: str) -> None:
    """Refuse a model whose canary is being rolled back: the way back may be broken off halfway."""
    from genome_server.releases.publish import manifest_of

    for canary in canaries(store):
        row = store.release(canary.version) if canary.state == "rolling back" else None
        if row is not None and model_in(manifest_of(row)) == model:
            raise Refused(
                f"release {row.version} is being rolled back together with its model {model} "
                f"(genome-server releases canary {row.version} says what is left to do): publish "
                "again when that is done, take another model (genome-server models rollback), or "
                "publish it all the same and say why (--despite-gate REASON)"
            )


def refuse_half_rolled_back(store: Store, channel: str) -> None:
    """Refuse any release that would come after a canary which is being rolled back: that would end
    there, and its model stay."""
    for canary in canaries(store):
        if canary.state == "rolling back" and canary.channel == channel:
            raise Refused(
                f"release {canary.version} is being rolled back (genome-server releases canary "
                f"{canary.version} says what is left to do): publish again when that is done"
            )
