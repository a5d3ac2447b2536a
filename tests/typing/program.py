"""A program that uses every public class, for the type checkers: `nox -s types`. It is never run.

A wrong call is marked with the error that it must be; an ignore that isn't needed is an error too, in both checkers.
"""

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack, assert_never, assert_type

import trio

from trio_process import (
    Action,
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    AlreadyRunningError,
    CommandFailedError,
    CommandResult,
    Core,
    Daemon,
    DaemonEntry,
    DaemonOptions,
    EndReason,
    EventBatch,
    HealthServer,
    ManagedProcess,
    OutputLine,
    OutputLines,
    Overflow,
    PIDFile,
    PipelineError,
    Probe,
    ProcessInfo,
    Program,
    Registry,
    ResourceUsage,
    RestartPolicy,
    RingBuffer,
    RunAllResult,
    RunKeywords,
    Runner,
    RunOptions,
    RunResult,
    RunSpec,
    RunUpdate,
    Secret,
    Service,
    ServiceOptions,
    ServiceStatistics,
    SpecState,
    Status,
    Stdio,
    StopFailedError,
    Stream,
    Subscription,
    SubscriptionStatistics,
    UnitCondition,
    UnitSpec,
    default_registry,
    load_pipeline,
    probe_health,
    probe_ready,
    read_pid,
    wait_for_health,
    wait_for_ready,
)
from trio_process.exec import Command, NopLogger, Pipe, PipeResult, StdlibLogger, run_quiet, set_default_logger
from trio_process.testing import Behaviour, Call, Expect, FakeService, FaultyDisk, Read, Recorder, Rule


async def execution(service: Service, elsewhere: Path) -> None:
    result = await service.run("make", "-j2", cwd=elsewhere, timeout=600, env={"A": "1", "B": None, "C": Secret("x")})
    assert_type(result, CommandResult)
    assert_type(result.usage, ResourceUsage | None)
    assert_type(result.reason, EndReason | None)
    assert_type(result.check(), CommandResult)
    assert_type(result.output, str)
    assert_type(result.to_dict(), dict[str, Any])
    process = await service.start("redis-server", b"--port", Path("x"), Secret("y"), name="redis", stop_signal="INT")
    assert_type(process, ManagedProcess)
    assert_type(process.id, str)
    assert_type(process.pid, int | None)
    assert_type(process.status, Status)
    assert_type(process.done, trio.Event)
    assert_type(await process.wait_for_line(re.compile("Ready"), timeout=10), OutputLine)
    assert_type(await process.wait(), int)
    assert_type(await process.stop(0, reason=EndReason.STOPPED), CommandResult)
    assert_type(process.info(), ProcessInfo)
    assert_type(service.get("proc-1"), ManagedProcess)
    assert_type(service.list(), list[ManagedProcess])
    assert_type(service.running(), list[ManagedProcess])
    assert_type(service.statistics(), ServiceStatistics)
    async with service.open("tail", "-f", "x", stdout=Stdio.PIPE, log_file="x.log", limits={"nofile": 4096}) as tail:
        lines = tail.lines("stdout")
        assert_type(lines, OutputLines)
        async for line in lines:
            assert_type(line, OutputLine)
            assert_type(line.stream, Stream)
    service.adopt(4711, datetime.now(UTC), command="redis-server", log_file="redis.log", timeout=math.inf)
    options = RunOptions(command="x", args=["a", b"b"], resources={"cpus": 2}, max_output=2**20)
    assert_type(await service.run_with_options(options), CommandResult)
    async with trio.open_nursery() as nursery:
        assert_type(await nursery.start(service.run_process, options), Any)

    await service.run("grep", "x", ok_exit_codes={0, 1}, stdin=bytearray(b"x"), limits={"core": (0, math.inf)})
    process.id = "x"  # type: ignore[misc]
    process.exit_code = 0  # type: ignore[misc]
    result.exit_code = 0  # type: ignore[misc]
    await service.start("x", timeout="ten")  # type: ignore[arg-type]
    await service.start("x", timout=10)  # type: ignore[call-arg]
    await service.start("x", 3)  # type: ignore[arg-type]
    await service.run("x", chek=False)  # type: ignore[call-arg]
    await service.run("x", stdout="out.txt")  # type: ignore[arg-type]
    service.open("x", env=["A=1"])  # type: ignore[arg-type]
    service.adopt(4711, datetime.now(UTC), args=["x"])  # type: ignore[call-arg]
    RunOptions(command="x", shell=True)  # type: ignore[call-arg]
    RunOptions("x")  # type: ignore[call-arg]
    ServiceOptions(retian=3)  # type: ignore[call-arg]


async def git(service: Service, *args: str, **options: Unpack[RunKeywords]) -> str:
    """Wrap a call: the keywords go through, and keep their types."""
    return (await service.run("git", *args, check=False, **options)).stdout


async def wrapped(service: Service) -> None:
    assert_type(await git(service, "log", cwd="/", timeout=3), str)
    await git(service, "log", timeout="3")  # type: ignore[arg-type]


async def events(core: Core, service: Service) -> None:
    assert_type(core.subscribe(), Subscription[Any])
    assert_type(service.subscribe(ActionProcessOutput), Subscription[ActionProcessOutput])
    assert_type(core.subscribe(ActionProcessOutput, id="x", buffer=3), Subscription[ActionProcessOutput])
    three = core.subscribe(ActionProcessStarted, ActionProcessKilled, ActionProcessExited, overflow="drop_oldest")
    assert_type(three, Subscription[ActionProcessStarted | ActionProcessKilled | ActionProcessExited])
    assert_type(core.subscribe(int, str, bytes, float), Subscription[int | str | bytes | float])
    assert_type(core.subscribe(int, str, bytes, float, list), Subscription[Any])
    with core.subscribe(ActionProcessStarted, ActionProcessExited, overflow=Overflow.WAIT) as both:
        async for event in both:
            match event:
                case ActionProcessStarted():
                    assert_type(event.pid, int)
                case ActionProcessExited():
                    assert_type(event.reason, EndReason)
                case never:
                    assert_never(never)
        assert_type(await both.receive(), ActionProcessStarted | ActionProcessExited)
        assert_type(both.receive_nowait(), ActionProcessStarted | ActionProcessExited)
        assert_type(both.clone(), Subscription[ActionProcessStarted | ActionProcessExited])
        assert_type(await both.receive_batch(), EventBatch)
        assert_type(both.statistics(), SubscriptionStatistics)
    wider: Subscription[object] = both  # covariant
    channel: trio.abc.ReceiveChannel[object] = wider
    await channel.aclose()
    core.subscribe("ActionProcessOutput")  # type: ignore[call-overload]
    core.subscribe(ActionProcessOutput, bufer=3)  # type: ignore[call-overload]
    both.send(1)  # type: ignore[attr-defined]


async def actions() -> None:
    async with Core(Service) as core:
        assert_type(core.service(Service), Service)
        assert_type(core.action("x"), Action)
        assert_type(core.actions, list[str])
        assert_type(await core.process.run("git", "log", cwd="/"), str)
        assert_type(await core.process.run_in("/", "git", "log", timeout=3), str)
        assert_type(await core.process.run_with_env("/", {"A": None}, "git"), str)
        assert_type(await core.process.start("x"), str)
        assert_type(await core.process.list(), list[str])
        assert_type(await core.process.get("x"), ProcessInfo)
        core.process = core.process  # type: ignore[misc]
        core.action("x").name = "y"  # type: ignore[misc]
        await core.broadcast(object())
        await core.process.run("x", timeout="3")  # type: ignore[arg-type]
        await core.process.run_in("/", "x", cwd="/")  # type: ignore[call-arg]
        await core.process.run_with_env("/", {}, "x", env={})  # type: ignore[misc]
        await core.process.start("x", nmae="y")  # type: ignore[call-arg]


async def restarted_with(daemon: Daemon, name: str = "") -> None:
    raise NotImplementedError


async def lifecycle(directory: Path) -> None:
    entry = DaemonEntry("shop", "web")
    policy = RestartPolicy.on_failure(max_restarts=3)
    async with Daemon(pid_file="x.pid", health_addr=":0", registry_entry=entry, restart=policy) as daemon:
        assert_type(daemon.ready, bool)
        assert_type(daemon.health, HealthServer | None)
        assert_type(daemon.stopping, trio.Event)
        await daemon.run(actions)
        await daemon.run(restarted_with, daemon, "x")
        await daemon.run(restarted_with, daemon)
        await daemon.run(restarted_with, "x")  # type: ignore[arg-type]
        await daemon.run(restarted_with)  # type: ignore[arg-type]
        await daemon.run(restarted_with, daemon, "x", 3)  # type: ignore[arg-type]
        await daemon.run(actions())  # type: ignore[arg-type]
    Daemon.from_options(DaemonOptions(drain=2))
    with PIDFile(directory / "x.pid") as held:
        assert_type(held.held, bool)
    assert_type(read_pid("x.pid"), tuple[int, bool])
    assert_type(await wait_for_health(":80", 3), bool)
    assert_type(await wait_for_ready(":80", 3), bool)
    assert_type(await probe_health(":80", 3), tuple[bool, str])
    assert_type(await probe_ready(":80", 3), tuple[bool, str])
    assert_type(default_registry(), Registry)
    assert_type(Registry(directory).list(), list[DaemonEntry])
    daemon.options = DaemonOptions()  # type: ignore[misc]
    Daemon(pid_fil="x")  # type: ignore[call-arg]
    Daemon(drain="2")  # type: ignore[arg-type]


def units() -> None:
    UnitSpec(
        name="db",
        command=b"db",
        args=["-D", Path("x"), Secret("y")],
        ready=Probe.line(re.compile("up")),
        after={"migrate": "completed", "net": UnitCondition.READY},
        stop_signal="INT",
        log_file="x.log",
        ok_exit_codes=[0, 3],
        limits={"nofile": 4096, "core": (0, math.inf)},
        env={"A": None, "B": Secret("x")},
        stdin=b"data",
    )
    UnitSpec(name="web", main=actions, after=["db"], live=Probe.tcp("127.0.0.1:80"))
    UnitSpec(name="web", main=math.sqrt)  # type: ignore[arg-type]
    UnitSpec(name="web", command="web", stop_signal=1.5)  # type: ignore[arg-type]
    UnitSpec(name="web", command="web", ok_exit_codes=3)  # type: ignore[arg-type]
    UnitSpec(name="web", command="web", log_file=3)  # type: ignore[arg-type]
    UnitSpec(name="web", command="web", limits={"nofile": "3"})  # type: ignore[dict-item]
    UnitSpec(name="web", command="web", restart="always")  # type: ignore[arg-type]
    UnitSpec(name="web", command="web", detach=True)  # type: ignore[call-arg]
    RunSpec(
        name="x", command="x", log_file=b"x.log", limits={"core": math.inf}, stop_signal="INT", ok_exit_codes=range(2)
    )
    RunSpec(name="x", command="x", limits={"core": "1"})  # type: ignore[dict-item]


async def pipelines(service: Service) -> None:
    specs = [RunSpec(name="lint", command="ruff"), RunSpec(name="test", command="pytest", after=["lint"], retries=1)]
    send, receive = trio.open_memory_channel[RunUpdate](math.inf)
    whole = await Runner(service, max_parallel=4).run_all(specs, schedule="eager", updates=send)
    assert_type(whole, RunAllResult)
    assert_type(whole.results[0], RunResult)
    assert_type((await receive.receive()).state, SpecState)
    assert_type(load_pipeline("trio-process.toml"), list[RunSpec])
    RunSpec("lint", "ruff")  # type: ignore[call-arg]
    RunSpec(name="lint", command="ruff", needs=["x"])  # type: ignore[call-arg]


async def commands() -> None:
    log = Command("git", "log").with_dir("/").with_env(LC_ALL="C").with_timeout(3).with_logger(NopLogger())
    assert_type(log, Command)
    assert_type(await log.run(), CommandResult)
    assert_type(await log.output(), str)
    found = log | Command("grep", "fix").with_options(ok_exit_codes={0, 1}, grace_period=2)
    assert_type(found, Pipe)
    assert_type(await found.run(), PipeResult)
    async with log.lines("all") as lines:
        async for line in lines:
            assert_type(line.text, str)
    await run_quiet("git", "diff")
    set_default_logger(StdlibLogger(None))
    Command("x").with_options(cwd="/")  # type: ignore[call-arg]
    Command("x").with_options(ok_exit_codes="0")  # type: ignore[arg-type]
    Command("x", 3)  # type: ignore[arg-type]


async def fakes(directory: Path) -> None:
    async with FakeService() as fake:
        rule = fake.on("git", "push", ..., lines=["x", (1.5, "y"), Expect("z"), Read.LINE], exit_code=1, error=OSError)
        assert_type(rule, Rule)
        assert_type(rule.calls, list[Call])
        fake.on(re.compile("x"), then=[Behaviour(exit_code=0), {"exit_code": 2}], ignores=["TERM", 2])
        assert_type(fake.record(directory / "x.jsonl"), Recorder)
        fake.on("x", exit_cod=1)  # type: ignore[call-arg]
        fake.on("x", exit_after="1")  # type: ignore[arg-type]
    with FaultyDisk(directory, room=10) as disk:
        assert_type(disk.faults, int)


def values() -> None:
    buffer = RingBuffer(10)
    assert_type(buffer.write(b"x"), int)
    assert_type(buffer.bytes(), bytes)
    assert_type(Program("git").find(), Path)
    assert_type(Secret("x").reveal(), str)
    RingBuffer("10")  # type: ignore[arg-type]


async def errors(service: Service) -> None:
    try:
        await service.run("x")
    except CommandFailedError as error:
        assert_type(error.result, CommandResult)
    except AlreadyRunningError as error:
        assert_type(error.pid, int)
    except StopFailedError as error:
        assert_type(error.processes, tuple[tuple[int, str, str], ...])
    except PipelineError as error:
        assert_type(error.faults, tuple[str, ...])
    await Program("git").run("log", cwd="/")
    await Program("git").run_dir("/", "log", cwd="/")  # type: ignore[call-arg]
