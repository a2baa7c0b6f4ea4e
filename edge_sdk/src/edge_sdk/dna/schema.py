"""The DNA schema: how the markers of a namespace fade and what each kind of interaction weighs.

It is versioned by its epoch and travels in the release. Numbers are integers:
weights in 2^24 fixed point ("q24"), saliences in 1/256 ("q8"), times in hours.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import field
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_sdk.dna.markers import Vocabulary, nearest_name, split
from edge_sdk.errors import UsageError
from edge_sdk.lazy import lazy
from edge_sdk.messages import dna_pb2
from edge_sdk.values import dataclass

ONE_Q24: Final = 1 << 24
MAX_WEIGHT_Q24: Final = 32 * ONE_Q24
MAX_SALIENCE_Q8: Final = 4096
MAX_HALF_LIFE_HOURS: Final = 10 * 366 * 24
QUANTISERS: Final = (1, 2)
MAX_MARKERS: Final = 64
MOST_DISTINCT: Final = 192
MAX_DOUBLINGS: Final = 25
MAX_MOMENT_HALF_LIFE_S: Final = 7 * 24 * 3600
# Of namespaces that a schema does not list, in seconds.
MOMENT_HALF_LIVES_S: Final = MappingProxyType({"activity": 1800})
HOUR_MS: Final = 3_600_000

_HOURS_PER_DAY: Final = 24


@dataclass(frozen=True, slots=True)
class NamespaceRule:
    """How the markers of one namespace behave.

    `half_life_hours`: hours after which a strength has halved; 0 never fades.
    `profile_weight_q24`: weight of a profile fact; 0 where the namespace is not
    a profile's. A profile fact never fades, so one excludes the other.
    `moment_half_life_s`: seconds after which what went on before has halved in the moment; 0: it is
    forgotten at once.
    `max_markers`: of this namespace in a row; 0: no limit of its own.
    """

    name: str
    half_life_hours: int
    profile_weight_q24: int = 0
    moment_half_life_s: int = 0
    max_markers: int = 0

    def __post_init__(self) -> None:
        split(f"{self.name}:x")
        if not 0 <= self.half_life_hours <= MAX_HALF_LIFE_HOURS:
            raise UsageError(
                f"namespace {self.name}: a half-life has 0 to {MAX_HALF_LIFE_HOURS} hours, "
                f"not {self.half_life_hours}"
            )
        if not 0 <= self.profile_weight_q24 <= MAX_WEIGHT_Q24:
            raise UsageError(f"namespace {self.name}: a profile weight lies between 0 and 32")
        if self.profile_weight_q24 and self.half_life_hours:
            raise UsageError(
                f"namespace {self.name}: facts of a profile never fade; give it half-life 0"
            )
        if not 0 <= self.moment_half_life_s <= MAX_MOMENT_HALF_LIFE_S:
            raise UsageError(
                f"namespace {self.name}: in the moment a half-life has 0 to "
                f"{MAX_MOMENT_HALF_LIFE_S} seconds, not {self.moment_half_life_s}"
            )
        if not 0 <= self.max_markers <= 4096:
            raise UsageError(f"namespace {self.name}: a row holds 0 to 4096 markers of it")


@dataclass(frozen=True, slots=True)
class KindRule:
    """What one kind of interaction weighs; the fields are those of the message `KindRule`."""

    name: str
    weight_q24: int
    money_weight_q24: int = 0
    marker_prefix: str = ""
    label: int = 0
    dwell_weight_q24: int = 0
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("a kind needs a name")
        for weight in (self.weight_q24, self.money_weight_q24, self.dwell_weight_q24):
            if not 0 <= weight <= MAX_WEIGHT_Q24:
                raise UsageError(f"kind {self.name}: a weight lies between 0 and 32")
        if self.marker_prefix:
            split(f"{self.marker_prefix}x:x")
        if self.label not in (-1, 0, 1):
            raise UsageError(f"kind {self.name}: a label is -1, 0 or 1, not {self.label}")


@dataclass(frozen=True)
class DnaSchema:
    """The rules that belong together with a set of genome rows. Validated when built.

    `distinct`: what a marker's rank is multiplied by, by vocabulary index (beyond its end 192);
    empty: rows keep the strongest.
    """

    epoch: int
    landmark_hour: int
    namespaces: tuple[NamespaceRule, ...]
    kinds: tuple[KindRule, ...]
    default_half_life_hours: int
    quantiser: int = 1
    max_markers: int = MAX_MARKERS
    distinct: bytes = b""
    _half_lives: weakref.WeakKeyDictionary[Vocabulary, npt.NDArray[np.float64]] = field(
        default_factory=weakref.WeakKeyDictionary, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.quantiser not in QUANTISERS:
            known = " and ".join(map(str, QUANTISERS))
            raise UsageError(f"quantiser {self.quantiser} is not known; this SDK reads {known}")
        if not 0 <= self.default_half_life_hours <= MAX_HALF_LIFE_HOURS:
            raise UsageError(f"a half-life has 0 to {MAX_HALF_LIFE_HOURS} hours")
        if not 1 <= self.max_markers <= 4096:
            raise UsageError("a genome row holds 1 to 4096 markers")
        if self.epoch < 0 or self.landmark_hour < 0:
            raise UsageError("epoch and landmark are not negative")
        for what, names in (
            ("namespace", [rule.name for rule in self.namespaces]),
            ("kind", [rule.name for rule in self.kinds]),
        ):
            if len(set(names)) != len(names):
                raise UsageError(f"a {what} stands twice in the schema")

    @classmethod
    def from_proto(cls, message: dna_pb2.DnaSchema) -> DnaSchema:
        """Read a schema. Raises `UsageError` where it breaks a rule."""
        return cls(
            epoch=message.epoch,
            landmark_hour=message.landmark_hour,
            namespaces=tuple(
                NamespaceRule(
                    n.name,
                    n.half_life_hours,
                    n.profile_weight_q24,
                    n.moment_half_life_s,
                    n.max_markers,
                )
                for n in message.namespaces
            ),
            kinds=tuple(
                KindRule(
                    k.name,
                    k.weight_q24,
                    k.money_weight_q24,
                    k.marker_prefix,
                    k.label,
                    k.dwell_weight_q24,
                    tuple(k.beside),
                )
                for k in message.kinds
            ),
            default_half_life_hours=message.default_half_life_hours,
            quantiser=message.quantiser,
            max_markers=message.max_markers,
            distinct=message.distinct,
        )

    def to_proto(self) -> dna_pb2.DnaSchema:
        """The message that `from_proto` reads."""
        return dna_pb2.DnaSchema(
            epoch=self.epoch,
            landmark_hour=self.landmark_hour,
            quantiser=self.quantiser,
            max_markers=self.max_markers,
            distinct=self.distinct,
            namespaces=[
                dna_pb2.NamespaceRule(
                    name=n.name,
                    half_life_hours=n.half_life_hours,
                    profile_weight_q24=n.profile_weight_q24,
                    moment_half_life_s=n.moment_half_life_s,
                    max_markers=n.max_markers,
                )
                for n in self.namespaces
            ],
            kinds=[
                dna_pb2.KindRule(
                    name=k.name,
                    weight_q24=k.weight_q24,
                    money_weight_q24=k.money_weight_q24,
                    marker_prefix=k.marker_prefix,
                    label=k.label,
                    dwell_weight_q24=k.dwell_weight_q24,
                    beside=k.beside,
                )
                for k in self.kinds
            ],
            default_half_life_hours=self.default_half_life_hours,
        )

    def lineage(self, vocabulary: Vocabulary) -> dna_pb2.Lineage:
        """What genome rows under this schema and vocabulary are labelled with."""
        return dna_pb2.Lineage(
            vocabulary_lineage=vocabulary.lineage,
            vocabulary_size=len(vocabulary),
            schema_epoch=self.epoch,
            landmark_hour=self.landmark_hour,
            quantiser=self.quantiser,
        )

    @lazy
    def _namespace(self) -> dict[str, NamespaceRule]:
        return {rule.name: rule for rule in self.namespaces}

    @lazy
    def quotas(self) -> dict[str, int]:
        """The most markers in a row, by namespace that has a limit of its own."""
        return {rule.name: rule.max_markers for rule in self.namespaces if rule.max_markers}

    @lazy
    def _kind(self) -> dict[str, KindRule]:
        return {rule.name: rule for rule in self.kinds}

    @lazy
    def _prefixes(self) -> tuple[str, ...]:
        prefixes = {rule.marker_prefix for rule in self.kinds if rule.marker_prefix}
        return tuple(sorted(prefixes, key=lambda prefix: (-len(prefix), prefix)))

    @lazy
    def shortest_half_life_hours(self) -> int:
        """The shortest half-life in hours of anything that fades; 0 where nothing does."""
        hours = {rule.half_life_hours for rule in self.namespaces} | {self.default_half_life_hours}
        return min((h for h in hours if h), default=0)

    def half_life(self, namespace: str) -> int:
        """Half-life of a namespace in hours; 0 never fades.

        A namespace that is not listed but starts with the prefix of a kind
        ("not-coupon") has the half-life of what follows the prefix.
        """
        rule = self._namespace.get(namespace)
        if rule is not None:
            return rule.half_life_hours
        for prefix in self._prefixes:
            if namespace.startswith(prefix) and len(namespace) > len(prefix):
                return self.half_life(namespace[len(prefix) :])
        return self.default_half_life_hours

    def moment_half_life(self, namespace: str) -> int:
        """Seconds after which what went on before has halved in the moment; 0: it is forgotten."""
        rule = self._namespace.get(namespace)
        if rule is not None:
            return rule.moment_half_life_s
        return MOMENT_HALF_LIVES_S.get(namespace, 0)

    def profile_weight(self, namespace: str) -> int:
        """Weight of a profile fact of this namespace in q24; 0 where it is not a profile's."""
        rule = self._namespace.get(namespace)
        return rule.profile_weight_q24 if rule is not None else 0

    def kind(self, name: str) -> KindRule:
        """The rule of a kind. Raises `UsageError` that names the nearest one."""
        rule = self._kind.get(name)
        if rule is None:
            near = nearest_name(name, self._kind)
            hint = f"; did you mean {near!r}?" if near else f"; known: {', '.join(self._kind)}"
            raise UsageError(f"unknown kind {name!r}{hint}")
        return rule

    def has_kind(self, name: str) -> bool:
        """Whether the schema knows this kind."""
        return name in self._kind

    def half_lives(self, vocabulary: Vocabulary) -> npt.NDArray[np.float64]:
        """Half-life in hours of every marker, float64[len(vocabulary)]; computed once."""
        known = self._half_lives.get(vocabulary)
        if known is None:
            by_namespace: dict[str, int] = {}
            hours = np.empty(len(vocabulary), dtype=np.float64)
            for i, name in enumerate(vocabulary):
                namespace = name[: name.index(":")]
                half_life = by_namespace.get(namespace)
                if half_life is None:
                    half_life = by_namespace[namespace] = self.half_life(namespace)
                hours[i] = half_life
            hours.setflags(write=False)
            known = self._half_lives[vocabulary] = hours
        return known


def _days(rules: Iterable[tuple[str, int]]) -> tuple[NamespaceRule, ...]:
    return tuple(
        NamespaceRule(
            name, days * _HOURS_PER_DAY, moment_half_life_s=MOMENT_HALF_LIVES_S.get(name, 0)
        )
        for name, days in rules
    )


def default_schema(landmark_hour: int, epoch: int = 1) -> DnaSchema:
    """The schema of a tenant that has not written one; half-lives from 30 days to a year."""
    one = ONE_Q24
    return DnaSchema(
        epoch=epoch,
        landmark_hour=landmark_hour,
        namespaces=_days(
            [
                ("activity", 30),
                ("place", 60),
                ("channel", 90),
                ("daypart", 90),
                ("weekday", 90),
                ("weekend", 90),
                ("stage", 30),
                ("tender", 180),
                ("brand", 180),
                ("category", 180),
                ("claim", 365),
            ]
        ),
        kinds=(
            KindRule("browse", one // 8),
            KindRule("view", one // 4),
            KindRule("open", one // 4),
            KindRule("click", one // 2, label=1),
            KindRule("wish", one * 3 // 4),
            KindRule("cart", one),
            KindRule("consume", one, label=1),
            KindRule("accept", one, label=1),
            KindRule("redeem", 2 * one, one // 4, label=1),
            KindRule("buy", 2 * one, one // 4, label=1),
            KindRule("dismiss", one, marker_prefix="not-", label=-1),
            KindRule("decline", one, marker_prefix="not-", label=-1),
        ),
        default_half_life_hours=120 * _HOURS_PER_DAY,
        quantiser=2,
    )
