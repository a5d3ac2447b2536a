"""Layer 2, lifecycle: PID file, registry, health, daemon."""

from .address import parse_address
from .checkup import HealthCheck
from .daemon import Daemon
from .entry import DaemonEntry
from .health import HealthServer
from .holder import open_daemon
from .naming import file_names
from .options import DaemonOptions
from .pidfile import PIDFile, read_pid
from .probe import probe_health, probe_ready, wait_for_health, wait_for_ready
from .registry import Registry, default_registry

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
