"""Layer 1, execution: a service spawns, watches, streams and stops processes inside a nursery."""

from .buffer import DEFAULT_BUFFER_SIZE, RingBuffer
from .child import ManagedProcess
from .containment import Containment
from .descendants import MARKER, Left, state_of
from .explain import explain
from .handle import Handle, Owner
from .life import Life
from .lines import OutputLine
from .local_handle import CHUNK
from .output_lines import OutputLines
from .program import Program
from .reactor import Reactor, Timer
from .reap import Ending
from .redact import Redactor
from .service import Service
from .settings import ServiceOptions, ServiceStatistics
from .stdio import PIPE_CAPACITY

__all__ = [
    "CHUNK",
    "DEFAULT_BUFFER_SIZE",
    "MARKER",
    "PIPE_CAPACITY",
    "Containment",
    "Ending",
    "Handle",
    "Left",
    "Life",
    "ManagedProcess",
    "OutputLine",
    "OutputLines",
    "Owner",
    "Program",
    "Reactor",
    "Redactor",
    "RingBuffer",
    "Service",
    "ServiceOptions",
    "ServiceStatistics",
    "Timer",
    "explain",
    "state_of",
]
