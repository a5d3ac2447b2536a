"""Layer 1, execution: a service spawns, watches, streams and stops processes inside a nursery."""

from .backend import (
    Backend,
    BackendFactory,
    ExitInfo,
    Handle,
    HandleOwner,
    LifecycleHost,
    Survivor,
    Swept,
    use_backend,
)
from .environment import MARKER, encoded
from .handle_between import HandleBetween
from .lifecycle import Lifecycle
from .local import (
    CHUNK,
    PIPE_CAPACITY,
    WANTS_TERMINAL,
    LocalBackend,
    keep_terminal,
    open_path,
    spawn_with_descriptor_limit,
)
from .managed_process import (
    ManagedProcess,
    OutputLines,
    ask_to_stop,
    masker_of,
    process_of,
    processor_time_of,
    stop_signal_of,
    unfinished_line,
)
from .options import ServiceOptions, ServiceStatistics
from .output import AT_ONCE, DEFAULT_BUFFER_SIZE, LogFile, OutputLine, Redactor, RingBuffer, echo_chunks
from .program import Program
from .reactor import Reactor, Timer
from .record import Record
from .runtime import make_local_backend
from .service import Service, start_noted
from .start_errors import file_was_closed, not_encodable, start_error

__all__ = [
    "AT_ONCE",
    "CHUNK",
    "DEFAULT_BUFFER_SIZE",
    "MARKER",
    "PIPE_CAPACITY",
    "WANTS_TERMINAL",
    "Backend",
    "BackendFactory",
    "ExitInfo",
    "Handle",
    "HandleBetween",
    "HandleOwner",
    "Lifecycle",
    "LifecycleHost",
    "LocalBackend",
    "LogFile",
    "ManagedProcess",
    "OutputLine",
    "OutputLines",
    "Program",
    "Reactor",
    "Record",
    "Redactor",
    "RingBuffer",
    "Service",
    "ServiceOptions",
    "ServiceStatistics",
    "Survivor",
    "Swept",
    "Timer",
    "ask_to_stop",
    "echo_chunks",
    "encoded",
    "file_was_closed",
    "keep_terminal",
    "make_local_backend",
    "masker_of",
    "not_encodable",
    "open_path",
    "process_of",
    "processor_time_of",
    "spawn_with_descriptor_limit",
    "start_error",
    "start_noted",
    "stop_signal_of",
    "unfinished_line",
    "use_backend",
]
