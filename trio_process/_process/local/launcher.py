"""Prepares a child before its exec: cgroup, limits, niceness, user, signals. Run as a script, never imported.

`Popen` can do none of this without giving up vfork (60 to 90 ms at 2 GB of memory). So this source is run like any
child: it applies its settings and execs the command. It reports through a pipe that the exec closes: ``=`` just before
the exec, or a failure as JSON. End of file without a ``=`` means that the launcher itself has failed.

    python -I -S -c SOURCE STATUS_DESCRIPTOR SPEC EXECUTABLE... ARGUMENT...

The specification says how many executables there are. The first whose exec succeeds runs, as without a launcher
(`Programs` in environment.py).
"""

import json
import os
import signal
import sys


def apply(spec: dict) -> None:  # type: ignore[type-arg]  # a script that runs before any dependency can be imported
    """Apply each setting; after a failure, `step` names it."""
    global step  # noqa: PLW0603 - read where the error is reported
    if spec["cgroup"]:
        step = "a cgroup of its own"
        with open(os.path.join(spec["cgroup"], "cgroup.procs"), "w") as file:
            file.write("0")  # 0 means the writing process (cgroups(7))
    if spec["nice"] is not None:
        step = f"nice={spec['nice']}"
        os.setpriority(os.PRIO_PROCESS, 0, spec["nice"])
    if spec["limits"]:
        import resource  # noqa: PLC0415 - only where it is needed

        for name, (soft, hard) in spec["limits"].items():
            step = f"limits[{name!r}]={soft}" if soft == hard else f"limits[{name!r}]=({soft}, {hard})"
            resource.setrlimit(getattr(resource, "RLIMIT_" + name.upper()), (soft, hard))
    if spec["user"] is not None:
        name, user, group, groups = spec["user"]
        step = f"user={name!r}"
        if os.geteuid() != user or os.getegid() != group or set(os.getgroups()) != set(groups):
            os.setgroups(groups)
            os.setgid(group)
            os.setuid(user)


if __name__ == "__main__":
    status, spec, *words = sys.argv[1:]
    os.set_inheritable(int(status), False)
    step = ""
    # the environment as it was handed to us: Python itself may have changed its own copy (PEP 538)
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [pair.partition(b"=") for pair in file.read().split(b"\0") if pair]
        environment = {name: value for name, _, value in pairs}
    except OSError:
        environment = dict(os.environb)
    try:
        settings = json.loads(spec)
        apply(settings)
        step = ""
        # Python ignores these two, and ignored signals stay ignored across an exec (execve(2)): `yes | head` would
        # never end
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, settings["unblock"])
        executables, argv = words[: settings["programs"]], words[settings["programs"] :]
        os.write(int(status), b"=")
        failures = []
        for executable in executables:
            try:
                os.execve(executable, argv, environment)  # noqa: S606 - this is what it is for
            except OSError as error:
                failures.append(error)
        raise failures[0]
    except (OSError, ValueError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        os.write(int(status), json.dumps([step, number, str(error), getattr(error, "filename", None)]).encode())
        os._exit(127)
