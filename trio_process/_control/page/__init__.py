"""Serve the files of the page, unchanged.

They are sent with the policy that keeps a browser from running anything else.
"""

from .files import index, page_file

__all__ = ["index", "page_file"]
