"""Define the routes of the API and their handlers.

The router, the guard, `openapi.json` and the documentation are all based on a single table of routes.
"""

from .routes import Match, Route, Router, check_query
from .schema import check, record
from .table import api_routes, page_routes

__all__ = [
    "Match",
    "Route",
    "Router",
    "api_routes",
    "check",
    "check_query",
    "page_routes",
    "record",
]
