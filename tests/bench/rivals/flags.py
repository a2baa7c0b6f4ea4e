"""The rivals that tell who may see what: GrowthBook and LaunchDarkly, a flag for every offer.

Each offer is a flag with the rule that it has with us (`taste.asks_of`): on this channel, in one of
these activities, not with such an attribute. Neither learns what an offer is worth to whom, so all
that they answer is which of the 1,000 are on. GrowthBook: the evaluation function of its core on a
context that is made beforehand, without tracking. LaunchDarkly: flags in memory, no events, a
context that is made beforehand; all flags in one call, which is twice as fast as one for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.bench.rivals.taste import OFFERS, asks_of
from tests.bench.stage import PLACEMENT

KEYS = [f"offer-{number}" for number in range(OFFERS)]


def attributes(genome: dict[int, float], activity: str, moment: Sequence[str]) -> dict[str, Any]:
    """What both are told: the same as we are."""
    said = dict(name.split(":") for name in moment)
    return {
        **said,
        "activity": activity,
        "channel": PLACEMENT,
        "genome": [f"m:{number}" for number in genome],
        **{f"m{number}": weight for number, weight in genome.items()},
    }


def _condition(number: int) -> dict[str, Any]:
    asks = asks_of(number)
    return {
        "channel": {"$in": list(asks.channels)},
        "activity": {"$in": list(asks.activities)},
        "flag": {"$ne": asks.refused},
    }


class GrowthBook:
    """Evaluates every feature."""

    def __init__(self) -> None:
        from growthbook.common_types import Feature, GlobalContext, Options

        features = {
            key: Feature(defaultValue=False, rules=[{"condition": _condition(n), "force": True}])
            for n, key in enumerate(KEYS)
        }
        self._all = GlobalContext(options=Options(), features=features)

    def prepared(self, said: dict[str, Any]) -> Any:
        """A customer's moment."""
        from growthbook.common_types import EvaluationContext, StackContext, UserContext

        return EvaluationContext(
            user=UserContext(attributes=said), global_ctx=self._all, stack=StackContext()
        )

    def decide(self, context: Any) -> object:
        """Which offers are on."""
        from growthbook.core import eval_feature

        on = []
        for key in KEYS:
            context.stack.evaluated_features.clear()
            on.append(eval_feature(key, context).on)
        return on


class LaunchDarkly:
    """Evaluates every flag."""

    def __init__(self) -> None:
        from ldclient import Config, LDClient
        from ldclient.integrations.test_data import TestData

        flags = TestData.data_source()
        for number, key in enumerate(KEYS):
            asks = asks_of(number)
            rule = flags.flag(key).fallthrough_variation(False).if_match("channel", *asks.channels)
            rule = rule.and_match("activity", *asks.activities).and_not_match("flag", asks.refused)
            flags.update(rule.then_return(True))
        config = Config("none", update_processor_class=flags, send_events=False)
        self._client: Any = LDClient(config)

    def close(self) -> None:
        """Its threads end."""
        self._client.close()

    def prepared(self, said: dict[str, Any]) -> Any:
        """A customer's moment."""
        from ldclient import Context

        builder = Context.builder("somebody")
        for name, value in said.items():
            builder.set(name, value)
        return builder.build()

    def decide(self, context: Any) -> object:
        """Which offers are on."""
        return self._client.all_flags_state(context)
