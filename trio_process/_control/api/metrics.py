"""Format ``GET /metrics``: OpenMetrics 1.0 text, or Prometheus text for clients that don't request OpenMetrics.

Labels come only from the file and from route templates, so that no client can create new series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from ..live import Plane

OPENMETRICS: Final = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS: Final = b"text/plain; version=0.0.4; charset=utf-8"

_STATES: Final = (
    "stopped", "waiting", "starting", "ready", "unready", "stopping", "backoff", "completed", "failed", "skipped",
)  # fmt: skip

Sample = tuple[Mapping[str, str], float]


class Family(NamedTuple):
    """One metric: its name without the prefix and without `_total`, and its samples."""

    name: str
    kind: str
    help: str
    samples: Iterable[Sample]
    unit: str = ""


FAMILIES: Final = {
    "service_state": "Whether a replica is in this state (1) or not (0).",
    "service_restarts": "Restarts of a replica.",
    "service_exit_code": "The last exit code of a replica, -N for death by signal N.",
    "service_cpu_seconds": "CPU time of a replica and its descendants, while it was measured.",
    "service_memory_bytes": "Resident memory of a replica and its descendants.",
    "service_descriptors": "Open descriptors of a replica and its descendants.",
    "service_processes": "Processes of a replica.",
    "log_lines": "Lines that a service has written.",
    "log_lines_forgotten": "Lines that are no longer kept, because newer ones replaced them.",
    "stream_lines_dropped": "Lines that were dropped for streams that read too slowly.",
    "processes_running": "Running processes.",
    "processes_started": "Processes that were started.",
    "processes_failed": "Processes that could not be started.",
    "daemons": "Daemons of the registry, at the last check.",
    "pipeline_tasks": "Tasks of running pipelines, by state.",
    "loop_lag_seconds": "How late the event loop was, at the last check.",
    "loop_lag_max_seconds": "How late the event loop was at most.",
    "http_requests": "Responses, by route, method and status.",
    "streams_open": "Open streams.",
    "probe_ready": "Whether a replica is ready (1) or not (0).",
}
"""The metrics and their help texts, in the order of the output."""


def render(plane: Plane, *, openmetrics: bool) -> bytes:
    """Return all metrics as text."""
    lines: list[str] = []
    for family in _families(plane):
        full = f"trio_process_{family.name}"
        total = f"{full}_total" if family.kind == "counter" else full
        named = full if openmetrics else total
        lines += [f"# TYPE {named} {family.kind}", f"# HELP {named} {family.help}"]
        if openmetrics and family.unit:
            lines.insert(-1, f"# UNIT {named} {family.unit}")
        lines += [f"{total}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
    if openmetrics:
        lines.append("# EOF")
    return ("\n".join(lines) + "\n").encode()


def _families(plane: Plane) -> Iterator[Family]:
    yield from _of_services(plane)
    logs = list(plane.logs.counts())
    known = {unit.spec.name for unit in plane.services.units()}
    named = [(name if name in known else "", total, gone) for name, total, gone in logs]
    yield _family("log_lines", "counter", _summed((name, total) for name, total, _ in named))
    yield _family("log_lines_forgotten", "counter", _summed((name, gone) for name, _, gone in named))
    yield _family("stream_lines_dropped", "counter", [({}, plane.hub.dropped)])
    service = plane.service
    if service is not None:
        counts = service.statistics()
        yield _family("processes_running", "gauge", [({}, counts.running)])
        yield _family("processes_started", "counter", [({}, counts.started)])
        yield _family("processes_failed", "counter", [({}, counts.failed)])
    if plane.registry is not None:
        yield _family("daemons", "gauge", [({}, len(plane.daemons.rows()))])
    tasks = plane.pipelines.tasks().items()
    yield _family("pipeline_tasks", "gauge", [({"state": state}, count) for state, count in tasks])
    yield _family("loop_lag_seconds", "gauge", [({}, plane.samples.loop_lag)], "seconds")
    yield _family("loop_lag_max_seconds", "gauge", [({}, plane.samples.loop_lag_max)], "seconds")
    answers = sorted(plane.requests.items())
    yield _family(
        "http_requests",
        "counter",
        [({"method": m, "route": r, "status": str(s)}, count) for (m, r, s), count in answers],
    )
    yield _family("streams_open", "gauge", [({}, plane.streams)])


def _of_services(plane: Plane) -> Iterator[Family]:
    units = [(unit, {"service": unit.spec.name, "replica": str(unit.replica)}) for unit in plane.services.units()]
    if not units:
        return
    states = [
        (labels | {"state": state}, float(str(unit.state) == state)) for unit, labels in units for state in _STATES
    ]
    yield _family("service_state", "gauge", states)
    yield _family("probe_ready", "gauge", [(labels, float(unit.ready)) for unit, labels in units])
    yield _family("service_restarts", "counter", [(labels, unit.restarts) for unit, labels in units])
    codes = [(labels, unit.process) for unit, labels in units]
    ended = [(labels, process.exit_code) for labels, process in codes if process is not None]
    yield _family("service_exit_code", "gauge", [(labels, code) for labels, code in ended if code is not None])
    of = {unit.name: labels for unit, labels in units}
    used = [(of[name], cpu, latest) for name, cpu, latest in plane.samples.totals() if name in of]
    yield _family("service_cpu_seconds", "counter", [(labels, cpu) for labels, cpu, _ in used], "seconds")
    yield _family("service_memory_bytes", "gauge", [(labels, latest.memory) for labels, _, latest in used], "bytes")
    yield _family("service_descriptors", "gauge", [(labels, latest.descriptors) for labels, _, latest in used])
    yield _family("service_processes", "gauge", [(labels, latest.processes) for labels, _, latest in used])


def _family(name: str, kind: str, samples: Iterable[Sample], unit: str = "") -> Family:
    return Family(name, kind, FAMILIES[name], samples, unit)


def _summed(counts: Iterable[tuple[str, int]]) -> list[Sample]:
    sums: Counter[str] = Counter()
    for name, count in counts:
        sums[name] += count
    return [({"service": name}, count) for name, count in sums.items()]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
