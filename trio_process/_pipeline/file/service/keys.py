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
    Key("replicas", value_types.REPLICAS, "How many instances run.", default=False),
    Key("enabled", value_types.FLAG, "Whether it is started with the others, and not only on request.", default=False),
)
SERVICE_KEYS: Final = {name: TASK_KEYS[name] for name in OF_TASKS} | {key.name: key for key in _OWN}

# process-compose, docker compose, supervisord, systemd, Kubernetes, our Python API
_FOREIGN: Final = {
    "after": "depends_on depends-on dependsOn deps needs requires wants links After Requires Wants BindsTo",
    "run": "cmd command commands args exec execute program entrypoint ExecStart",
    "dir": "working_dir working-dir working_directory workdir cwd directory WorkingDirectory",
    "env": "environment envs vars Environment",
    "env-file": "env_file envfile dotenv EnvironmentFile",
    "ready": "readiness_probe readiness readinessProbe healthcheck health_check health wait-for wait_for"
    " ready_log_line",
    "live": "liveness_probe liveness livenessProbe watchdog WatchdogSec",
    "settle": "startsecs",
    "start-timeout": "start_timeout startup_timeout timeout_start launch_timeout_seconds TimeoutStartSec",
    "timeout": "RuntimeMaxSec",
    "restart": "availability restart_policy autorestart policy startretries max_restarts backoff_seconds"
    " Restart RestartSec StartLimitBurst StartLimitIntervalSec",
    "essential": "critical required exit_on_end exit_on_failure",
    "replicas": "scale instances numprocs count deploy",
    "enabled": "autostart is_enabled",
    "stop-signal": "stop_signal stopsignal kill_signal signal KillSignal",
    "grace-period": "grace_period stop_grace_period stopwaitsecs shutdown_timeout stop-timeout TimeoutStopSec",
    "ok-exit-codes": "ok_exit_codes exit_codes exitcodes SuccessExitStatus",
    "log-file": "log_file log_location logfile stdout_logfile StandardOutput",
    "limits": "ulimits rlimits LimitNOFILE",
    "description": "desc summary",
}
_OURS_FOR: Final = {foreign: right for right, listed in _FOREIGN.items() for foreign in listed.split()}
_EXPLAINED: Final = {
    **dict.fromkeys(
        (
            "image",
            "build",
            "ports",
            "volumes",
            "networks",
            "network_mode",
            "container_name",
            "hostname",
            "labels",
            "expose",
        ),
        "unknown key; services are processes, not containers",
    ),
    "priority": "unknown key; the order of the starts is written `after` here, the niceness of a process `nice`",
    **dict.fromkeys(
        ("disabled", "profiles"), "unknown key; a service that starts only on request has `enabled = false`"
    ),
    **dict.fromkeys(
        ("stopasgroup", "killasgroup", "KillMode"), "unknown key; signals always reach the whole process group"
    ),
    **dict.fromkeys(
        ("redirect_stderr", "stderr_logfile", "StandardError"), "unknown key; `log-file` takes both streams"
    ),
    **dict.fromkeys(
        ("stdout_logfile_maxbytes", "stdout_logfile_backups", "stderr_logfile_maxbytes", "stderr_logfile_backups"),
        "unknown key; a log file isn't rotated here: let logrotate do so, with `copytruncate`",
    ),
    "shutdown": "unknown key; a stop is described by `stop-signal` and `grace-period`",
    **dict.fromkeys(
        ("ExecStartPre", "pre_start"),
        'unknown key; what runs before is a service of its own, with `restart = "never"`; this one is `after` it',
    ),
    **dict.fromkeys(
        ("retries", "when", "weight", "allow-failure", "matrix", "inputs", "outputs", "uses", "interactive", "manual"),
        "unknown key; that is for tasks",
    ),
}


def unknown_service_key(name: str) -> str:
    """Return the error text for a key that is not valid in a service."""
    return explain_unknown(name, _EXPLAINED, _OURS_FOR, SERVICE_KEYS)
