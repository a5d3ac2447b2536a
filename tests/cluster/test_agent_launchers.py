"""The launcher of the documentation, with a stand-in for kubectl that runs here what it would run in a pod."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "kubernetes_agents.py"

KUBECTL = f"""#!/bin/sh
case "$*" in
    "--namespace default get pods --selector app=worker --output name") printf 'pod/one\\npod/two\\n' ;;
    "--namespace default exec -i pod/"*" -- python3 -m trio_process.agent")
        echo "Defaulted container worker out of: worker, sidecar" >&2
        {sys.executable} -m trio_process.agent
        exit $? ;;
    *) echo "kubectl: unexpected: $*" >&2; exit 1 ;;
esac
"""


def test_agents_in_pods(tmp_path):
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    done = subprocess.run(
        [sys.executable, EXAMPLE, "app=worker"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "['0', '1', '2']\n"), done.stderr
