"""The commands ``trio-process daemon …``: a supervisor process in the background, and its files."""

from .files import described

__all__ = ["described"]
