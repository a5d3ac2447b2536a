"""Execution past one machine: a wire, the agent at its far end, and a backend that spawns through agents."""

from .serving import AgentServer
from .tls import client_context, server_context

__all__ = ["AgentServer", "client_context", "server_context"]
