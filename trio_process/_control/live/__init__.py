"""Track the running services and processes: kept up to date by events, and passed on to streams.

`Plane` holds this state for one server, and is passed to every handler.
"""

from .feed import Feed
from .logstore import MAX_LINES, Query
from .pipelines import Pipeline
from .plane import Plane, masked
from .sampler import refresh_samples, sample
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
    "refresh_samples",
    "refuse_websocket",
    "row",
    "sample",
    "serve_events",
    "serve_hold",
    "serve_websocket",
    "watch_leaving",
]
