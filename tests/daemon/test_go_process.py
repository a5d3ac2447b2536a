"""Entries that each version of go-process can read, and what the registry says where it can't write or show one."""

import errno
import fcntl
import json
import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_process._core import DaemonError, OptionError, RegistryError
from trio_process._daemon import Daemon, DaemonEntry, PIDFile, Registry
from trio_process._daemon.registry.entry import decode, encode, from_fields


@pytest.fixture
def daemons(tmp_path):
    return Registry(tmp_path / "daemons")


class Unreadable(Exception):
    """What makes an early go-process delete an entry."""


def early_go_process(data):
    """Return the pairs that the parser of go-process at f94b83f finds: it knows flat objects, and no surrogate pairs."""
    text = data.strip()
    if not text.startswith(b"{") or not text.endswith(b"}"):
        raise Unreadable
    values, index = {}, skip(text, 1)
    while text[index : index + 1] != b"}":
        key, index = early_string(text, index)
        index = skip(text, index)
        if text[index : index + 1] != b":":
            raise Unreadable
        index = skip(text, index + 1)
        if text[index : index + 1] == b'"':
            values[key], index = early_string(text, index)
        else:
            start = index
            while index < len(text) and text[index] not in b",}":
                index += 1
            values[key] = text[start:index].strip().decode()
        index = skip(text, index)
        if text[index : index + 1] == b",":
            index = skip(text, index + 1)
        elif text[index : index + 1] != b"}":
            raise Unreadable
    int(values["pid"])
    datetime.fromisoformat(values["started"])
    return values


def skip(text, index):
    while index < len(text) and text[index] in b" \n\r\t":
        index += 1
    return index


def early_string(text, start):
    if text[start : start + 1] != b'"':
        raise Unreadable
    found, index = b"", start + 1
    while text[index : index + 1] != b'"':
        if text[index : index + 1] != b"\\":
            found += text[index : index + 1]
            index += 1
            continue
        escaped = text[index + 1 : index + 2]
        if escaped == b"u":
            char = chr(int(text[index + 2 : index + 6], 16))
            found += char.encode("utf-8", "replace") if not 0xD800 <= ord(char) <= 0xDFFF else "\ufffd".encode()
            index += 6
        elif escaped in b'"\\/bfnrt':
            found += dict(zip(b'"\\/bfnrt', (b'"', b"\\", b"/", b"\b", b"\f", b"\n", b"\r", b"\t"), strict=True))[
                escaped[0]
            ]
            index += 2
        else:
            raise Unreadable
    return found.decode("utf-8", "replace"), index + 1


NESTED = [
    {"tags": ["a", "b"]},
    {"parent": {"name": "x", "pid": 1}},
    {"deep": [{"pid": 1, "x": [[], {}, None, 1.5, True, 'a "quoted" text, with } and ]']}]},
    {"empty": [], "none": {}, "text": "pid", "number": 1, "nothing": None, "yes": True},
    {"looks": '["nested"]', "pid2": {"pid": "1"}, "ünï😀": ["😀"]},
]


@pytest.mark.parametrize("extra", NESTED)
def test_nested_values_come_back_and_an_early_go_process_reads_over_them(daemons, extra):
    with daemons.registered(DaemonEntry("x", "y", extra=extra)):
        values = early_go_process((daemons.directory / "x-y.json").read_bytes())
        assert (values["code"], values["daemon"], values["pid"]) == ("x", "y", str(os.getpid()))
        assert daemons.get("x", "y").extra == extra
        assert [entry.extra for entry in daemons.list()] == [extra]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.text(min_size=1, max_size=8).filter(
    lambda name: name not in decodable and not name.startswith("trio_process.")
)
decodable = {"code", "daemon", "pid", "health", "project", "binary", "started"}


@given(st.dictionaries(names, json_values, max_size=4))
def test_whatever_is_in_extra_comes_back_and_no_inner_pid_is_read(extra):
    entry = DaemonEntry("x", "y", pid=4711, started=datetime(2026, 1, 1, tzinfo=UTC), extra=extra)
    data = encode(entry)
    assert early_go_process(data)["pid"] == "4711"
    assert from_fields(decode(data), 0) == entry


def test_flat_values_are_written_as_they_were(daemons):
    flat = {"version": "1.2", "port": 8080, "load": 0.5, "beta": True, "note": None, "list": "[1]"}
    daemons.register(DaemonEntry("x", "y", extra=flat))
    fields = json.loads((daemons.directory / "x-y.json").read_bytes())
    assert {name: fields[name] for name in flat} == flat
    assert daemons.get("x", "y").extra == flat


def test_a_nested_value_that_another_program_changed_is_the_text_it_wrote(daemons):
    daemons.register(DaemonEntry("x", "y", extra={"tags": ["a"]}))
    path = daemons.directory / "x-y.json"
    fields = json.loads(path.read_bytes()) | {"tags": "not JSON"}
    path.write_text(json.dumps(fields))
    assert daemons.get("x", "y").extra == {"tags": "not JSON"}


@pytest.mark.parametrize("name", ["trio_process.boot", "trio_process.start", "trio_process.x"])
def test_names_of_our_own_are_reserved(name):
    with pytest.raises(OptionError, match="are reserved"):
        DaemonEntry("x", "y", extra={name: "1"})


@pytest.mark.parametrize("text", ["emoji😀", "ünï", "日本語", "a\u2028b\x7f"])
def test_entries_are_utf_8_which_an_early_go_process_reads(daemons, text):
    daemons.register(DaemonEntry(text, "y", project=f"/{text}"))
    (path,) = daemons.directory.iterdir()
    data = path.read_bytes()
    assert text.encode() in data
    assert early_go_process(data)["project"] == f"/{text}"
    assert daemons.get(text, "y").project == f"/{text}"


@pytest.mark.parametrize("text", ["/srv/\udcff", "\ud83d", "a\udc80b"])
def test_lone_surrogates_alone_are_escapes(daemons, text):
    daemons.register(DaemonEntry("x", "y", project=text, binary="/ü"))
    data = (daemons.directory / "x-y.json").read_bytes()
    assert data.decode("utf-8")
    assert b"\\ud" in data
    assert "/ü".encode() in data
    assert daemons.get("x", "y").project == text


@pytest.mark.parametrize("started", [datetime(2020, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC), None])
async def test_a_daemon_keeps_the_start_that_it_was_given(daemons, started):
    before = datetime.now(UTC)
    async with Daemon(registry=daemons, registry_entry=DaemonEntry("x", "y", started=started), signals=False):
        found = daemons.get("x", "y").started
    assert found == started if started else found >= before


# what can't be shown is named once


BAD = [
    {"code": "..", "daemon": "b"},
    {"code": "a/../b", "daemon": "b"},
    {"code": "a", "daemon": "b", "started": "9999-12-31T23:59:59-01:00"},
    {"code": "a", "daemon": "b", "started": "0001-01-01T00:00:00+01:00"},
    {"code": "a", "daemon": ""},
]


@pytest.mark.parametrize("fields", BAD)
def test_an_entry_that_cannot_be_shown_is_named_once_and_again_when_it_changes(daemons, caplog, fields):
    daemons.directory.mkdir()
    path = daemons.directory / "a-b.json"
    path.write_text(json.dumps({"pid": os.getpid(), "started": "2026-11-29T00:00:00Z"} | fields))
    for _ in range(3):
        assert daemons.list() == []
        assert Registry(daemons.directory).list() == []
    assert caplog.text.count("is not shown") == 1
    assert str(path) in caplog.text
    path.write_text(path.read_text() + " ")
    daemons.list()
    assert caplog.text.count("is not shown") == 2


# file systems without locks


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_the_error_says_so(tmp_path, daemons, monkeypatch, number):
    daemons.register(DaemonEntry("a", "b"))

    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / "old.pid").write_text("\n")
    for path in ("new.pid", "old.pid"):
        with pytest.raises(DaemonError, match=r"has no locks \(flock\): choose a pid_file on a local disk"):
            PIDFile(tmp_path / path).acquire()
    with pytest.raises(RegistryError, match=r"has no locks \(flock\): use a directory on a local disk"):
        daemons.registered(DaemonEntry("a", "c")).__enter__()
    assert [entry.daemon for entry in daemons.list()] == ["b"]  # without a lock, and so without a need of one
    assert sorted(os.listdir(tmp_path)) == ["daemons", "old.pid"]
