"""Expand ``${NAME}``, ``${NAME:-default}`` and ``${matrix.NAME}`` in the strings of a pipeline file.

A default may contain these placeholders in turn, to any depth; as in a shell, it is evaluated only if it is used. It
ends at the first ``}`` that doesn't close an inner placeholder, and a plain ``{`` is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, final

import attrs

from ..._core import nearest
from .allowance import CHARACTERS, Allowance
from .value_types import Report

_TOKEN: Final = re.compile(r"\$\$\{|\$\{\{[^}$]*\}\}?|\$\{([A-Za-z_][A-Za-z0-9_]*):-|\$\{([^${}]*)\}|\$\{|\}")
_MATRIX_PLACE: Final = re.compile(
    r"\$\{\{[^}$]*\}\}?|\$\{(matrix\.[^}$]*)\}"
)  # no `$`: one that isn't closed ends at the next
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AXIS: Final = "matrix."
_UNCLOSED: Final = '"${" without a "}"; put quotes around a default with blanks; a plain "${" is written "$${"'

OWN: Final = {"file.dir"}
"""The names that concern the file itself; `file.dir` is its directory."""


@final
@attrs.frozen
class Names:
    """The names that may be used in ``${...}``.

    Attributes:
        variables: The variables that a task sees.
        matrix: The task's combination of the matrix.
        allowance: How long the texts with variables may be, all together.
    """

    variables: Mapping[str, str]
    matrix: Mapping[str, str]
    allowance: Allowance

    def filled(self, value: str, report: Report, where: tuple[str | int, ...]) -> str:
        """Return a part of such a text; an empty one if it would be too much, which is reported."""
        return value if self.allowance.take(CHARACTERS, len(value), report, *where) else ""


class _Open(NamedTuple):
    """A placeholder whose default is being parsed."""

    value: str | None  # the variable's value; if it has one, the default isn't used
    is_used: bool
    before: list[str]  # the surrounding text so far


def interpolate(text: str, names: Names, report: Report, *where: str | int) -> str:
    """Return `text` with its variables filled in; undefined and malformed ones are reported and left unchanged."""
    if "${" not in text or not names.filled(text, report, where):
        return text
    parts: list[str] = []
    stack: list[_Open] = []
    is_used = True
    end = 0
    for match in _TOKEN.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        piece, name, body = match[0], match[1], match[2]
        if piece == "$${":
            parts.append("${")
        elif piece == "}":
            if stack:
                default = "".join(parts)
                value, is_used, parts = stack.pop()
                parts.append(names.filled(value, report, where) if value else default)
            else:
                parts.append(piece)
        elif name is not None:
            value = names.variables.get(name)
            stack.append(_Open(value, is_used, parts))
            is_used, parts = is_used and not value, []
        elif piece == "${":
            report(_UNCLOSED, *where)
            parts.append(piece)
        elif is_used:
            parts.append(_value(piece, body, names, report, where))
    if stack:
        report(_UNCLOSED, *where)
        return text
    return "".join(parts) + text[end:]


def interpolate_matrix(text: str, names: Names, report: Report, *where: str | int) -> str:
    """Return `text` with only its ``${matrix.NAME}`` filled in: for scripts and names."""
    if "${" not in text or not names.filled(text, report, where):
        return text
    only = Names({}, names.matrix, names.allowance)
    return _MATRIX_PLACE.sub(lambda match: _value(match[0], match[1], only, report, where), text)


def _value(whole: str, body: str | None, names: Names, report: Report, where: tuple[str | int, ...]) -> str:
    found = _look_up(whole, body, names.variables, names.matrix)
    if isinstance(found, str):
        return names.filled(found, report, where)
    report(found.fault, *where)
    return whole


class _Missing(NamedTuple):
    fault: str


def _look_up(whole: str, body: str | None, variables: Mapping[str, str], matrix: Mapping[str, str]) -> str | _Missing:
    """Return the replacement for `whole`, which is ``${body}`` if it is well formed."""
    if body is None:
        return _Missing(f"{whole} is not known here; a variable is ${{NAME}}, a value of the matrix ${{matrix.NAME}}")
    if body.startswith(_AXIS):
        axis = body[len(_AXIS) :]
        known = nearest(axis, matrix) if matrix else "; this task has no `matrix`"
        return matrix[axis] if axis in matrix else _Missing(f"{whole}: the matrix has no {axis!r}{known}")
    value = variables.get(body)
    if value is not None and (body in OWN or _NAME.fullmatch(body)):
        return value
    if not _NAME.fullmatch(body):
        hint = nearest(body, OWN) if body.startswith("file") else ""
        return _Missing(
            f"{whole} is not a variable; write ${{NAME}}, ${{NAME:-default}}, or $${{ for a plain ${{{hint}"
        )
    if body in matrix:
        return _Missing(f"{whole}: a value of the matrix is written ${{matrix.{body}}}")
    return _Missing(f"{whole}: the environment has no {body}; set it, or write ${{{body}:-default}}")
