"""The application of the tutorial checks its packed files on Slurm."""

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

APP = Path(__file__).parents[2] / "docs" / "examples" / "app"


def verify(data, *options):
    file = shutil.copy(APP / "trio-process.toml", data)  # runs are remembered beside it
    command = [sys.executable, "-m", "trio_process", "run", "-f", file, "verify", *options]
    environment = {**os.environ, "DEPOT_DATA": str(data)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)


def test_the_files_of_the_depot_are_checked_by_a_job(slurm, tmp_path):
    (tmp_path / "files").mkdir()
    for number in (1, 2):
        (tmp_path / "files" / f"{number}.gz").write_bytes(gzip.compress(b"content"))
    done = verify(tmp_path, "--executor", "slurm:1?-c1 --mem=100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all files are sound" in done.stdout
    (tmp_path / "files" / "2.gz").write_bytes(gzip.compress(b"content")[:-4])
    broken = verify(tmp_path, "--executor", "slurm:1?-c1 --mem=100")
    assert broken.returncode == 1
    assert "2.gz" in broken.stdout
