"""Layer 2, lifecycle: PID file, registry, health, daemon."""

from .daemon import Daemon
from .health import (
    Address,
    HealthCheck,
    HealthServer,
    corked,
    import_http,
    judge,
    listening,
    one_line,
    parse_address,
    probe_health,
    probe_ready,
    reason_of,
    serving,
    wait_for_health,
    wait_for_ready,
)
from .options import DaemonOptions
from .pidfile import PIDFile, read_pid
from .registry import DaemonEntry, Registry, default_registry, file_names, open_daemon

__all__ = [
    "Address",
    "Daemon",
    "DaemonEntry",
    "DaemonOptions",
    "HealthCheck",
    "HealthServer",
    "PIDFile",
    "Registry",
    "corked",
    "default_registry",
    "file_names",
    "import_http",
    "judge",
    "listening",
    "one_line",
    "open_daemon",
    "parse_address",
    "probe_health",
    "probe_ready",
    "read_pid",
    "reason_of",
    "serving",
    "wait_for_health",
    "wait_for_ready",
]
