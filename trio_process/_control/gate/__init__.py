"""Decide which requests are accepted: by the names of the server, the origin of a page, the token, and the access level.

The decision is based only on the head of a request, before anything is routed.
"""

from .access import Access
from .guard import Guard, Need
from .hosts import Names, is_loopback

__all__ = [
    "Access",
    "Guard",
    "Names",
    "Need",
    "is_loopback",
]
