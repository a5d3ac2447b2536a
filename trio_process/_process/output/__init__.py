"""The output of a child, and where it goes: capture, lines, events, log file, echo."""

from .backpressure import Backpressure
from .capture import Capture
from .drain import Drain
from .echo import Echo, echo_chunks
from .lines import AT_ONCE, LineCursor, OutputLine, each_line
from .log_file import LogFile, open_log
from .redact import Redactor
from .ring_buffer import DEFAULT_BUFFER_SIZE, Ring, RingBuffer
from .router import Consumer, OutputRouter
from .tail import FileTail, open_at_end

__all__ = [
    "AT_ONCE",
    "DEFAULT_BUFFER_SIZE",
    "Backpressure",
    "Capture",
    "Consumer",
    "Drain",
    "Echo",
    "FileTail",
    "LineCursor",
    "LogFile",
    "OutputLine",
    "OutputRouter",
    "Redactor",
    "Ring",
    "RingBuffer",
    "each_line",
    "echo_chunks",
    "open_at_end",
    "open_log",
]
