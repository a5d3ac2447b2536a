"""Layer 1, execution: a service spawns, watches, streams and stops processes inside a nursery."""

from .backend import Handle, Owner
from .containment import MARKER, Left, state_of
from .lifecycle import Life
from .local import CHUNK, PIPE_CAPACITY, Containment, open_path
from .managed_process import ManagedProcess
from .options import ServiceOptions, ServiceStatistics
from .output import DEFAULT_BUFFER_SIZE, OutputLine, Redactor, RingBuffer, echo_chunks
from .output_lines import OutputLines
from .program import Program
from .reactor import Reactor, Timer
from .reap import Ending
from .service import Service
from .start_errors import explain

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
    "echo_chunks",
    "explain",
    "open_path",
    "state_of",
]
