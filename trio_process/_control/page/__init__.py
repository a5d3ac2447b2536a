"""The page: its files, sent as they are.

With them goes the policy that keeps a browser from running anything else.
"""

from .files import index, page_file

__all__ = ["index", "page_file"]
