"""Layer 1, execution: a service spawns, watches, streams and stops processes inside a nursery."""

from .buffer import DEFAULT_BUFFER_SIZE, RingBuffer
from .child import ManagedProcess, OutputLines
from .descendants import state_of
from .lines import OutputLine
from .program import Program
from .service import Service, ServiceOptions, ServiceStatistics

__all__ = [
    "DEFAULT_BUFFER_SIZE",
    "ManagedProcess",
    "OutputLine",
    "OutputLines",
    "Program",
    "RingBuffer",
    "Service",
    "ServiceOptions",
    "ServiceStatistics",
    "state_of",
]
