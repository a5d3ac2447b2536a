"""Layer 3, orchestration: what depends on what, in which order it runs, and what is told of it."""

from .file import PipelineFile, has_pipeline, load_pipeline, parse_duration, read_pipeline
from .plan import Plan, find_faults, make_plan
from .report import to_dot, to_mermaid
from .result import RunAllResult, RunResult, RunUpdate, SpecState
from .runner import Runner
from .spec import Attempt, Executor, RunSpec

__all__ = [
    "Attempt",
    "Executor",
    "PipelineFile",
    "Plan",
    "RunAllResult",
    "RunResult",
    "RunSpec",
    "RunUpdate",
    "Runner",
    "SpecState",
    "find_faults",
    "has_pipeline",
    "load_pipeline",
    "make_plan",
    "parse_duration",
    "read_pipeline",
    "to_dot",
    "to_mermaid",
]
