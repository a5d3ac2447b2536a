"""What the server knows of what runs: kept up to date by events, and passed on to streams.

`Plane` holds all of it for one server, and is what every handler is given.
"""

from .feed import Feed, sample
from .logstore import MAX_LINES, Query
from .pipelines import Pipeline
from .plane import Plane, masked
from .services import of_failure, row
from .streams import refuse_websocket, serve_events, serve_hold, serve_websocket, watch_leaving
from .watch import probe

__all__ = [
    "MAX_LINES",
    "Feed",
    "Pipeline",
    "Plane",
    "Query",
    "masked",
    "of_failure",
    "probe",
    "refuse_websocket",
    "row",
    "sample",
    "serve_events",
    "serve_hold",
    "serve_websocket",
    "watch_leaving",
]
