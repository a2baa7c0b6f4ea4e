"""`genome-server models`: check, list, compare, take in, judge, promote and roll back models.

Each command lives in a module of its own, `models_*.py`, whose `command` is the click command.
"""

from __future__ import annotations

import click

from genome_server.cli.lazy import Entry, LazyGroup

#: In the order in which a newcomer meets them.
COMMANDS: dict[str, Entry] = {
    "list": Entry("models_list", "List models: figures, which one is next, who carried which."),
    "show": Entry("models_show", "Show one model: where it is from, its figures, its releases."),
    "compare": Entry("models_compare", "Compare two models on the tenant's own examples."),
    "examples": Entry("models_examples", "Write what a model of your own is trained on."),
    "check": Entry("models_check", "Say all that is wrong with a model file."),
    "import": Entry("models_import", "Take in a model that was made elsewhere."),
    "gate": Entry("models_gate", "Say whether a model may be published, and why not."),
    "limits": Entry("models_limits", "Show and change what a model may take and lose."),
    "promote": Entry("models_promote", "Let the next release take a model."),
    "rollback": Entry("models_rollback", "Let the next release take the model from before."),
}


@click.group("models", cls=LazyGroup, table=COMMANDS)
def command() -> None:
    """Check, list, compare, take in, judge, promote and roll back models.

    A model is one ONNX file that keeps a contract (docs/models.md). ID is a model's id, or as
    much of its beginning as no other has.
    """
