"""`${NAME}`, `${NAME:-default}` and `${matrix.NAME}` in the strings of a pipeline file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..._core import nearest
from .value_types import Report

_PLACE: Final = re.compile(r"\$\$\{|\$\{\{[^}]*\}\}?|\$\{([^}]*)\}|\$\{")
_MATRIX_PLACE: Final = re.compile(r"\$\{\{[^}]*\}\}?|\$\{(matrix\.[^}]*)\}")
_BODY: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_AXIS: Final = "matrix."


def interpolate(
    text: str, variables: Mapping[str, str], matrix: Mapping[str, str], report: Report, *where: str | int
) -> str:
    """Return `text` with its variables filled in; each one that can't be is reported, and left as it is."""

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        return _value(match, variables, matrix, report, where)

    return _PLACE.sub(fill, text) if "${" in text else text


def interpolate_matrix(text: str, matrix: Mapping[str, str], report: Report, *where: str | int) -> str:
    """Return `text` with its `${matrix.NAME}` filled in, and all else left as it is: for scripts and names."""
    if "${" not in text:
        return text
    return _MATRIX_PLACE.sub(lambda match: _value(match, {}, matrix, report, where), text)


def _value(
    match: re.Match[str],
    variables: Mapping[str, str],
    matrix: Mapping[str, str],
    report: Report,
    where: tuple[str | int, ...],
) -> str:
    found = _look_up(match[0], match[1], variables, matrix)
    if isinstance(found, str):
        return found
    report(found.fault, *where)
    return match[0]


class _Missing(NamedTuple):
    fault: str


def _look_up(  # noqa: PLR0911 - a flat list of cases
    whole: str, body: str | None, variables: Mapping[str, str], matrix: Mapping[str, str]
) -> str | _Missing:
    """Return what stands for `whole`, which is `${body}` if it is well formed."""
    if body is None:
        if whole.startswith("${{"):
            return _Missing(
                f"{whole} is not known here; a variable is ${{NAME}}, a value of the matrix ${{matrix.NAME}}"
            )
        return _Missing('"${" without a "}"; put quotes around a default with blanks; a plain "${" is written "$${"')
    if body.startswith(_AXIS):
        axis = body[len(_AXIS) :]
        known = nearest(axis, matrix) if matrix else "; this task has no `matrix`"
        return matrix[axis] if axis in matrix else _Missing(f"{whole}: the matrix has no {axis!r}{known}")
    parts = _BODY.fullmatch(body)
    if parts is None:
        return _Missing(f"{whole} is no variable; write ${{NAME}}, ${{NAME:-default}}, or $${{ for a plain ${{")
    name, default = parts[1], parts[2]
    value = variables.get(name)
    if default is not None:
        return value or default
    if value is None and name in matrix:
        return _Missing(f"{whole}: a value of the matrix is written ${{matrix.{name}}}")
    if value is None:
        return _Missing(f"{whole}: the environment has no {name}; set it, or write ${{{name}:-default}}")
    return value
