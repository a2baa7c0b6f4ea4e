"""YAML: a list of rows, or one document per row.

Values are read as JSON would read them: `no`, `NO` and `2026-01-31` are text,
`007` too. Every field remembers its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from genome_server.errors import ImportRefused
from genome_server.ingest.check import RowError
from genome_server.ingest.kinds import Kind
from genome_server.ingest.readers import RawRow, without_nulls
from genome_server.ingest.text import read_lines

_MAX_DEPTH = 16
_MAX_NODES = 100_000
# What the constructors of the library let through where a tag lies about its text.
_MISTAGGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class _Loader(yaml.CSafeLoader):
    """Safe YAML with the scalars of JSON."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"null|~|", ["n", "~", ""]),
    ("tag:yaml.org,2002:bool", r"true|false", ["t", "f"]),
    ("tag:yaml.org,2002:int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    (
        "tag:yaml.org,2002:float",
        r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?",
        list("-0123456789"),
    ),
    ("tag:yaml.org,2002:merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


def read(path: Path, kind: Kind) -> Iterator[RawRow]:
    """The rows of a YAML file. Raises ImportRefused: broken YAML cannot be read on."""
    text = []
    for line in read_lines(path):
        if line.bad:
            raise ImportRefused(f"{path}:{line.number}: {line.bad}")
        text.append(line.text)
    whole = "".join(text)
    loader = _Loader(whole)
    try:
        _check_depth(path, whole)
        found = False
        while loader.check_node():
            for node in _rows(path, kind, loader.get_node()):
                found = True
                yield _row(loader, node, whole)
    except yaml.YAMLError as error:
        raise ImportRefused(f"{path}{_place(error)}: {_cause(error)}") from error
    finally:
        loader.dispose()
    if not found:
        raise ImportRefused(f"{path}: the file is empty: a list of {kind.name} should stand there")


def _check_depth(path: Path, whole: str) -> None:
    """Composing recurses in C, where too deep is a crash; parsing does not."""
    depth = 0
    for event in yaml.parse(whole, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_DEPTH:
                where = f":{event.start_mark.line + 1}" if event.start_mark else ""
                raise ImportRefused(f"{path}{where}: is nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}: character {mark.column + 1}" if mark else ""


def _cause(error: yaml.YAMLError) -> str:
    return "is not YAML: " + " ".join(str(getattr(error, "problem", None) or error).split())


def _rows(path: Path, kind: Kind, node: yaml.Node | None) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if names == [kind.name] and isinstance(node.value[0][1], yaml.SequenceNode):
            yield from node.value[0][1].value  # "offers:" above the list
        else:
            yield node
    elif isinstance(node, yaml.ScalarNode) and node.value != "":
        raise ImportRefused(
            f"{path}:{node.start_mark.line + 1}: a list of {kind.name} should stand there"
        )


def _row(loader: _Loader, node: yaml.Node, whole: str) -> RawRow:
    line = _line(node)
    text = whole[node.start_mark.index : node.end_mark.index].rstrip()
    if not isinstance(node, yaml.MappingNode):
        return RawRow(line, {}, text, RowError("", "is no mapping"))
    try:
        lines = _lines(node)
        _bound(node)
        value = loader.construct_document(node)
    except (RowError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        at = mark.line + 1 if mark else line
        problem = error if isinstance(error, RowError) else RowError("", _cause(error))
        return RawRow(at, {}, text, problem)
    except _MISTAGGED:
        cause = "is not YAML: a value is not what its tag says, or is a number of too many digits"
        return RawRow(line, {}, text, RowError("", cause))
    if any(not isinstance(key, str) for key in value):
        return RawRow(line, {}, text, RowError("", "a name of a field is no text"))
    return RawRow(line, without_nulls(value), value, lines=lines)


def _lines(node: yaml.MappingNode) -> dict[str, int]:
    """The lines of the fields; RowError where one stands twice, which YAML would pass over."""
    lines: dict[str, int] = {}
    for key, _ in node.value:
        name = str(key.value)
        if name in lines:
            raise RowError(name, f"stands twice, in lines {lines[name]} and {_line(key)}")
        lines[name] = _line(key)
    return lines


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _bound(node: yaml.Node) -> None:
    """Anchors can make a small file endless; a row has bounds."""
    seen = 0
    stack: list[tuple[Any, int]] = [(node, 0)]
    while stack:
        current, depth = stack.pop()
        seen += 1
        if depth > _MAX_DEPTH or seen > _MAX_NODES:
            raise RowError("", "is nested too deeply or refers to itself")
        if isinstance(current, yaml.SequenceNode):
            stack += [(inner, depth + 1) for inner in current.value]
        elif isinstance(current, yaml.MappingNode):
            stack += [(part, depth + 1) for pair in current.value for part in pair]
