"""The parameters of a notebook, as its parameters cell declares them: name, kinds of value, default, comment.

Read from the cell's source, nothing is run. The kinds are those of the annotation, else the default's own; a parameter whose
default is None or an expression takes anything.
"""

from __future__ import annotations

import ast
import datetime as dt
import io
import json
import math
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from personalab.errors import ConfigError, unknown
from personalab.records import Record

_TYPES: dict[str, type | tuple[type, ...]] = {
    "str": str, "int": int, "float": (int, float), "bool": bool, "list": list, "dict": dict, "None": type(None),
}  # fmt: skip
_NAMES = {
    "str": "str", "int": "int", "float": "float", "bool": "bool", "list": "list", "tuple": "list", "set": "list",
    "Sequence": "list", "Iterable": "list", "dict": "dict", "Mapping": "dict", "None": "None", "Path": "str",
}  # fmt: skip
_CONSTANTS = {"true": True, "false": False, "none": None, "null": None}


class Parameter(Record):
    """One parameter. `kinds` it takes, none for any; `choices` if its annotation lists them; `default` as it is written."""

    name: str
    kinds: tuple[str, ...] = ()
    choices: tuple[str | int | bool, ...] = ()
    default: str
    comment: str = ""

    def check(self, value: Any) -> Any:
        """The value as the notebook gets it: a whole number becomes a float where floats are expected.

        Raises:
            ConfigError: the value is of another kind.
        """
        value = plain_value(self.name, value)
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"parameter {self.name!r} takes {_listed(map(repr, self.choices))}, not {value!r}"
            )
        if not self.kinds or self.choices:
            return value
        fitting = [kind for kind in self.kinds if _fits(value, kind)]
        if not fitting:
            raise self._wrong(repr(value))
        return float(value) if fitting[0] == "float" and "int" not in fitting else value

    def read(self, text: str) -> Any:
        """A value from a command line or a file of plain text.

        Raises:
            ConfigError: the text is none of the kinds this takes.
        """
        if self.choices:
            return self.check(next((each for each in self.choices if str(each) == text), text))
        for value in _readings(text):
            if not self.kinds or any(_fits(value, kind) for kind in self.kinds):
                return self.check(value)
        raise self._wrong(repr(text))

    def levels(self, text: str) -> list[Any]:
        """The values of `a,b,c`, or of a list in JSON, which may hold commas and lists.

        Raises:
            ConfigError: one of them is none of the kinds this takes.
        """
        if text.lstrip().startswith("["):
            try:
                return [self.check(value) for value in json.loads(text)]
            except ValueError as error:
                raise ConfigError(f"parameter {self.name!r}: {text!r} is no list in JSON ({error})") from None
        return [self.read(part.strip()) for part in text.split(",")]

    def _wrong(self, value: str) -> ConfigError:
        mend = "write it as JSON, such as '[\"a\", \"b\"]'" if "list" in self.kinds else (
            f"if it should take more, annotate it in the notebook, such as `{self.name}: {' | '.join(self.kinds)} | …`"
        )  # fmt: skip
        return ConfigError(f"parameter {self.name!r} takes {_listed(self.kinds)}, not {value}; {mend}")


def read_parameters(source: str, where: str) -> tuple[Parameter, ...]:
    """The parameters that a parameters cell declares, in its order. `where` is its notebook, for errors.

    Raises:
        ConfigError: the cell is not plain Python.
    """
    try:
        statements = ast.parse(source).body
        comments = {
            token.start[0]: token.string.lstrip("# ").strip()
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
    except (SyntaxError, tokenize.TokenError) as error:
        line, why = (error.lineno, error.msg) if isinstance(error, SyntaxError) else (None, error.args[0])
        place = f" in line {line}" if line else ""
        raise ConfigError(
            f"{where}: its parameters cell is not plain Python{place} ({why}); mend it there"
        ) from None
    found: dict[str, Parameter] = {}
    for statement in statements:
        comment = comments.get(statement.end_lineno or 0, "")
        for name, annotation, value in _assigned(statement):
            found[name] = Parameter(
                name=name,
                kinds=_annotated(annotation) if annotation else _kinds_of(value),
                choices=_choices(annotation),
                default=ast.unparse(value),
                comment=comment,
            )
    return tuple(found.values())


def check_parameters(values: Mapping[str, Any], known: Iterable[Parameter], where: str) -> dict[str, Any]:
    """The values as the notebook gets them.

    Raises:
        ConfigError: a name the notebook does not declare, naming the nearest, or a value of another kind.
    """
    by_name = {parameter.name: parameter for parameter in known}
    for name in values:
        find_parameter(name, by_name.values(), where)
    return {name: by_name[name].check(value) for name, value in values.items()}


def find_parameter(name: str, known: Iterable[Parameter], where: str) -> Parameter:
    """The parameter of that name.

    Raises:
        ConfigError: there is none, naming the nearest, or the notebook declares none.
    """
    by_name = {parameter.name: parameter for parameter in known}
    if not by_name:
        raise ConfigError(
            f"{where} has no cell tagged 'parameters': add the tag to the cell with the defaults"
        )
    if name not in by_name:
        raise unknown(f"parameter of {where}", name, by_name)
    return by_name[name]


def plain_value(name: str, value: Any) -> Any:
    """A value as JSON knows it: paths as text, tuples as lists, numpy's numbers as numbers.

    Raises:
        ConfigError: it is something else.
    """
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, dt.date):  # YAML reads dates as such
        return value.isoformat()
    if isinstance(value, list | tuple | set):
        return [plain_value(name, each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): plain_value(name, each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(
            f"parameter {name!r}: {value} is no number that can be compared; use None for what is not known"
        )
    if isinstance(value, str) and any("\ud800" <= mark <= "\udfff" for mark in value):
        raise ConfigError(f"parameter {name!r}: {value!r} is no text in UTF-8; write it anew")
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ConfigError(
        f"parameter {name!r}: a {type(value).__name__} cannot be written into a notebook; give numbers, texts, lists or dicts"
    )


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool) and kind != "bool":
        return False
    return isinstance(value, _TYPES[kind])


def _readings(text: str) -> Iterable[Any]:
    """What a text may mean, the narrowest meaning first and the text itself last."""
    if text.lower() in _CONSTANTS:
        yield _CONSTANTS[text.lower()]
    for read in (int, float, json.loads):
        try:
            value = read(text)
        except ValueError:
            continue
        if not isinstance(value, float) or math.isfinite(value):
            yield value
    yield text


def _assigned(statement: ast.stmt) -> Iterable[tuple[str, ast.expr | None, ast.expr]]:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        yield statement.target.id, statement.annotation, statement.value
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, None, statement.value


def _kinds_of(default: ast.expr) -> tuple[str, ...]:
    try:
        value = ast.literal_eval(default)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ()
    kind = _NAMES.get(type(value).__name__, "")
    return (kind,) if kind else ()


def _annotated(annotation: ast.expr) -> tuple[str, ...]:
    """The kinds an annotation allows; none where it names something else."""
    kinds: list[str] = []
    for part in _alternatives(annotation):
        name = part.attr if isinstance(part, ast.Attribute) else part.id if isinstance(part, ast.Name) else ""
        name = "None" if isinstance(part, ast.Constant) and part.value is None else name
        if name not in _NAMES:
            return ()
        kinds.append(_NAMES[name])
    return tuple(dict.fromkeys(kinds))


def _alternatives(annotation: ast.expr) -> Iterable[ast.expr]:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        yield from _alternatives(ast.parse(annotation.value, mode="eval").body)
    elif isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        yield from _alternatives(annotation.left)
        yield from _alternatives(annotation.right)
    elif isinstance(annotation, ast.Subscript) and _last_name(annotation.value) in ("Optional", "Union"):
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        for each in inner:
            yield from _alternatives(each)
        if _last_name(annotation.value) == "Optional":
            yield ast.Constant(None)
    elif isinstance(annotation, ast.Subscript) and _last_name(annotation.value) != "Literal":
        yield annotation.value
    else:
        yield annotation


def _choices(annotation: ast.expr | None) -> tuple[str | int | bool, ...]:
    if not isinstance(annotation, ast.Subscript) or _last_name(annotation.value) != "Literal":
        return ()
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    values = tuple(each.value for each in inner if isinstance(each, ast.Constant))
    return tuple(value for value in values if isinstance(value, str | int))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return every[0] if len(every) == 1 else f"{', '.join(every[:-1])} or {every[-1]}"
