"""The HTTP server of /health and /ready, its checks, and the functions that probe it."""

from .address import Address, parse_address, parse_destination
from .checks import HealthCheck, HealthChecks
from .cork import corked
from .judge import judge, one_line, reason_of
from .last_message import LastMessage
from .listen import listening
from .negotiate import preferred
from .probe import (
    Answer,
    ask,
    is_refused,
    probe_health,
    probe_ready,
    wait_for_health,
    wait_for_ready,
    why_not_connected,
)
from .server import HealthServer, import_http
from .serving import serving
from .state import HealthState

__all__ = [
    "Address",
    "Answer",
    "HealthCheck",
    "HealthChecks",
    "HealthServer",
    "HealthState",
    "LastMessage",
    "ask",
    "corked",
    "import_http",
    "is_refused",
    "judge",
    "listening",
    "one_line",
    "parse_address",
    "parse_destination",
    "preferred",
    "probe_health",
    "probe_ready",
    "reason_of",
    "serving",
    "wait_for_health",
    "wait_for_ready",
    "why_not_connected",
]
