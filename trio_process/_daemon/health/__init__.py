"""The HTTP server of /health and /ready, its checks, and the functions that probe it."""

from .address import parse_address
from .checks import Checkup, HealthCheck
from .probe import probe_health, probe_ready, wait_for_health, wait_for_ready
from .server import HealthServer
from .state import HealthState

__all__ = [
    "Checkup",
    "HealthCheck",
    "HealthServer",
    "HealthState",
    "parse_address",
    "probe_health",
    "probe_ready",
    "wait_for_health",
    "wait_for_ready",
]
