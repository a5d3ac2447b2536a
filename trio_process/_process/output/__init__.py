"""What a child wrote, and where it goes: capture, lines, events, log file, echo."""

from .echo import Echo, echo_chunks
from .lines import LineCursor, OutputLine
from .log_file import open_log
from .redact import Redactor
from .ring_buffer import DEFAULT_BUFFER_SIZE, RingBuffer
from .router import SLOW_READER, Consumer, Output, Patience
from .tail import Follower, open_at_end

__all__ = [
    "DEFAULT_BUFFER_SIZE",
    "SLOW_READER",
    "Consumer",
    "Echo",
    "Follower",
    "LineCursor",
    "Output",
    "OutputLine",
    "Patience",
    "Redactor",
    "RingBuffer",
    "echo_chunks",
    "open_at_end",
    "open_log",
]
