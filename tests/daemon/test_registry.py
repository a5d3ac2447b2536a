"""The registry: shared with go-process and with ourselves, and no live entry ever vanishes."""

import errno
import json
import os
import pwd
import re
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import in_child

from trio_process._core import OptionError, RegistryError, started_at
from trio_process._core.system import identity
from trio_process._daemon import DaemonEntry, Registry, default_registry, file_names
from trio_process._daemon.registry import directory as registry_directory
from trio_process._daemon.registry import registry, store
from trio_process._daemon.registry.entry import MAX_SIZE, decode, encode, from_fields

# 3.12 warns of threads that other tests left idle; the children here do next to nothing
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

ROOT = Path(__file__).parents[2]
NO_PROCESS = 2**22 + 1  # above what Linux gives away

# RFC 3339, section 5.6, as Go's time.Time reads it: capital T and Z, and at most nine decimals are kept
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@pytest.fixture
def daemons(tmp_path):
    return Registry(tmp_path / "core" / "daemons")


def files_of(daemons):
    return sorted(os.listdir(daemons.directory))


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def go_write(daemons, code, daemon, pid, started="2026-03-01T12:30:45.123456789+01:00", indent=2, **omittable):
    """Write an entry as go-process does: in place, in Go's order, empty fields left out."""
    fields = {"code": code, "daemon": daemon, "pid": pid, **omittable, "started": started}
    daemons.directory.mkdir(parents=True, exist_ok=True)
    path = daemons.directory / (f"{code}-{daemon}".replace("/", "-") + ".json")
    path.write_text(json.dumps(fields, indent=indent, separators=None if indent else (",", ":")))
    return path


def go_read(path):
    """Read an entry by go-process's rules: the types of its struct, and RFC 3339."""
    fields = json.loads(path.read_bytes().decode("utf-8"))
    types = {"code": str, "daemon": str, "pid": int, "health": str, "project": str, "binary": str, "started": str}
    for name, kind in types.items():
        assert name not in fields or type(fields[name]) is kind
    assert RFC_3339.fullmatch(fields["started"])
    return fields


class Other:
    """A forked process that holds an entry with `registered` until it is killed."""

    def __init__(self, daemons, entry):
        ready, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with daemons.registered(entry):
                os.write(tell, b"x")
                signal.pause()
        os.close(tell)
        assert os.read(ready, 1) == b"x"
        os.close(ready)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def kill(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


# entries


def test_an_entry_has_the_defaults_of_the_contract():
    entry = DaemonEntry(code="myapp", daemon="server")
    assert (entry.pid, entry.health, entry.project, entry.binary, entry.started) == (None, "", "", "", None)
    assert entry.extra == {}
    assert entry == DaemonEntry("myapp", "server")
    assert hash(entry) == hash(DaemonEntry("myapp", "server"))


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        (name, bad)
        for name in ("code", "daemon")
        for bad in ("", "a\0b", "..", "../x", "../../x", "a/../b", "a/..", "\ud800", 1)
    ]
    + [("pid", bad) for bad in (0, -1, 2**31, True, "1", 1.0)]
    + [(name, bad) for name in ("health", "project", "binary") for bad in (None, 1, "a\0")]
    + [("started", bad) for bad in ("now", 0, datetime(2026, 1, 1))]
    + [("started", datetime.min.replace(tzinfo=timezone(timedelta(hours=1))))]
    + [("extra", bad) for bad in (None, [], {"pid": 1}, {1: 2}, {"x": object()}, {"x": float("nan")}, {"x": b""})],
)
def test_a_bad_value_is_refused_by_its_name(field, bad):
    values = {"code": "myapp", "daemon": "server"} | {field: bad}
    with pytest.raises(OptionError, match=field):
        DaemonEntry(**values)


@pytest.mark.parametrize(
    "name", ["...", "a..b", ".hidden", "a/b", "/", "-", " ", "\n", "ä", "a" * 300, "x.json", "*", "%s"]
)
def test_every_other_name_can_be_registered(daemons, name):
    for code, daemon in ((name, "server"), ("myapp", name)):
        daemons.register(DaemonEntry(code, daemon))
        assert daemons.get(code, daemon).pid == os.getpid()
        assert [(entry.code, entry.daemon) for entry in daemons.list()] == [(code, daemon)]
        assert os.listdir(daemons.directory.parent) == ["daemons"]
        daemons.unregister(code, daemon)
        assert files_of(daemons) == []


@pytest.mark.parametrize(("code", "daemon"), [("", "x"), ("x", ""), ("../../x", "x"), ("x", ".."), ("a\0", "x")])
def test_a_key_that_none_can_be_is_refused_in_every_question(daemons, code, daemon):
    for ask in (daemons.get, daemons.unregister):
        with pytest.raises(OptionError):
            ask(code, daemon)


# what is written


def test_the_file_is_what_go_process_reads(daemons):
    entry = DaemonEntry(
        "my/app", "serve/r", started=datetime(2026, 3, 1, 12, 30, 45, 120, timezone(timedelta(hours=2)))
    )
    daemons.register(entry)
    path = daemons.directory / "my-app-serve-r.json"
    fields = go_read(path)
    ours = {name: fields.pop(name) for name in list(fields) if name.startswith("trio_process.")}
    assert fields == {
        "code": "my/app",
        "daemon": "serve/r",
        "pid": os.getpid(),
        "started": "2026-03-01T10:30:45.000120Z",
    }
    assert all(isinstance(value, str) for value in ours.values())  # an early go-process knows flat objects alone
    assert path.read_text().startswith('{\n  "code": "my/app",\n  "daemon"')
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert files_of(daemons) == [path.name]


def test_all_fields_come_in_the_order_of_go_process_and_unknown_ones_after_them(daemons):
    daemons.register(
        DaemonEntry(
            "a",
            "b",
            health="127.0.0.1:9",
            project="/p",
            binary="/b",
            extra={"version": "1.2", "nested": {"x": [1, None]}},
        )
    )
    fields = go_read(daemons.directory / "a-b.json")
    known = ["code", "daemon", "pid", "health", "project", "binary", "started", "version", "nested"]
    assert [name for name in fields if not name.startswith("trio_process.")] == known
    assert daemons.get("a", "b").extra == {"version": "1.2", "nested": {"x": [1, None]}}


def test_what_is_registered_comes_back_equal(daemons):
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, timezone(timedelta(hours=-3, minutes=-30)))
    entry = DaemonEntry(
        "ä",
        "日本",
        pid=1,
        health="[::1]:1",
        project="/srv/\udcff",
        binary='/b "x"\n\\',
        started=moment,
        extra={"ü": "é"},
    )
    assert daemons.register(entry) == entry
    assert daemons.get("ä", "日本") == entry
    assert daemons.list() == [entry]


def test_pid_and_start_are_filled_in_when_it_is_registered(daemons):
    before = datetime.now(UTC)
    written = daemons.register(DaemonEntry("a", "b"))
    assert written.pid == os.getpid()
    assert before <= written.started <= datetime.now(UTC)
    assert daemons.get("a", "b") == written


def test_an_offset_with_seconds_is_written_in_utc(daemons):
    local_mean_time = timezone(timedelta(hours=5, minutes=53, seconds=28))
    entry = DaemonEntry("a", "b", started=datetime(1900, 1, 1, tzinfo=local_mean_time))
    daemons.register(entry)
    assert go_read(daemons.directory / "a-b.json")["started"] == "1899-12-31T18:06:32Z"
    assert daemons.get("a", "b").started == entry.started


def test_the_last_registration_of_a_key_wins(daemons):
    daemons.register(DaemonEntry("a", "b", health="old", project="/p"))
    daemons.register(DaemonEntry("a", "b", health="new"))
    assert [(entry.health, entry.project) for entry in daemons.list()] == [("new", "")]
    assert files_of(daemons) == ["a-b.json"]


def test_an_entry_that_no_reader_would_take_is_not_written(daemons):
    with pytest.raises(OptionError, match="extra is too large"):
        daemons.register(DaemonEntry("a", "b", extra={"x": "y" * MAX_SIZE}))
    assert daemons.list() == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(lambda name: ".." not in name)
TEXTS = st.text(st.characters(exclude_characters="\0"))
OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
KNOWN = {"code", "daemon", "pid", "health", "project", "binary", "started"}
ENTRIES = st.builds(
    DaemonEntry,
    code=WORDS,
    daemon=WORDS,
    pid=st.integers(1, 2**31 - 1),
    health=TEXTS,
    project=TEXTS,
    binary=TEXTS,
    started=st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=OFFSETS),
    extra=st.dictionaries(st.text().filter(lambda name: name not in KNOWN), JSON, max_size=3),
)


@given(ENTRIES)
def test_every_entry_survives_its_file_and_is_in_go_process_shape(entry):
    data = encode(entry)
    fields = json.loads(data)
    assert RFC_3339.fullmatch(fields["started"])
    assert {"code", "daemon", "pid", "started"} <= fields.keys()
    assert all(fields.get(name, "absent") for name in ("health", "project", "binary"))
    assert from_fields(decode(data), 0) == entry


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_content_makes_the_reader_fail(data):
    try:
        fields = decode(data)
        entry = from_fields(fields, 0)
    except ValueError:
        return
    assert entry.code == fields["code"]


# what is read


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("2026-03-01T12:30:45.123456789+01:00", datetime(2026, 3, 1, 11, 30, 45, 123456, UTC)),
        ("2026-03-01T12:30:45.999999999Z", datetime(2026, 3, 1, 12, 30, 45, 999999, UTC)),
        ("2026-03-01T12:30:45.5-11:30", datetime(2026, 3, 2, 0, 0, 45, 500000, UTC)),
        ("2026-03-01T12:30:45Z", datetime(2026, 3, 1, 12, 30, 45, 0, UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_entry_of_go_process_is_read(daemons, indent, started, expected):
    go_write(daemons, "core/ide", "mcp", os.getpid(), started, indent, health="127.0.0.1:9101", binary="/usr/bin/core")
    entry = daemons.get("core/ide", "mcp")
    assert (entry.code, entry.daemon, entry.pid, entry.started) == ("core/ide", "mcp", os.getpid(), expected)
    assert (entry.health, entry.project, entry.binary, entry.extra) == ("127.0.0.1:9101", "", "/usr/bin/core", {})
    assert daemons.list() == [entry]


def test_unknown_keys_nulls_and_a_missing_start_are_read(daemons):
    path = go_write(daemons, "a", "b", os.getpid(), started=None, health=None, config={"port": 1})
    entry = daemons.get("a", "b")
    assert (entry.health, entry.extra) == ("", {"config": {"port": 1}})
    assert entry.started.timestamp() == pytest.approx(path.stat().st_mtime)


def test_the_list_is_sorted_by_start_whatever_the_offsets(daemons):
    assert daemons.list() == []
    go_write(daemons, "c", "d", os.getpid(), "2026-03-01T12:00:00+02:00")
    go_write(daemons, "a", "d", os.getpid(), "2026-03-01T11:00:00Z")
    go_write(daemons, "b", "d", os.getpid(), "2026-03-01T10:00:00.000001-01:00")
    go_write(daemons, "e", "d", os.getpid(), "0001-01-01T00:00:00Z")
    assert [entry.code for entry in daemons.list()] == ["e", "c", "a", "b"]


def test_a_dead_process_and_no_pid_are_pruned_at_once(daemons):
    for number, pid in enumerate([NO_PROCESS, 0, -1, 2**40]):
        go_write(daemons, f"app{number}", "d", pid)
    assert daemons.get("app0", "d") is None
    assert files_of(daemons) == [f"app{number}-d.json" for number in (1, 2, 3)]
    assert daemons.list() == []
    assert files_of(daemons) == []


@pytest.mark.parametrize("age", [-3600, 3, 10**8])
def test_the_time_of_an_entry_without_a_lock_says_nothing(daemons, age):
    with subprocess.Popen(["sleep", "60"]) as child:
        go = go_write(daemons, "go", "d", child.pid)
        daemons.register(DaemonEntry("ours", "d", pid=child.pid))
        for path in (go, daemons.directory / "ours-d.json"):
            os.utime(path, (started_at(child.pid) - age,) * 2)
        assert sorted(entry.code for entry in daemons.list()) == ["go", "ours"]
        child.kill()


def test_a_zombie_is_dead(daemons):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    go_write(daemons, "a", "b", child)
    assert daemons.get("a", "b") is None
    os.waitpid(child, 0)


BAD_PIDS = [b'{"code":"a","daemon":"b","pid":%s}' % pid for pid in (b'"1"', b"1.5", b"NaN")]
NO_ENTRIES = [
    b"",
    b"{",
    b'{"code": "a"',
    b"null",
    b"[]",
    b"\x00\xff",
    b'{"pid": 1}',
    b"[" * 100_000,
    b" " * (MAX_SIZE + 1),
]


@pytest.mark.parametrize("content", NO_ENTRIES + BAD_PIDS, ids=range(12))
def test_a_file_that_cannot_be_read_is_left_for_a_minute_as_somebody_may_be_writing_it(daemons, content):
    daemons.directory.mkdir(parents=True)
    path = daemons.directory / "a-b.json"
    path.write_bytes(content)
    assert (daemons.get("a", "b"), daemons.list()) == (None, [])
    age(path, 50)
    assert (daemons.get("a", "b"), daemons.list()) == (None, [])
    assert path.exists()
    age(path, 70)
    assert daemons.list() == []
    assert not path.exists()


def test_a_live_entry_with_a_value_that_we_refuse_is_not_shown_and_not_removed(daemons, caplog):
    path = go_write(daemons, "a", "", 1)
    age(path, 70)
    assert daemons.list() == []
    assert path.exists()
    assert "daemon must not be empty" in caplog.text


def test_other_files_and_folders_are_nobodys_business(daemons):
    daemons.directory.mkdir(parents=True)
    (daemons.directory / "folder.json").mkdir()
    os.mkfifo(daemons.directory / "fifo.json")
    (daemons.directory / "dangling.json").symlink_to("nowhere")
    (daemons.directory / "notes.txt").write_text("x")
    for name in os.listdir(daemons.directory):
        if name != "dangling.json":
            age(daemons.directory / name, 1000)
    before = files_of(daemons)
    assert daemons.list() == []
    assert daemons.get("folder", "x") is None
    assert files_of(daemons) == before


def test_temporary_files_of_the_dead_are_removed_after_a_minute(daemons):
    daemons.register(DaemonEntry("a", "b"))
    left_over = daemons.directory / ".trio-process-0123456789abcdef.tmp"
    for content in (
        b"",
        b'{"code":"x","daemon":"y","pid":%d}' % os.getpid(),
        b'{"code":"x","daemon":"y","pid":4194305}',
    ):
        left_over.write_bytes(content)
        assert len(daemons.list()) == 1
        assert left_over.exists()
        age(left_over, 70)
        assert len(daemons.list()) == 1
        assert not left_over.exists()


def test_a_missing_directory_is_empty(tmp_path):
    daemons = Registry(tmp_path / "missing")
    assert daemons.list() == []
    assert daemons.get("a", "b") is None
    daemons.unregister("a", "b")
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    daemons = Registry(tmp_path / "file")
    for action in (daemons.list, lambda: daemons.register(DaemonEntry("a", "b")), lambda: daemons.unregister("a", "b")):
        with pytest.raises(RegistryError, match="file"):
            action()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", ["", "a-b.json"])
def test_an_entry_that_may_not_be_read_is_an_error_and_not_a_daemon_that_does_not_run(closed):
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        daemons = Registry(directory)
        daemons.register(DaemonEntry("a", "b"))
        os.chmod(os.path.join(directory, closed), 0)

        def as_nobody():
            os.setuid(65534)
            refused = 0
            for action in (lambda: daemons.get("a", "b"), lambda: daemons.unregister("a", "b")):
                try:
                    action()
                except RegistryError as error:
                    refused += isinstance(error.__cause__, PermissionError)
            return refused == 2

        assert in_child(as_nobody) == 1


# names


def test_two_keys_that_would_share_a_file_coexist_in_any_order(daemons):
    keys = [("a-b", "c"), ("a", "b-c"), ("a/b", "c"), ("a", "b/c")]
    for code, daemon in keys:
        daemons.register(DaemonEntry(code, daemon, project=code))
    assert "a-b-c.json" in files_of(daemons)
    for _ in range(2):
        assert {(entry.code, entry.daemon) for entry in daemons.list()} == set(keys)
        assert [daemons.get(*key).project for key in keys] == [code for code, _ in keys]
        for code, daemon in reversed(keys):
            daemons.register(DaemonEntry(code, daemon, project=code))
        assert len(files_of(daemons)) == len(keys)
    for count, key in enumerate(keys, start=1):
        daemons.unregister(*key)
        assert daemons.get(*key) is None
        assert {(entry.code, entry.daemon) for entry in daemons.list()} == set(keys[count:])
    assert files_of(daemons) == []


def test_a_registered_entry_gives_way_to_no_other_key(daemons):
    with daemons.registered(DaemonEntry("a-b", "c")), daemons.registered(DaemonEntry("a", "b-c")):
        assert len(daemons.list()) == 2
        daemons.unregister("a/b", "c")
        assert len(daemons.list()) == 2
    assert files_of(daemons) == []


def test_a_dead_entry_of_another_key_gives_up_its_name(daemons):
    go_write(daemons, "a-b", "c", NO_PROCESS)
    daemons.register(DaemonEntry("a", "b-c"))
    assert files_of(daemons) == ["a-b-c.json"]
    assert daemons.get("a", "b-c")


def test_an_entry_stays_where_it_is_when_the_better_name_gets_free(daemons):
    """Else a reader that looks at one name and then at the other could miss it."""
    daemons.register(DaemonEntry("a-b", "c"))
    daemons.register(DaemonEntry("a", "b-c"))
    daemons.unregister("a-b", "c")
    before = files_of(daemons)
    daemons.register(DaemonEntry("a", "b-c", health="new"))
    assert files_of(daemons) == before
    assert daemons.get("a", "b-c").health == "new"


def test_when_every_name_is_taken_it_is_an_error_and_nobody_is_overwritten(daemons):
    first, second = file_names("a", "b-c", 255)
    daemons.register(DaemonEntry("a-b", "c"))
    daemons.register(DaemonEntry("x", "y"))
    (daemons.directory / "x-y.json").rename(daemons.directory / second)
    with pytest.raises(RegistryError, match="is taken by the entry of another daemon"):
        daemons.register(DaemonEntry("a", "b-c"))
    assert len(daemons.list()) == 2
    assert files_of(daemons) == sorted([first, second])


def test_long_names_are_shortened_and_do_not_collide(daemons):
    keys = [("a" * 300, "b"), ("a" * 300, "c"), ("a", "b" * 300), ("日" * 100, "x"), ("🐍" * 63, "y"), ("a" * 200, "b")]
    for key in keys:
        daemons.register(DaemonEntry(*key))
    assert {(entry.code, entry.daemon) for entry in daemons.list()} == set(keys)
    assert all(daemons.get(*key) for key in keys)
    assert f"{'a' * 200}-b.json" in files_of(daemons)  # as go-process names it
    for key in keys:
        daemons.unregister(*key)
    assert files_of(daemons) == []


@given(WORDS, WORDS, st.sampled_from([143, 255]))
def test_every_name_fits_and_begins_as_go_process_names_it(code, daemon, limit):
    names = file_names(code, daemon, limit)
    plain = f"{code}-{daemon}".replace("/", "-")
    assert 1 <= len(names) <= 2
    assert len(set(names)) == len(names)
    for name in names:
        assert 0 < len(os.fsencode(name)) <= limit
        assert "/" not in name
        assert name.endswith(".json")
    assert (names[0] == f"{plain}.json") == (len(f"{plain}.json".encode()) <= limit)


@given(st.text("ab-/", min_size=3, max_size=30))
def test_second_names_of_keys_that_share_the_first_never_collide(text):
    keys = {(text[:cut], text[cut + 1 :]) for cut in range(1, len(text) - 1) if text[cut] in "-/"}
    keys |= {(code.replace("/", "-"), daemon) for code, daemon in keys}
    assert len({file_names(*key, 255)[0] for key in keys}) <= 1
    assert len({file_names(*key, 255)[-1] for key in keys}) == len(keys)


# life by lock


def test_a_registered_entry_lives_in_its_block_and_is_removed_after_it(daemons):
    with daemons.registered(DaemonEntry("a", "b", health="x")) as entry:
        assert (entry.pid, entry.health) == (os.getpid(), "x")
        assert entry.started is not None
        assert daemons.get("a", "b") == entry
        go_read(daemons.directory / "a-b.json")
    assert files_of(daemons) == []


@pytest.mark.parametrize("pid", [NO_PROCESS, 2**22 + 2])
def test_the_lock_proves_life_whatever_the_pid_says(daemons, pid):
    with Other(daemons, DaemonEntry("a", "b", pid=pid)) as other:
        age(daemons.directory / "a-b.json", 10**6)
        assert daemons.get("a", "b").pid == pid
        assert len(daemons.list()) == 1
        other.kill()
        os.utime(daemons.directory / "a-b.json", (0, 0))
        assert daemons.get("a", "b") is None
        assert files_of(daemons) == []


def test_sigkill_of_the_holder_is_seen_at_once(daemons):
    with Other(daemons, DaemonEntry("a", "b")) as other:
        assert [entry.pid for entry in daemons.list()] == [other.pid]
        other.kill()
        assert daemons.list() == []


def test_the_bodys_error_goes_on_and_the_entry_is_removed(daemons):
    failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught, daemons.registered(DaemonEntry("a", "b")):
        raise failure
    assert caught.value is failure
    assert files_of(daemons) == []


def test_an_entry_that_another_took_over_is_left_to_it(daemons):
    with daemons.registered(DaemonEntry("a", "b", health="first")):
        with daemons.registered(DaemonEntry("a", "b", health="second")):
            assert daemons.get("a", "b").health == "second"
        daemons.register(DaemonEntry("a", "b", health="third"))
    assert daemons.get("a", "b").health == "third"


def test_an_entry_that_go_process_wrote_into_our_file_is_left_to_it(daemons):
    with daemons.registered(DaemonEntry("a", "b")):
        go_write(daemons, "a", "b", 1)
    assert daemons.get("a", "b").pid == 1


def test_an_entry_that_somebody_removed_is_fine(daemons):
    for remove_directory in (False, True):
        with daemons.registered(DaemonEntry("a", "b")):
            daemons.unregister("a", "b")
            if remove_directory:
                daemons.directory.rmdir()


def test_a_forked_child_that_leaves_the_block_removes_nothing(daemons):
    manager = daemons.registered(DaemonEntry("a", "b"))
    with manager:

        def leave():
            manager.__exit__(None, None, None)
            return True

        assert in_child(leave) == 1
        assert daemons.get("a", "b").pid == os.getpid()


def test_an_entry_that_cannot_be_removed_is_an_error_but_does_not_hide_the_bodys(daemons, monkeypatch):
    def fail_to_unlink(path, missing_ok=False):
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(RegistryError, match=r"could not be removed .*Permission denied"):
        with daemons.registered(DaemonEntry("a", "b")):
            monkeypatch.setattr(Path, "unlink", fail_to_unlink)
    failure = ValueError("body")
    with pytest.raises(ValueError, match="body") as caught:
        with daemons.registered(DaemonEntry("a", "b")):
            raise failure
    assert caught.value is failure
    assert "could not be removed" in failure.__notes__[0]


# many at once, and full disks


def test_twenty_processes_at_once_lose_no_live_entry_and_read_none_half(tmp_path):
    program = subprocess.run(
        [sys.executable, Path(__file__).with_name("registrars.py"), tmp_path, "20", "8"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    lines = program.stdout.splitlines()
    assert [line for line in lines if not line.startswith("done")] == []
    assert len(lines) == 20
    assert program.stderr == ""
    assert [name for name in os.listdir(tmp_path) if not name.startswith(("permanent-", "dead-"))] == []


def test_a_dead_entry_whose_key_is_registered_again_meanwhile_is_not_pruned(daemons, monkeypatch):
    """Between the judgement and the removal, a live entry takes the name."""
    really = registry.prune

    def prune_late(place, stale):
        if stale:
            monkeypatch.undo()
            daemons.register(DaemonEntry("a", "b"))
        really(place, stale)

    for look in (daemons.list, lambda: daemons.get("a", "b")):
        go_write(daemons, "a", "b", NO_PROCESS)
        monkeypatch.setattr(registry, "prune", prune_late)
        look()
        assert daemons.get("a", "b").pid == os.getpid()


def test_a_dead_entry_that_go_process_writes_anew_meanwhile_is_not_pruned(daemons, monkeypatch):
    really = registry.prune

    def prune_late(place, stale):
        inode = (daemons.directory / "a-b.json").stat().st_ino
        assert go_write(daemons, "a", "b", os.getpid()).stat().st_ino == inode
        really(place, stale)

    go_write(daemons, "a", "b", NO_PROCESS)
    monkeypatch.setattr(registry, "prune", prune_late)
    assert daemons.get("a", "b") is None
    monkeypatch.undo()
    assert daemons.get("a", "b")


def test_a_locked_directory_delays_writers_but_no_readers(daemons, monkeypatch):
    daemons.register(DaemonEntry("a", "b"))
    go_write(daemons, "dead", "x", NO_PROCESS)
    descriptor = os.open(daemons.directory, os.O_RDONLY)
    assert registry_directory.try_lock(descriptor)
    assert [entry.code for entry in daemons.list()] == ["a"]
    assert "dead-x.json" in files_of(daemons)  # pruned another time
    timer = threading.Timer(0.1, registry_directory.unlock, [descriptor])
    timer.start()
    began = time.monotonic()
    daemons.register(DaemonEntry("a", "c"))
    assert time.monotonic() - began > 0.05
    timer.join()
    assert [entry.daemon for entry in daemons.list()] == ["b", "c"]
    assert "dead-x.json" not in files_of(daemons)


def test_a_directory_that_stays_locked_is_an_error(daemons, monkeypatch):
    daemons.directory.mkdir(parents=True)
    descriptor = os.open(daemons.directory, os.O_RDONLY)
    assert registry_directory.try_lock(descriptor)
    with pytest.raises(RegistryError, match="was locked by another process"):
        with daemons._place.locked(wait=0.02):
            pass
    os.close(descriptor)


def test_a_file_system_without_locks_on_directories_will_do(daemons, monkeypatch):
    def refuse(descriptor, shared=False):
        raise OSError(errno.EBADF, "Bad file descriptor")  # what NFS says

    monkeypatch.setattr(registry_directory, "try_lock", refuse)
    with daemons.registered(DaemonEntry("a", "b")):
        assert len(daemons.list()) == 1
    assert files_of(daemons) == []


def test_a_full_disk_leaves_the_old_entry_and_nothing_beside_it(daemons):
    daemons.register(DaemonEntry("a", "b", health="old"))

    def register_too_much():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for write in (daemons.register, lambda entry: daemons.registered(entry).__enter__()):
            try:
                write(DaemonEntry("a", "b", health="x" * 2000))
            except RegistryError as error:
                if error.__cause__.errno != errno.EFBIG:
                    return False
            else:
                return False
        return True

    assert in_child(register_too_much) == 1
    assert daemons.get("a", "b").health == "old"
    assert files_of(daemons) == ["a-b.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_an_unwritable_directory_is_an_error_to_write_and_fine_to_read():
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        daemons = Registry(directory)
        daemons.register(DaemonEntry("a", "b"))
        go_write(daemons, "dead", "x", NO_PROCESS)

        def as_nobody():
            os.setuid(65534)
            refused = 0
            for action in (lambda: daemons.register(DaemonEntry("x", "y")), lambda: daemons.unregister("a", "b")):
                try:
                    action()
                except RegistryError as error:
                    refused += isinstance(error.__cause__, PermissionError)
            return (
                [entry.code for entry in daemons.list()] == ["a"] and refused == 2 and daemons.get("dead", "x") is None
            )

        assert in_child(as_nobody) == 1
        assert files_of(daemons) == ["a-b.json", "dead-x.json"]


def test_a_list_opens_each_file_once_and_looks_at_each_process_once(daemons, monkeypatch):
    for number in range(1000):
        go_write(daemons, f"app{number}", "server", os.getpid(), health="127.0.0.1:9090", project="/srv/app")
    opened, alive = [], []
    really_open, really_alive = os.open, identity.is_alive
    monkeypatch.setattr(os, "open", lambda *args, **options: (opened.append(args[0]), really_open(*args, **options))[1])
    monkeypatch.setattr(identity, "is_alive", lambda pid: (alive.append(pid), really_alive(pid))[1])
    assert len(daemons.list()) == 1000
    ours = [path for path in opened if str(path).startswith(str(daemons.directory))]
    assert len(ours) == len(set(ours)) == 1000
    assert alive == [os.getpid()]


def test_to_register_and_unregister_looks_at_the_names_of_the_key_alone(daemons, monkeypatch):
    looked, really = [], store.look
    monkeypatch.setattr(store, "look", lambda path, view: (looked.append(path), really(path, view))[1])
    for action in (daemons.register, lambda entry: daemons.unregister(entry.code, entry.daemon)):
        looked.clear()
        action(DaemonEntry("a", "b"))
        assert [os.path.basename(path) for path in looked] == list(file_names("a", "b", 255))
    with daemons.registered(DaemonEntry("a", "b")):
        looked.clear()
    assert looked == []


def test_nothing_stays_open(daemons):
    def use():
        with daemons.registered(DaemonEntry("a", "b")):
            daemons.register(DaemonEntry("a", "c"))
            go_write(daemons, "dead", "x", NO_PROCESS)
            (daemons.directory / "broken.json").write_text("{")
            daemons.list()
            daemons.get("a", "c")
            daemons.unregister("a", "c")

    use()
    before = len(os.listdir("/proc/self/fd"))
    use()
    assert len(os.listdir("/proc/self/fd")) == before


# where


def test_the_default_is_the_directory_of_go_process(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_registry().directory == tmp_path / ".core" / "daemons"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("home", ["", None, "relative/home"])
def test_without_a_home_the_default_is_in_the_home_of_the_passwd_entry(monkeypatch, home):
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    assert default_registry().directory == Path(pwd.getpwuid(os.geteuid()).pw_dir, ".core", "daemons")


@pytest.mark.parametrize("bad", ["", "a\0b", None, 3])
def test_what_is_no_directory_is_refused(bad):
    with pytest.raises(OptionError, match="directory"):
        Registry(bad)
