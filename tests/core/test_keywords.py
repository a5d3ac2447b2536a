"""The typed keywords are those that the classes take: the same names, and defaults that the annotations allow."""

import types
import typing
from enum import Enum

import attrs
import pytest

from trio_process import DaemonOptions, OptionError, RunKeywords, RunOptions
from trio_process._core import AdoptKeywords, RunInKeywords, RunWithEnvKeywords
from trio_process._daemon.keywords import DaemonKeywords
from trio_process.exec import Command
from trio_process.exec.keywords import CommandKeywords
from trio_process.testing import Behaviour
from trio_process.testing.keywords import BehaviourKeywords


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


WITH_METHODS = {"command", "args", "cwd", "env", "stdin", "stdout", "stderr", "timeout", "disable_capture", "detach"}


@pytest.mark.parametrize(
    ("keywords", "options", "less"),
    [
        (RunKeywords, RunOptions, {"command", "args"}),
        (RunInKeywords, RunOptions, {"command", "args", "cwd"}),
        (RunWithEnvKeywords, RunOptions, {"command", "args", "cwd", "env"}),
        (AdoptKeywords, RunOptions, {"args"}),
        (CommandKeywords, RunOptions, WITH_METHODS),
        (DaemonKeywords, DaemonOptions, set()),
        (BehaviourKeywords, Behaviour, set()),
    ],
)
def test_the_keywords_are_the_fields_of_the_class(keywords, options, less):
    fields = {field.name: field for field in attrs.fields(options) if field.name not in less}
    hints = typing.get_type_hints(keywords)
    assert hints.keys() == fields.keys()
    assert not keywords.__required_keys__
    for name, hint in hints.items():
        default = default_of(fields[name])
        assert default is attrs.NOTHING or accepts(hint, default), (name, hint, default)


@pytest.mark.parametrize("option", sorted(WITH_METHODS))
def test_what_has_a_method_of_its_own_is_not_for_with_options(option):
    with pytest.raises(OptionError, match=f"{option} is not for with_options; use "):
        Command("x").with_options(**{option: None})
