"""Read Procfiles: one ``name: command`` per line (https://devcenter.heroku.com/articles/procfile)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ..._core import Written, shown
from ..spec import RunSpec
from .commands import as_utf8
from .env_file import read_env_file
from .faults import Faults
from .service.entry import ServiceEntry

_LINE: Final = re.compile(r"([A-Za-z0-9_-]+)[ \t]*:[ \t]*(.*)", re.DOTALL)
_FIRST_PORT: Final = 5000
_LAST_PORT: Final = 65535
_PORTS_EACH: Final = 100


def is_procfile(path: Path) -> bool:
    """Whether a file has the name of a Procfile: `Procfile`, `Procfile.dev`, `dev.procfile`."""
    name = path.name.lower()
    return name == "procfile" or name.startswith("procfile.") or name.endswith(".procfile")


def read_procfile(text: str, directory: str, environ: Mapping[str, str], faults: Faults) -> list[RunSpec]:
    """Return a spec per line; as in foreman, each command runs under ``sh -c`` with ``.env`` and a `PORT` of its own."""
    variables = _read_env(directory, environ, faults)
    specs: list[RunSpec] = []
    lines: dict[str, int] = {}
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or "\0" in line:
            faults.add((), "expected `name: command`, the name of letters, digits, '_' and '-'", line=number)
        elif not match[2]:
            faults.add((match[1],), "expected a command after the colon", line=number)
        elif match[1] in lines:
            faults.add((match[1],), f"this name is taken by line {lines[match[1]]}", line=number)
        else:
            env = {**variables, "PORT": str(int(variables["PORT"]) + _PORTS_EACH * len(lines))}
            lines[match[1]] = number
            specs.append(RunSpec(name=match[1], command="sh", args=("-c", as_utf8(match[2])), cwd=directory, env=env))
    if not specs and not faults:
        faults.add((), "the file is empty; a Procfile has lines such as `web: python server.py`")
    return specs


def as_services(specs: Iterable[RunSpec], faults: Faults) -> Iterator[ServiceEntry]:
    """Yield the processes as services with foreman's rules: they are never restarted, and when one ends, all are stopped."""
    for spec in specs:
        script = spec.args[-1]
        assert isinstance(script, str), "read_procfile makes it of a text"
        # each replica gets the next port
        numbered = f"export PORT=$((PORT + ${{TRIO_PROCESS_REPLICA:-1}} - 1))\n{script}"
        yield ServiceEntry(
            name=spec.name,
            command="sh",
            args=("-c", Written(numbered, shown(script))),
            options={"cwd": spec.cwd, "env": spec.env, "essential": True},
            restart={"mode": "never"},
            report=faults.at(spec.name),
        )


def _read_env(directory: str, environ: Mapping[str, str], faults: Faults) -> dict[str, str]:
    """Return the variables of ``.env`` that are not set yet, and the first `PORT`, from there or else 5000."""
    path = Path(directory, ".env")
    found, wrong = read_env_file(path) if path.is_file() else ({}, [])
    for text in wrong:
        faults.add((), text)
    port = found.get("PORT", str(_FIRST_PORT))
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > _LAST_PORT:
        faults.add((), f"{str(path)!r}: PORT must be a number up to {_LAST_PORT}, got {port!r}")
        port = str(_FIRST_PORT)
    return {as_utf8(name): as_utf8(value) for name, value in found.items() if name not in environ} | {"PORT": port}
