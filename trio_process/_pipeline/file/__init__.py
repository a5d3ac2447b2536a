"""Turn a pipeline file into specs: TOML or a Procfile, with every fault reported at once."""

from .durations import parse_duration
from .faults import key_of
from .load import PipelineFile, has_pipeline, read_pipeline
from .service.entry import ServiceEntry

__all__ = [
    "PipelineFile",
    "ServiceEntry",
    "has_pipeline",
    "key_of",
    "parse_duration",
    "read_pipeline",
]
