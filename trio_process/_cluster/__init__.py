"""Execution on other machines: a wire protocol, the agent at the other end, and a backend that spawns through agents."""

from .agents import Agent, AgentState, LostStartError, Roster
from .channels import (
    CallbackChannel,
    CallbackListener,
    CommandChannel,
    module_argv,
    open_callbacks,
    open_command,
    python_argv,
)
from .crew import Crew, Launcher
from .messages import MOST_SLOTS, Hello
from .remote import RemoteBackend
from .serving import AgentServer
from .session import Channel
from .tls import client_context, server_context

__all__ = [
    "MOST_SLOTS",
    "Agent",
    "AgentServer",
    "AgentState",
    "CallbackChannel",
    "CallbackListener",
    "Channel",
    "CommandChannel",
    "Crew",
    "Hello",
    "Launcher",
    "LostStartError",
    "RemoteBackend",
    "Roster",
    "client_context",
    "module_argv",
    "open_callbacks",
    "open_command",
    "python_argv",
    "server_context",
]
