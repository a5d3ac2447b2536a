"""Show a run: the live view, the plain log, and the final summary."""

from .board import Board, Change, receive_all
from .live import LiveView
from .plain import PlainView
from .render import account, as_text, terminal_console
from .styles import Group, Prefix, Raw, Style, commands_of
from .summary import summarize
from .view import View

__all__ = [
    "Board",
    "Change",
    "Group",
    "LiveView",
    "PlainView",
    "Prefix",
    "Raw",
    "Style",
    "View",
    "account",
    "as_text",
    "commands_of",
    "receive_all",
    "summarize",
    "terminal_console",
]
