"""Define the keys of a service in a pipeline file: the task keys that concern a process, and the fields of `UnitSpec`."""

from __future__ import annotations

from typing import Final

from .. import value_types
from ..keys import TASK_KEYS, Key, explain_unknown
from . import value_types as service_types

OF_TASKS: Final = (
    "run", "shell", "dir", "env", "env-file", "secrets", "timeout", "idle-timeout", "stop-signal", "grace-period",
    "ok-exit-codes", "resources", "stdin", "log-file", "limits", "nice", "user", "description",
)  # fmt: skip
OF_DEFAULTS: Final = ("dir", "env", "env-file", "secrets", "grace-period")
"""The keys of ``[defaults]`` that also apply to services."""

_OWN: Final = (
    Key("after", service_types.CONDITIONS, "The services that it waits for at every start.", default=False),
    Key("ready", service_types.PROBE, "The readiness probe.", default=False),
    Key("live", service_types.PROBE, "The liveness probe.", default=False),
    Key("settle", value_types.DURATION, "Without `ready`: how long it must run to count as ready.", default=False),
    Key("start-timeout", value_types.POSITIVE_DURATION, "How long it may take to become ready.", default=False),
    Key("restart", service_types.RESTART, "When it is restarted.", default=False),
    Key("essential", value_types.FLAG, "Whether its end stops all services.", default=False),
    Key("replicas", value_types.COUNT, "How many instances run.", default=False),
    Key("enabled", value_types.FLAG, "Whether it is started with the others, and not only on request.", default=False),
)
SERVICE_KEYS: Final = {name: TASK_KEYS[name] for name in OF_TASKS} | {key.name: key for key in _OWN}

# process-compose, docker compose, supervisord, systemd, Kubernetes, our Python API
_FOREIGN: Final = {
    "after": "depends_on depends-on dependsOn deps needs requires wants links",
    "run": "cmd command commands args exec execute program entrypoint ExecStart",
    "dir": "working_dir working-dir working_directory workdir cwd directory",
    "env": "environment envs vars",
    "env-file": "env_file envfile dotenv",
    "ready": "readiness_probe readiness readinessProbe healthcheck health_check health wait-for wait_for",
    "live": "liveness_probe liveness livenessProbe watchdog",
    "settle": "startsecs",
    "start-timeout": "start_timeout startup_timeout timeout_start",
    "restart": "availability restart_policy autorestart policy",
    "essential": "critical required exit_on_end",
    "replicas": "scale instances numprocs count",
    "enabled": "autostart disabled is_enabled",
    "stop-signal": "stop_signal stopsignal kill_signal signal",
    "grace-period": "grace_period stop_grace_period stopwaitsecs shutdown_timeout stop-timeout",
    "log-file": "log_file log_location logfile stdout_logfile",
    "limits": "ulimits rlimits",
    "nice": "priority",
    "description": "desc summary",
}
_OURS_FOR: Final = {foreign: right for right, listed in _FOREIGN.items() for foreign in listed.split()}
_EXPLAINED: Final = {
    **dict.fromkeys(
        ("image", "build", "ports", "volumes", "networks"), "unknown key; services are processes, not containers"
    ),
    **dict.fromkeys(
        ("retries", "when", "weight", "allow-failure", "matrix", "inputs", "outputs", "uses", "interactive", "manual"),
        "unknown key; that is for tasks",
    ),
}


def unknown_service_key(name: str) -> str:
    """Return the error text for a key that is not valid in a service."""
    return explain_unknown(name, _EXPLAINED, _OURS_FOR, SERVICE_KEYS)
