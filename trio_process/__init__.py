"""Process management for Trio, built on structured concurrency.

* `Service` spawns, watches, streams and stops processes in a nursery; `Program` is one executable.
* `Core` gives permission by named actions, and broadcasts events; `Subscription` is the channel they come over.
* `Daemon` nests a PID file, a health server and a registry entry around a program's main task.
* `Supervisor` keeps services running: dependencies, probes, restarts, replicas.
* `Runner` runs specs as a dependency graph, in waves; `load_pipeline` reads them from a file.
* `ControlServer` shows and controls all of this: an HTTP API, an event stream, metrics, a page.
* `trio_process.exec` runs single commands; `trio_process.testing` replaces processes by scripts on virtual time.
"""

from typing import TYPE_CHECKING

from ._core import (
    Action,
    ActionDisabledError,
    ActionNotRegisteredError,
    ActionOptionError,
    ActionProcessExited,
    ActionProcessKilled,
    ActionProcessOutput,
    ActionProcessStarted,
    AgentLostError,
    AlreadyRunningError,
    ClusterError,
    CommandFailedError,
    CommandResult,
    CommandTimeoutError,
    Core,
    DaemonError,
    EndReason,
    EventBatch,
    OptionError,
    Overflow,
    PipelineError,
    ProcessError,
    ProcessInfo,
    ProcessNotFoundError,
    ProcessNotRunningError,
    ProcessStartError,
    ProgramNotFoundError,
    RegistryError,
    ResourceUsage,
    RestartLimitError,
    RestartPolicy,
    RunKeywords,
    RunOptions,
    Secret,
    ServiceClosedError,
    Status,
    StdinNotAvailableError,
    Stdio,
    StopFailedError,
    Stream,
    Subscription,
    SubscriptionStatistics,
    UnitFailedError,
)
from ._process import (
    DEFAULT_BUFFER_SIZE,
    ManagedProcess,
    OutputLine,
    OutputLines,
    Program,
    RingBuffer,
    Service,
    ServiceOptions,
    ServiceStatistics,
)

if TYPE_CHECKING:
    from ._control import Access, ControlServer
    from ._daemon import (
        Daemon,
        DaemonEntry,
        DaemonOptions,
        HealthCheck,
        HealthServer,
        PIDFile,
        Registry,
        default_registry,
        probe_health,
        probe_ready,
        read_pid,
        wait_for_health,
        wait_for_ready,
    )
    from ._pipeline import (
        Executor,
        RootCause,
        RunAllResult,
        Runner,
        RunResult,
        RunSpec,
        RunUpdate,
        SpecState,
    )
    from ._supervisor import (
        Probe,
        ReloadPlan,
        Strategy,
        Supervisor,
        Unit,
        UnitChanged,
        UnitCondition,
        UnitInfo,
        UnitLines,
        UnitSpec,
        UnitState,
        load_pipeline,
        load_services,
    )
else:
    # The layers above execution are two thirds of the import time, and most programs use none or one of them: each is loaded
    # when one of its names is first asked for (PEP 562). What is inside of a layer is loaded at once.
    _UPPER_LAYERS = {
        "_control": (
            "Access",
            "ControlServer",
        ),
        "_daemon": (
            "Daemon",
            "DaemonEntry",
            "DaemonOptions",
            "HealthCheck",
            "HealthServer",
            "PIDFile",
            "Registry",
            "default_registry",
            "probe_health",
            "probe_ready",
            "read_pid",
            "wait_for_health",
            "wait_for_ready",
        ),
        "_pipeline": (
            "Executor",
            "RootCause",
            "RunAllResult",
            "Runner",
            "RunResult",
            "RunSpec",
            "RunUpdate",
            "SpecState",
        ),
        "_supervisor": (
            "Probe",
            "ReloadPlan",
            "Strategy",
            "Supervisor",
            "Unit",
            "UnitChanged",
            "UnitCondition",
            "UnitInfo",
            "UnitLines",
            "UnitSpec",
            "UnitState",
            "load_pipeline",
            "load_services",
        ),
    }
    _LAYER_OF = {name: layer for layer, names in _UPPER_LAYERS.items() for name in names}

    def __getattr__(name: str) -> object:
        from importlib import import_module  # noqa: PLC0415 - it is there already, and no name of this package

        if name not in _LAYER_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_LAYER_OF[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


Info = ProcessInfo
Process = ManagedProcess

__version__ = "0.2.0"

__all__ = [
    "DEFAULT_BUFFER_SIZE",
    "Access",
    "Action",
    "ActionDisabledError",
    "ActionNotRegisteredError",
    "ActionOptionError",
    "ActionProcessExited",
    "ActionProcessKilled",
    "ActionProcessOutput",
    "ActionProcessStarted",
    "AgentLostError",
    "AlreadyRunningError",
    "ClusterError",
    "CommandFailedError",
    "CommandResult",
    "CommandTimeoutError",
    "ControlServer",
    "Core",
    "Daemon",
    "DaemonEntry",
    "DaemonError",
    "DaemonOptions",
    "EndReason",
    "EventBatch",
    "Executor",
    "HealthCheck",
    "HealthServer",
    "Info",
    "ManagedProcess",
    "OptionError",
    "OutputLine",
    "OutputLines",
    "Overflow",
    "PIDFile",
    "PipelineError",
    "Probe",
    "Process",
    "ProcessError",
    "ProcessInfo",
    "ProcessNotFoundError",
    "ProcessNotRunningError",
    "ProcessStartError",
    "Program",
    "ProgramNotFoundError",
    "Registry",
    "RegistryError",
    "ReloadPlan",
    "ResourceUsage",
    "RestartLimitError",
    "RestartPolicy",
    "RingBuffer",
    "RootCause",
    "RunAllResult",
    "RunKeywords",
    "RunOptions",
    "RunResult",
    "RunSpec",
    "RunUpdate",
    "Runner",
    "Secret",
    "Service",
    "ServiceClosedError",
    "ServiceOptions",
    "ServiceStatistics",
    "SpecState",
    "Status",
    "StdinNotAvailableError",
    "Stdio",
    "StopFailedError",
    "Strategy",
    "Stream",
    "Subscription",
    "SubscriptionStatistics",
    "Supervisor",
    "Unit",
    "UnitChanged",
    "UnitCondition",
    "UnitFailedError",
    "UnitInfo",
    "UnitLines",
    "UnitSpec",
    "UnitState",
    "default_registry",
    "load_pipeline",
    "load_services",
    "probe_health",
    "probe_ready",
    "read_pid",
    "wait_for_health",
    "wait_for_ready",
]
