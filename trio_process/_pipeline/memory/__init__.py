"""Remember what specs were made from, so that a run finds out which are up to date."""

from .fingerprint import Fingerprint, find_unmatched
from .memory import LastRun, Memory
from .reasons import because
from .watched import Watched

__all__ = ["Fingerprint", "LastRun", "Memory", "Watched", "because", "find_unmatched"]
