"""Public: tools to test programs that are built on this package.

`FakeService` runs scripts instead of processes, on Trio's clock alone. `FaultyDisk` simulates a full disk.
`trio_process.testing.hostile` has HTTP clients that misbehave. The pytest plugin adds the fixtures `fake_processes` and
`no_leaks`, and the marker `no_real_processes`.
"""

from .audit import RealProcessError, no_real_processes
from .behaviour import Behaviour, Expect, Read
from .call import Call
from .commands import Rule, ScriptError, UnregisteredCommandError
from .disk import FaultyDisk
from .fake import FakeService
from .recording import Recorder

__all__ = [
    "Behaviour",
    "Call",
    "Expect",
    "FakeService",
    "FaultyDisk",
    "Read",
    "RealProcessError",
    "Recorder",
    "Rule",
    "ScriptError",
    "UnregisteredCommandError",
    "no_real_processes",
]
