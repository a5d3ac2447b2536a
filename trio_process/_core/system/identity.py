"""Which process a PID meant when it was written down, and whether that process is alive: the one rule for all files.

A PID is a number that the kernel reuses, counted separately in each PID namespace (pid_namespaces(7)) and afresh after
each boot. So a program that writes a PID down should write down more, and a reader must know where it stands:

* The *boot* is named by ``/proc/sys/kernel/random/boot_id``. Another machine that shares the directory has another one.
* The *namespace* is the inode of ``/proc/self/ns/pid``. In another namespace the same number is another process.
* The *start* is counted in clock ticks from the boot (proc_pid_stat(5), field 22). No clock that is stepped moves it. PID
  and start together are unique within a boot and a namespace.

`Viewpoint.judge` compares these. It has three answers, as a reader that can't judge must not delete, signal or take over:

| the file has | seen from | the PID here | answer |
| --- | --- | --- | --- |
| an identity | another boot, machine or namespace | - | UNKNOWN |
| an identity | the same | not running, or with another start | DEAD |
| an identity | the same | running, with that start | ALIVE |
| a PID alone | anywhere | running | ALIVE |
| a PID alone | the initial namespace | not running | DEAD |
| a PID alone | any other namespace | not running | UNKNOWN |

A lock on the file is better evidence than all of this and is asked first, by the callers: it proves life across
namespaces, and the kernel drops it with its holder. The time of a file is not evidence: comparing it with the start of a
process compares two clocks, and a machine without a battery-backed clock, a resumed virtual machine and a file server
whose clock is slow all make live processes look recycled.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from enum import Enum, auto
from typing import Final, NamedTuple, final

from .pids import MAX_PID, is_alive, read_stat

_INITIAL: Final = "4026531836"  # PROC_PID_INIT_INO (linux/proc_ns.h)
_ATTRIBUTE: Final = "user.trio_process.holder"  # xattr(7): the user namespace is what an unprivileged owner may write
_FIELDS: Final = 5
_LONGEST_START: Final = 20  # digits of 2**64


class Liveness(Enum):
    """What can be said of the process that a file names."""

    ALIVE = auto()
    DEAD = auto()
    UNKNOWN = auto()  # it can't be judged from here


class ProcessIdentity(NamedTuple):
    """What distinguishes a process from all others that have its PID.

    Attributes:
        boot: The boot's id.
        namespace: The inode of the PID namespace in which the PID counts.
        start: The start of the process in clock ticks since the boot; None if it could not be read.
    """

    boot: str
    namespace: str
    start: int | None


@final
class Viewpoint:
    """Judges processes from this boot and PID namespace, and looks at each of them once: make a new one per question."""

    __slots__ = ("_boot", "_namespace", "_own_proc", "_seen")

    def __init__(self) -> None:
        self._boot: str | None = None
        self._namespace: str | None = None
        self._own_proc: bool | None = None
        self._seen: dict[int, tuple[bool, int | None]] = {}

    def identify(self, pid: int) -> ProcessIdentity | None:
        """Return the identity of a process, to be written down; None where there is no ``/proc`` to read it from."""
        if not self._here[0] or not self._here[1]:
            return None
        return ProcessIdentity(*self._here, self._look(pid)[1])

    def judge(self, pid: int, identity: ProcessIdentity | None) -> Liveness:
        """Return whether the process that a file names is alive, by the table above."""
        if not 0 < pid <= MAX_PID:
            return Liveness.DEAD  # not a process anywhere
        if identity is not None and (identity.boot, identity.namespace) != self._here:
            return Liveness.UNKNOWN
        alive, start = self._look(pid)
        if identity is None:
            if alive:
                return Liveness.ALIVE
            return Liveness.DEAD if self._here[1] == _INITIAL or sys.platform != "linux" else Liveness.UNKNOWN
        if not alive:
            return Liveness.DEAD
        # a start that can't be read (hidepid, proc(5)) counts as the same: refusing to start is better than starting twice
        return Liveness.ALIVE if None in (start, identity.start) or start == identity.start else Liveness.DEAD

    def proves(self, pid: int, identity: ProcessIdentity | None) -> bool:
        """Whether `pid` is running here and is known, not just assumed, to be the process of that identity."""
        if identity is None or identity.start is None or self.judge(pid, identity) is not Liveness.ALIVE:
            return False
        return self._look(pid)[1] == identity.start

    @property
    def place(self) -> str:
        """The boot and the namespace, empty if they aren't known: processes for which it is equal see the same PIDs."""
        return " ".join(self._here) if all(self._here) else ""

    @property
    def _here(self) -> tuple[str, str]:
        if self._boot is None or self._namespace is None:
            self._boot, self._namespace = _read_boot(), _read_namespace()
        return self._boot, self._namespace

    def _look(self, pid: int) -> tuple[bool, int | None]:
        """Return whether a process is running, and its start if that can be known."""
        found = self._seen.get(pid)
        if found is None:
            found = self._seen[pid] = (True, self._start_of(pid)) if is_alive(pid) else (False, None)
        return found

    def _start_of(self, pid: int) -> int | None:
        if self._own_proc is None:
            # after unshare(1) without --mount-proc, /proc still has the PIDs of the parent namespace
            try:
                self._own_proc = os.readlink("/proc/self") == str(os.getpid())
            except OSError:
                self._own_proc = False
        stat = read_stat(pid) if self._own_proc else None
        return None if stat is None else stat.started


def tag_file(descriptor: int, pid: int) -> None:
    """Write the identity of `pid` beside the content of an open file, in an extended attribute.

    The attribute also names the PID and the file's modification time, so that a program that writes into the file later
    takes away its meaning. Where the file system has no extended attributes the file stays as it is.
    """
    identity = Viewpoint().identify(pid)
    if identity is None or identity.start is None:
        return
    modified = os.fstat(descriptor).st_mtime_ns
    text = f"{identity.boot} {identity.namespace} {identity.start} {pid} {modified}"
    with suppress(OSError, AttributeError):  # not supported here (ENOTSUP), no room for it, or not Linux
        os.setxattr(descriptor, _ATTRIBUTE, text.encode("ascii"))


def read_tag(descriptor: int, pid: int, modified: int) -> ProcessIdentity | None:
    """Return the identity that `tag_file` wrote beside a file's content, if it belongs to this content.

    Args:
        descriptor: The open file.
        pid: The PID that its content names.
        modified: Its modification time in nanoseconds. It is compared with the tag alone, and with no clock.
    """
    try:
        fields = os.getxattr(descriptor, _ATTRIBUTE).decode("ascii").split(" ")
    except (OSError, ValueError, AttributeError):
        return None
    if len(fields) != _FIELDS or fields[3:] != [str(pid), str(modified)]:
        return None
    start = parse_start(fields[2])
    return None if start is None else ProcessIdentity(fields[0], fields[1], start)


def parse_start(text: str) -> int | None:
    """Return a start in clock ticks as `ProcessIdentity` has it, or None."""
    return int(text) if len(text) <= _LONGEST_START and text.isdecimal() and text.isascii() else None


def _read_boot() -> str:
    try:
        descriptor = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, 64).decode("ascii").strip()
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return ""


def _read_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").removeprefix("pid:[").removesuffix("]")
    except OSError:
        return ""
