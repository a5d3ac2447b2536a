"""The typed keywords are those that the classes take: the same names, and defaults that the annotations allow."""

import types
import typing
from enum import Enum

import attrs
import pytest

from trio_process import RunKeywords, RunOptions
from trio_process._core import AdoptKeywords, RunInKeywords, RunWithEnvKeywords


def accepts(hint, value):
    """Return whether an annotation, as far as it goes by classes, allows a value."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(accepts(part, value) for part in typing.get_args(hint))
    if hint in (typing.Any, None):
        return hint is typing.Any or value is None
    kind = typing.get_origin(hint) or hint
    if kind is float:
        kind = (int, float)
    return isinstance(value, kind) and not (isinstance(value, Enum) and kind is str)


def default_of(field):
    return field.default.factory() if isinstance(field.default, attrs.Factory) else field.default


@pytest.mark.parametrize(
    ("keywords", "less"),
    [
        (RunKeywords, {"command", "args"}),
        (RunInKeywords, {"command", "args", "cwd"}),
        (RunWithEnvKeywords, {"command", "args", "cwd", "env"}),
        (AdoptKeywords, {"args"}),
    ],
)
def test_the_keywords_are_the_fields_of_run_options(keywords, less):
    fields = {field.name: field for field in attrs.fields(RunOptions) if field.name not in less}
    hints = typing.get_type_hints(keywords)
    assert hints.keys() == fields.keys()
    assert not keywords.__required_keys__
    for name, hint in hints.items():
        default = default_of(fields[name])
        assert default is attrs.NOTHING or accepts(hint, default), (name, hint, default)
