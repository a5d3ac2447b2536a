"""Layer 2, lifecycle: PID file, registry, health, daemon."""

from .daemon import Daemon
from .health import HealthCheck, HealthServer, parse_address, probe_health, probe_ready, wait_for_health, wait_for_ready
from .options import DaemonOptions
from .pidfile import PIDFile, read_pid
from .registry import DaemonEntry, Registry, default_registry, file_names, open_daemon

__all__ = [
    "Daemon",
    "DaemonEntry",
    "DaemonOptions",
    "HealthCheck",
    "HealthServer",
    "PIDFile",
    "Registry",
    "default_registry",
    "file_names",
    "open_daemon",
    "parse_address",
    "probe_health",
    "probe_ready",
    "read_pid",
    "wait_for_health",
    "wait_for_ready",
]
