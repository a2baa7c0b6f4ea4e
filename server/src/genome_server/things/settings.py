"""The sections `text`, `rarity` and `content` of dna.yaml. Free of I/O.

    settings = read_settings(document)      # the parsed file

Everything has a default, and without the sections nothing is read in the texts of products, offers
and places, and nothing is weighed by rarity: their DNA is what is declared. The texts of content
are read from the start, since no genome could have been without that before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from edge_sdk.dna.markers import nearest_name, split
from edge_sdk.errors import InvalidMarker
from genome_server.things.fields import FieldError, mapping, namespace, only
from genome_server.things.text import BUILT_IN, MAX_ITEMS, Rule, TextSettings

ONE_Q8: Final = 256
MAX_SALIENCE: Final = 16
MAX_RULES: Final = 100
MAX_WORDS: Final = 2_000
MAX_PHRASE: Final = 80

SECTIONS: Final = ("text", "rarity", "content")
_THINGS: Final = ("products", "offers", "places", "contents")
_TEXT: Final = (*_THINGS, "without", "salience", "brands", "rules")
_RULE: Final = ("namespace", "words", "pattern", "value", "salience")
_RARITY: Final = ("floor", "full_at", "min_products", "prune")
_CONTENT: Final = ("products",)
_FIELDS: Final = {
    "products": ("title", "brand", "category", "description", "size"),
    "offers": (),  # any name of its content
    "places": ("name", "kind"),
    "contents": ("subject", "body"),
}
_CAPTURES: Final = ("{number}", "{word}")

Fields = Mapping[str, int]
"""The fields that are read, each with its weight in 1/256."""


@dataclass(frozen=True, slots=True)
class RaritySettings:
    """How much the rarity of a marker counts.

    What every product has counts for `floor_q8`, in 1/256; what one in `full_at` has, or fewer,
    counts fully; between them each halving counts as much. What fewer than `min_products`
    products have is left out, by namespace `prune`.
    """

    floor_q8: int = 32
    full_at: int = 64
    min_products: int = 2
    prune: Mapping[str, int] = field(default_factory=dict)

    def least(self, namespace: str) -> int:
        """How many products a marker of a namespace must have to be kept."""
        return self.prune.get(namespace, self.min_products)


@dataclass(frozen=True, slots=True)
class Settings:
    """What dna.yaml says of the DNA of things.

    `products_q8` is what the DNA of its products weighs in a content's. `said` tells whether the
    file has any of the sections.
    """

    products: Fields = field(default_factory=dict)
    offers: Fields = field(default_factory=dict)
    places: Fields = field(default_factory=dict)
    contents: Fields = field(default_factory=lambda: {"subject": ONE_Q8, "body": ONE_Q8 // 2})
    text: TextSettings = field(default_factory=TextSettings)
    rarity: RaritySettings = field(default_factory=RaritySettings)
    products_q8: int = ONE_Q8 // 2
    said: bool = False

    def to_json(self) -> str:
        """All of it, canonical: equal settings give equal text."""
        data = asdict(replace(self, said=False))
        data["text"]["off"] = sorted(self.text.off)
        return json.dumps(data, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read what `to_json` wrote."""
        data = json.loads(text)
        said = data.pop("text")
        rules = tuple(
            Rule(
                **{
                    **rule,
                    "phrases": tuple((v, tuple(p)) for v, p in rule["phrases"]),
                    "pattern": tuple(rule["pattern"]),
                }
            )
            for rule in said["rules"]
        )
        return cls(
            **{
                **data,
                "rarity": RaritySettings(**data["rarity"]),
                "text": TextSettings(
                    frozenset(said["off"]), said["salience_q8"], tuple(said["brands"]), rules
                ),
            }
        )


def read_settings(document: Mapping[str, Any]) -> Settings:
    """The settings of a parsed dna.yaml. Raises FieldError with the field and the cause."""
    said = any(name in document for name in SECTIONS)
    text = _section(document, "text", _TEXT)
    content = _section(document, "content", _CONTENT)
    fields = {
        name: _fields(text[name], f"text.{name}", _FIELDS[name]) for name in _THINGS if name in text
    }
    return Settings(
        **fields,
        text=TextSettings(
            off=frozenset(_named(text.get("without"), "text.without")),
            salience_q8={
                _built_in(name, "text.salience"): _q8(value, f"text.salience.{name}")
                for name, value in mapping(text.get("salience"), "text.salience").items()
            },
            brands=tuple(_words(text.get("brands", []), "text.brands")),
            rules=_rules(text.get("rules")),
        ),
        rarity=_rarity(_section(document, "rarity", _RARITY)),
        products_q8=_q8(content.get("products", 0.5), "content.products", least=0),
        said=said,
    )


def _rarity(section: Mapping[str, Any]) -> RaritySettings:
    default = RaritySettings()
    floor = section.get("floor", default.floor_q8 / ONE_Q8)
    return RaritySettings(
        floor_q8=_q8(floor, "rarity.floor", most=1),
        full_at=_whole(section.get("full_at", default.full_at), "rarity.full_at", 2),
        min_products=_whole(
            section.get("min_products", default.min_products), "rarity.min_products", 1
        ),
        prune={
            namespace(name, f"rarity.prune.{name}"): _whole(value, f"rarity.prune.{name}", 1)
            for name, value in mapping(section.get("prune"), "rarity.prune").items()
        },
    )


def _rules(value: object) -> tuple[Rule, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise FieldError("text.rules: must be a list of rules")
    if len(value) > MAX_RULES:
        raise FieldError(f"text.rules: {len(value)} rules; at most {MAX_RULES}")
    return tuple(_rule(one, f"text.rules[{n}]") for n, one in enumerate(value))


def _rule(value: object, path: str) -> Rule:
    rule = mapping(value, path)
    only(rule, _RULE, f"{path}.")
    if "namespace" not in rule:
        raise FieldError(f"{path}.namespace: is missing; say which markers the rule gives")
    space = namespace(rule["namespace"], f"{path}.namespace")
    if ("words" in rule) == ("pattern" in rule):
        raise FieldError(f"{path}: a rule has either words or a pattern")
    name = f"rules[{path.rpartition('[')[2]}"
    salience = _q8(rule.get("salience", 1.0), f"{path}.salience")
    if "words" in rule:
        if "value" in rule:
            raise FieldError(f"{path}.value: goes with a pattern; words are their own values")
        phrases = _phrases(rule["words"], space, f"{path}.words")
        return Rule(name, space, salience, phrases)
    given = rule.get("value", "")
    if not isinstance(given, str | int) or isinstance(given, bool):
        raise FieldError(f"{path}.value: {given!r} is no word")
    pattern = _pattern(rule["pattern"], f"{path}.pattern")
    if not given and not any(item.removesuffix("?") in _CAPTURES for item in pattern):
        raise FieldError(f"{path}.value: is missing; the pattern has no {{number}} or {{word}}")
    if given:
        _value(space, str(given), f"{path}.value")
    return Rule(name, space, salience, (), pattern, str(given).lower())


def _pattern(value: object, path: str) -> tuple[str, ...]:
    items = tuple(value.lower().split()) if isinstance(value, str) else ()
    if not 1 <= len(items) <= MAX_ITEMS:
        raise FieldError(f"{path}: {value!r} is no pattern of 1 to {MAX_ITEMS} words")
    for item in items:
        plain = item.removesuffix("?")
        words = [plain] if plain in _CAPTURES else plain.split("|")
        for word in words:
            if plain not in _CAPTURES and not word.removesuffix("*").isalnum():
                raise FieldError(
                    f"{path}: {item!r} is no word; write word, a|b, beginn*, word?, "
                    f"{{number}} or {{word}}"
                )
    if all(item.endswith("?") for item in items):
        raise FieldError(f"{path}: at least one word must be there")
    return items


def _phrases(value: object, namespace: str, path: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if isinstance(value, list):
        said: dict[str, tuple[str, ...]] = {one: (one,) for one in _words(value, path)}
    else:
        given = mapping(value, path)
        said = {
            str(name).lower(): tuple(
                _words(phrases if isinstance(phrases, list) else [phrases], f"{path}.{name}")
            )
            for name, phrases in given.items()
        }
    if not said:
        raise FieldError(f"{path}: is empty; write a list of words")
    for name in said:
        _value(namespace, name, path)
    return tuple((name, phrases) for name, phrases in said.items())


def _words(value: object, path: str) -> list[str]:
    if not isinstance(value, list):
        raise FieldError(f"{path}: must be a list of words")
    if len(value) > MAX_WORDS:
        raise FieldError(f"{path}: {len(value):,} words; at most {MAX_WORDS:,}")
    found = []
    for one in value:
        text = " ".join(str(one).lower().split()) if isinstance(one, str | int) else ""
        said = any(letter.isalnum() for letter in text) and text.isprintable()
        if isinstance(one, bool) or not said:
            raise FieldError(f"{path}: {one!r} is no word; put it in quotes")
        if len(text) > MAX_PHRASE:
            raise FieldError(f"{path}: {text[:20]!r}… is longer than {MAX_PHRASE} characters")
        found.append(text)
    return found


def _fields(value: object, path: str, known: Sequence[str]) -> Fields:
    pairs = value if isinstance(value, Mapping) else None
    if pairs is None:
        if not isinstance(value, list):
            raise FieldError(f"{path}: must be a list of fields, or fields with their weights")
        pairs = dict.fromkeys(map(str, value), 1.0)
    found = {}
    for name, weight in pairs.items():
        plain = str(name)
        free = path == "text.products" and plain.startswith("attributes.")
        if known and plain not in known and not free:
            near = nearest_name(plain, known)
            more = ", attributes.NAME" if path == "text.products" else ""
            hint = f"did you mean {near}?" if near else f"known: {', '.join(known)}{more}"
            raise FieldError(f"{path}.{plain}: is no field with text; {hint}")
        found[plain] = _q8(weight, f"{path}.{plain}")
    return found


def _named(value: object, path: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise FieldError(f"{path}: must be a list of built-in rules: {', '.join(BUILT_IN)}")
    return [_built_in(name, path) for name in value]


def _built_in(name: object, path: str) -> str:
    if name not in BUILT_IN:
        near = nearest_name(str(name), BUILT_IN)
        hint = f"did you mean {near}?" if near else f"known: {', '.join(BUILT_IN)}"
        raise FieldError(f"{path}: {name!r} is no built-in rule; {hint}")
    return str(name)


def _section(document: Mapping[str, Any], name: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    section = mapping(document.get(name), name)
    only(section, known, f"{name}.")
    return section


def _value(namespace: str, value: str, path: str) -> None:
    try:
        split(f"{namespace}:{value.replace(' ', '-')}")
    except InvalidMarker as error:
        raise FieldError(f"{path}: {error}") from error


def _q8(value: object, path: str, *, least: float = 1 / 256, most: float = MAX_SALIENCE) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        lower = "0" if least == 0 else "1/256"
        raise FieldError(f"{path}: {value!r} is no number from {lower} to {most}")
    return round(value * ONE_Q8)


def _whole(value: object, path: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10**9:
        raise FieldError(f"{path}: {value!r} is no whole number of at least {least}")
    return value
