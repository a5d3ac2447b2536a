"""A client whose locale isn't UTF-8: a command gets the same bytes on a cluster as here, or the same error."""

import json
import os
import shutil
import subprocess
import sys

import pytest

CLIENT = """
import json, os, sys
import trio
from trio_process import ProcessError, Service
from trio_process.cluster import ClusterService, local_agents

async def outcome(service, number, args, options):
    try:
        return (await service.run(*args, **options)).stdout_bytes.hex()
    except ProcessError as error:
        return [type(error).__name__, os.fsencode(getattr(error.__cause__, "filename", None) or "").hex()]

async def main():
    cases = json.loads(sys.stdin.read())
    as_text = [
        (["printf", "%s", "n\\xe9e"], {}),
        (["printf", "%s", "\\u20ac"], {}),
        (["sh", "-c", 'printf %s "$X"'], {"env": {"X": "\\xe9"}}),
    ]
    name = bytes.fromhex(cases["name"])
    as_bytes = [
        (["printf", "%s", name], {}),
        (["printf", "%s", os.fsdecode(name)], {}),
        (["sh", "-c", 'printf %s "$X"'], {"env": {"X": os.fsdecode(name)}}),
        (["env", "-i", b"X=" + name, "env"], {}),
        (["pwd", "-P"], {"cwd": name}),
        (["pwd", "-P"], {"cwd": os.fsdecode(os.path.abspath(name))}),
        (["pwd", "-P"], {"cwd": os.path.abspath(b"no" + name)}),
        ([b"./no" + name], {}),
        (["pwd", "-P"], {}),
    ]
    os.chdir(name)
    os.mkdir(name)
    async with Service() as here, ClusterService(local_agents(1)) as cluster:
        for number, (args, options) in enumerate([*as_text, *as_bytes]):
            print(json.dumps([await outcome(service, number, args, options) for service in (here, cluster)]))
    print(sys.getfilesystemencoding())

trio.run(main)
"""
NAME = "é".encode() + b"\xe9\xff"


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1", "utf-8"])
def test_a_command_gets_the_bytes_that_it_would_get_here(encoding, tmp_path):
    os.mkdir(os.fsencode(tmp_path) + b"/" + NAME)
    env = {**os.environ, **_locale(encoding, tmp_path), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input=json.dumps({"name": NAME.hex()}).encode(), env=env, cwd=tmp_path, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    *pairs, used = ran.stdout.decode().splitlines()
    assert used == encoding
    outcomes = [json.loads(pair) for pair in pairs]
    assert [there for _, there in outcomes] == [here for here, _ in outcomes]
    assert outcomes[3][0] == NAME.hex()
    text = {"ascii": ["OptionError", ""], "iso8859-1": b"n\xe9e".hex(), "utf-8": "née".encode().hex()}
    assert outcomes[0][0] == text[encoding]


def _locale(encoding, directory):
    if encoding == "ascii":
        return {"LC_ALL": "C"}
    if encoding == "utf-8":
        return {"LC_ALL": "C.UTF-8"}
    if shutil.which("localedef") is None:
        pytest.skip("localedef, which makes a locale of this encoding, is not installed")
    name = "en_US.ISO-8859-1"
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", directory / name], check=False, capture_output=True, timeout=60
    )
    if made.returncode:
        pytest.skip(f"localedef can't make a locale of this encoding: {made.stderr.decode()}")
    return {"LOCPATH": str(directory), "LC_ALL": name}
