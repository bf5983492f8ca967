# SPDX-License-Identifier: Apache-2.0
"""YAML files that people write, read as a mapping of fields.

Words without quotes never become another value than what they say: numbers are decimal, ``true`` and ``false`` alone
are truth values, as in YAML 1.2, and ``yes``, ``1:30``, ``010``, ``1_0``, ``0x1F`` and ``2001-01-01`` are texts, which
a field for a number refuses. Merge keys (``<<``) are those of YAML 1.1.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor

from edgegen.envs.core.errors import InputError, shortened

MOST_LEVELS = 50
"""How deep lists and mappings may lie in one another."""
MOST_VALUES = 1_000_000
"""Most values of a file, counting again those that are referred to again."""
MOST_DIGITS = 400
"""Longest word that is read as a number."""

_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(
    r"(?:[-+]?(?:(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))\Z"
)


class _Checked(Composer):
    """Puts a document together; refuses keys that stand twice, and what is too deep or too large."""

    trail: list[str]
    sizes: dict[int, int]
    check_event: Any
    peek_event: Any

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose what stands at ``index`` of its parent."""
        alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        self.trail.append(str(index.value) if isinstance(index, yaml.ScalarNode) else str(index))
        if len(self.trail) > MOST_LEVELS:
            raise _fault(f"lists and mappings lie in one another more than {MOST_LEVELS} levels deep", mark)
        node = super().compose_node(parent, index)
        if not alias:
            self.sizes[id(node)] = 1 + sum(self.sizes[id(part)] for part in _parts(node))
        elif id(node) not in self.sizes:
            raise _fault("an alias stands inside of what it refers to", mark)
        if self.sizes[id(node)] > MOST_VALUES:
            raise _fault(f"there are more than {MOST_VALUES} values, counting what aliases repeat", mark)
        self.trail.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, whose keys must differ."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _fault("a list or a mapping stands where a name is needed", key.start_mark)
            if key.value in lines:
                name, first = shortened(".".join([*self.trail[1:], key.value])), lines[key.value]
                where = f"line {line}" if first == line else f"lines {first} and {line}"
                raise yaml.YAMLError(f"'{name}' stands twice, in {where}, but may stand only once")
            lines[key.value] = line
        return node


_PyYAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Checked, _PyYAML):  # type: ignore[misc]  # one of two classes
    """Safe, and with a parser in C where PyYAML has that."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {}  # no dates, sets or other kinds of values that no field has

    def __init__(self, text: str) -> None:
        _PyYAML.__init__(self, text)
        Composer.__init__(self)
        self.trail, self.sizes = [], {}


class _Dumper(yaml.SafeDumper):
    """Puts quotes around texts that would be read as something else."""


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(_word(loader, node, _INT, "a whole number"))


def _fraction(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = _word(loader, node, _FLOAT, "a number").lower()
    return math.nan if text == ".nan" else float(text.replace(".inf", "inf"))


def _truth(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return _word(loader, node, _BOOL, "true or false").lower() == "true"


def _word(loader: _Loader, node: yaml.ScalarNode, pattern: re.Pattern[str], what: str) -> str:
    text = str(loader.construct_scalar(node))
    if len(text) > MOST_DIGITS:
        raise _fault(f"a number has {len(text)} digits, but may have at most {MOST_DIGITS}", node.start_mark)
    if pattern.match(text) is None:  # a tag such as !!int may stand before anything
        raise _fault(f"'{shortened(text)}' is not {what}", node.start_mark)
    return text


for _kind, _pattern, _begins, _constructor in (
    ("null", _NULL, [*"~nN", ""], SafeConstructor.construct_yaml_null),
    ("bool", _BOOL, [*"tTfF"], _truth),
    ("int", _INT, [*"-+0123456789"], _whole),
    ("float", _FLOAT, [*"-+.0123456789"], _fraction),
    ("merge", re.compile(r"<<\Z"), ["<"], None),
    ("str", None, [], SafeConstructor.construct_yaml_str),
    ("seq", None, [], SafeConstructor.construct_yaml_seq),
    ("map", None, [], SafeConstructor.construct_yaml_map),
):
    if _pattern is not None:
        _Loader.add_implicit_resolver(_TAG + _kind, _pattern, _begins)
        _Dumper.add_implicit_resolver(_TAG + _kind, _pattern, _begins)
    if _constructor is not None:
        _Loader.add_constructor(_TAG + _kind, _constructor)
_Loader.add_constructor(None, SafeConstructor.construct_undefined)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        yaml.YAMLError: If it is none, or a key stands twice; its text is one line, without a full stop.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeError) as error:
        raise yaml.YAMLError(_reason(error, text)) from None


def dump_yaml(data: Any) -> str:
    """Return plain data as a YAML text that :func:`parse_yaml` reads back as the same, lines of mappings in order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Read the fields of a YAML file.

    Args:
        path: The file.
        what: What it is, to begin a sentence with, for example ``Scenario file``.

    Raises:
        InputError: If it can not be read, is no YAML, a key stands twice, or it does not hold a mapping.
    """
    try:
        data = parse_yaml(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{what} '{path}' can not be read: {reason}.") from None
    if not isinstance(data, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(data), f"'{shortened(str(data))}'")
        raise InputError(f"{what} '{path}' must hold a mapping of fields, not {found}.")
    return data


def _parts(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _fault(problem: str, mark: Any) -> yaml.YAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _reason(error: Exception, text: str) -> str:
    """What is wrong, in one line."""
    mark = getattr(error, "problem_mark", None)
    if not isinstance(error, yaml.MarkedYAMLError) or mark is None:
        return " ".join(str(error).split())
    said = " ".join(part for part in (error.context, error.problem) if part)
    line = text.splitlines()[mark.line] if mark.line < len(text.splitlines()) else ""
    tabs = "; lines are indented with spaces, not tabs" if "\t" in line[: len(line) - len(line.lstrip())] else ""
    return f"{said} in line {mark.line + 1}{tabs}"
