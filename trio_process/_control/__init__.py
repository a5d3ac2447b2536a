"""Watch and control running processes: an HTTP API, an event stream, metrics and a page."""

from .client import ControlClient, ControlError
from .gate import Access
from .server import ControlServer, add_route, serve_beside, serve_on_demand

__all__ = [
    "Access",
    "ControlClient",
    "ControlError",
    "ControlServer",
    "add_route",
    "serve_beside",
    "serve_on_demand",
]
