"""Layer 3, orchestration: what depends on what, in which order it runs, and what is told of it."""

from .spec import Attempt, Executor, RunSpec

__all__ = ["Attempt", "Executor", "RunSpec"]
