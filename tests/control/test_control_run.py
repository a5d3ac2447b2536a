"""`trio-process run --listen`: a run that is shown, and stopped, from outside."""

import os
import sys

import pytest
import trio

from trio_process import ControlServer, Service
from trio_process._control import ControlClient, ControlError

FILE = """
[tasks.first]
shell = "echo begun; test -z \\"$TRIO_PROCESS_TOKEN\\" && sleep 1000"

[tasks.second]
shell = "true"
after = ["first"]
"""


@pytest.mark.bound(200)
async def test_a_run_is_shown_and_stopped_over_its_socket(tmp_path):
    (tmp_path / "trio-process.toml").write_text(FILE)
    async with Service() as service:
        process = await service.start(
            sys.executable,
            "-m",
            "trio_process",
            "run",
            "--listen",
            "unix:control.sock",
            cwd=tmp_path,
            env={"TRIO_PROCESS_TOKEN": "not-for-tasks"},
        )
        await process.wait_for_line("| begun", timeout=100)
        client = ControlClient(f"unix:{tmp_path}/control.sock")
        (row,) = await client.get("/pipelines")
        assert (row["state"], row["name"]) == ("running", os.path.basename(tmp_path))
        assert row["counts"] == {"running": 1, "pending": 1}
        async with client.events(channels="pipeline.update") as events:
            first = await anext(events)
            assert first["type"] == "snapshot"
            assert (await client.post(f"/pipelines/{row['id']}/stop"))["stopped"] is True
            last = first
            async for message in events:
                last = message
            assert last["type"] == "bye"
        with trio.fail_after(60):
            assert await process.wait(check=False) == 1
        assert "not-for-tasks" not in process.output()
        assert "this run is shown at http+unix://" in process.output()


async def test_the_client_tells_what_a_server_refuses():
    async with Service() as service:
        async with ControlServer("127.0.0.1:0", service=service) as control:
            client = ControlClient(control.addr, token=control.token)
            with pytest.raises(ControlError, match="no process with the id 'nobody'") as caught:
                await client.post("/processes/nobody/kill")
            assert (caught.value.status, caught.value.code) == (404, "not_found")
