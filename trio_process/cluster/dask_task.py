"""What a Dask worker runs: one agent, a process of its own that calls the client back.

Dask finds this function by the name of its module, so the package has to be installed where the workers are. The agent's
stdin is held open by the worker: when the worker goes, the agent does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from typing import Any

_KEPT = 20  # lines of the agent's stderr


def run_agent(config: dict[str, Any]) -> tuple[int, str]:
    """Run an agent to its end; return its exit status and the last lines of its stderr.

    Args:
        config: Where to call back to, and the token for it; `secured` says that the worker's own certificates are used.
    """
    from distributed import get_worker  # noqa: PLC0415 - there is one where this runs

    worker = get_worker()
    config = dict(config)
    if config.pop("secured"):
        found = worker.security.get_tls_config_for_role("worker")
        config["tls"] = {"ca": found["ca_file"], "cert": found["cert"], "key": found["key"]}
    else:
        config["tls"] = None
    argv = [sys.executable, "-P", "-m", "trio_process.agent", "--call-back", "--slots", str(worker.state.nthreads)]
    agent = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    assert agent.stdin is not None
    assert agent.stderr is not None
    with agent:
        agent.stdin.write(json.dumps(config).encode() + b"\n")
        agent.stdin.flush()  # and left open: its end would end the agent
        words = deque((line.decode(errors="replace").rstrip() for line in agent.stderr), _KEPT)
        return agent.wait(), "\n".join(words)
