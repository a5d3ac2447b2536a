"""Layer 3, orchestration: interdependent specs, the order in which they run, and their results."""

from .analysis import RootCause, find_origins, group_by_origin
from .file import PipelineFile, ServiceEntry, has_pipeline, key_of, parse_duration, read_pipeline
from .memory import LastRun, Memory, Watched, because, find_unmatched
from .plan import Plan, find_faults, make_plan
from .report import to_dot, to_mermaid
from .result import RunResult, RunUpdate, SpecState, is_not_needed
from .run_result import RunAllResult
from .runner import Runner, run_restartable
from .spec import Attempt, Executor, RunSpec
from .unchanged_run import finish_unchanged

__all__ = [
    "Attempt",
    "Executor",
    "LastRun",
    "Memory",
    "PipelineFile",
    "Plan",
    "RootCause",
    "RunAllResult",
    "RunResult",
    "RunSpec",
    "RunUpdate",
    "Runner",
    "ServiceEntry",
    "SpecState",
    "Watched",
    "because",
    "find_faults",
    "find_origins",
    "find_unmatched",
    "finish_unchanged",
    "group_by_origin",
    "has_pipeline",
    "is_not_needed",
    "key_of",
    "make_plan",
    "parse_duration",
    "read_pipeline",
    "run_restartable",
    "to_dot",
    "to_mermaid",
]
