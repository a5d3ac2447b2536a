"""What a file makes of few words: matrices, their dependencies, variables and includes that multiply."""

import signal
import time

import pytest

from trio_process import PipelineError, load_pipeline, load_services
from trio_process._pipeline import read_pipeline
from trio_process._pipeline.file import allowance
from trio_process._pipeline.file.allowance import DEEPEST, MOST

COUNTED = ", those of its includes counted"
MATRICES = f"a file can't have more than 10000 combinations of matrices{COUNTED}"
DEPENDENCIES = f"a file can't have more than 1000000 dependencies on combinations of matrices{COUNTED}"
CHARACTERS = "a file can't have more than {most} characters in texts with variables" + COUNTED
FILES = f"a file can't have more than 1000 included files{COUNTED}"


@pytest.fixture(autouse=True)
def _bounded():
    def expired(*_):
        raise TimeoutError("this test hangs")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(90)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def write(tmp_path):
    def write(text, name="trio-process.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def faults(write):
    """Return the faults of a text, without the path of its file."""

    def faults(text, load=load_pipeline):
        path = write(text)
        with pytest.raises(PipelineError) as caught:
            load(path)
        return [
            fault.removeprefix(f"{path.parent}/").removeprefix("trio-process.toml:") for fault in caught.value.faults
        ]

    return faults


def listed(count):
    return f"[{','.join(map(str, range(count)))}]"


def task(name, count, more=""):
    return f"[tasks.{name}]\nrun = 'true'\nmatrix = {{ n = {listed(count)} }}\n{more}\n"


@pytest.mark.parametrize(
    "axes",
    [[10] * 10, [2] * 5000, [10_001], [101, 100], [20_000, 20_000]],
    ids=lambda axes: f"{len(axes)} of {axes[0]}",
)
def test_a_matrix_of_too_many_combinations_is_refused_before_they_are_made(faults, axes):
    matrix = ", ".join(f"a{place} = {listed(count)}" for place, count in enumerate(axes))
    began = time.monotonic()
    assert faults(f"[tasks.t]\nrun = 'true'\nmatrix = {{ {matrix} }}\n") == [f"3: tasks.t.matrix: {MATRICES}"]
    assert time.monotonic() - began < 20


def test_all_matrices_of_a_file_count_together_and_the_first_that_is_too_much_is_named(faults, write):
    assert len(load_pipeline(write(task("a", 5000) + task("b", 5000)))) == MOST["combinations of matrices"]
    text = "".join(task(f"t{number}", 100) for number in range(101)) + "".join(
        task(f"u{number}", 9) for number in range(9)
    )
    assert faults(text) == [f"403: tasks.t100.matrix: {MATRICES}"]


def test_those_of_included_files_count_too(faults, write):
    write(task("a", 6000), "docs.toml")
    text = "include = { docs = 'docs.toml' }\n" + task("b", 4001)
    assert faults(text) == [f"4: tasks.b.matrix: {MATRICES}"]


def test_the_dependencies_between_matrices_are_limited(faults, write):
    most = task("a", 1000) + task("b", 1000, "after = ['a']")
    assert (
        sum(len(spec.after) for spec in load_pipeline(write(most))) == MOST["dependencies on combinations of matrices"]
    )
    for text in (most + task("c", 10, "after = ['b']"), task("c", 2000) + task("d", 2000, "after = ['c']")):
        [found] = faults(text)
        assert found.endswith(f".after[0]: {DEPENDENCIES}")


def test_a_list_of_ten_thousand_values_takes_time_in_proportion(write):
    began = time.monotonic()
    assert len(load_pipeline(write(task("a", 10_000)))) == 10_000
    assert time.monotonic() - began < 20  # 1 s on a quiet machine


LONG = "x" * 10**4
DEFAULTS = f"[defaults]\nenv = {{ A = '{LONG}' }}\n[tasks.t]\n"
OWN = f"env = {{ A = '{LONG}' }}\n"
MANY = "${A}" * 200
QUOTED = ", ".join(["'${A}'"] * 101)
EACH = f"matrix = {{ n = {listed(200)} }}\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{DEFAULTS}run = ['echo', '{MANY * 500}']\n", "4: tasks.t.run[1]"),
        (f"[tasks.t]\nrun = [{QUOTED}]\n{OWN}", "2: tasks.t.run[99]"),
        (f"{DEFAULTS}run = 'x'\nstdin = '{'${A:-b}' * 10**5}'\n", "5: tasks.t.stdin"),
        (f"{DEFAULTS}run = 'x'\nenv = {{ B = '{MANY}' }}\n", "5: tasks.t.env.B"),
        (f"[tasks.t]\nshell = '''#{LONG} ${{matrix.n}}'''\n{EACH}", "2: tasks.t.shell"),
        (f"[tasks.t]\nrun = ['x', '{LONG} ${{matrix.n}}']\n{EACH}", "2: tasks.t.run[1]"),
    ],
    ids=["one text", "many texts", "a default", "a variable", "a script", "an argument"],
)
def test_what_variables_fill_in_is_limited(faults, text, place, monkeypatch):
    monkeypatch.setitem(MOST, allowance.CHARACTERS, 100 * len(LONG))
    assert faults(text) == [f"{place}: {CHARACTERS.format(most=100 * len(LONG))}"]


def test_that_is_so_in_services_too_and_within_a_hundred_million(faults):
    text = f"[services.s]\nrun = ['x', '{'${A}' * 10_001}']\n{OWN}"
    assert faults(text, load_services) == [f"2: services.s.run[1]: {CHARACTERS.format(most=10**8)}"]


def test_includes_that_double_at_every_level_are_refused(faults, write):
    for level in range(DEEPEST - 1):
        write(f"include = {{ a = '{level + 1}.toml', b = '{level + 1}.toml' }}\n", f"{level}.toml")
    write("[tasks.t]\nrun = 'true'\n", f"{DEEPEST - 1}.toml")
    began = time.monotonic()
    [found] = [fault for fault in faults("include = { a = '0.toml', b = '0.toml' }\n") if FILES in fault]
    assert found.split(":")[2] in (" include.a", " include.b")
    assert time.monotonic() - began < 20


def test_a_chain_of_includes_has_an_end(faults, write):
    for level in range(400):
        write(f"include = {{ a = '{level + 1}.toml' }}\n[tasks.t]\nrun = 'true'\n", f"{level}.toml")
    write("[tasks.t]\nrun = 'true'\n", "400.toml")
    last = DEEPEST - 1
    assert faults("include = { a = '0.toml' }\n") == [
        f"{last}.toml:1: include.a: includes are nested more than {DEEPEST} deep"
    ]
    write("[tasks.t]\nrun = 'true'\n", f"{last}.toml")
    assert len(load_pipeline(write("include = { a = '0.toml' }\n"))) == DEEPEST


@pytest.mark.parametrize("port", ["65536", "99999", "9" * 5000, "-1"])
def test_the_first_port_of_a_procfile_is_one(write, port):
    write(f"PORT={port}\n", ".env")
    with pytest.raises(PipelineError, match="PORT must be a number up to 65535"):
        load_pipeline(write("web: true\n", "Procfile"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"run = ['x', '{'${{' * 10**5}']", "run[1]: "),
        (f"run = ['x', '{'${matrix.' * 10**5}']", "run[1]: "),
        (f"run = 'x {'$' * 10**6}'", "run: expected a command of at most 131072 characters"),
        (f"run = 'x'\nresources = {{ memory = '{'0' * 10**5}x' }}", "resources.memory: expected a size in bytes"),
        (f"run = 'x'\ntimeout = '{'1' * 10**5}x'", "timeout: expected a duration"),
        (f"run = 'x'\ninputs = '{'*/' * 201}x'", "inputs: inputs must be patterns of at most 4096 characters and 200"),
        (
            f"run = 'x'\ninputs = 'x'\noutputs = ['{'[a' * 10**4}']",
            "outputs: outputs must be patterns of at most 4096 characters",
        ),
    ],
    ids=["places", "matrix", "run", "memory", "timeout", "inputs", "outputs"],
)
def test_a_long_text_is_read_in_time_in_proportion_to_its_length(faults, line, said):
    began = time.monotonic()
    [found] = faults(f"[tasks.t]\n{line}\n")
    assert found.partition("tasks.t.")[2].startswith(said)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("text", ["${{", "${matrix."])
def test_a_long_script_with_places_that_are_not_closed_is_read_as_well(write, text):
    began = time.monotonic()
    [spec] = load_pipeline(write(f"[tasks.t]\nshell = '{text * 10**5}'\n"))
    assert spec.args[-1] == text * 10**5
    assert time.monotonic() - began < 20


def test_a_default_that_names_a_matrix_many_times_is_the_matrix(write):
    text = "default = [" + "'t'," * 10**5 + "]\n"
    began = time.monotonic()
    assert read_pipeline(write(text + task("t", 5000))).default == tuple(f"t-{number}" for number in range(5000))
    assert time.monotonic() - began < 20
