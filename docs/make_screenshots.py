"""Makes the pictures of the page, `docs/_static/control-*.png`, from a real run: `python docs/make_screenshots.py`.

It needs the distribution's Chromium on the PATH, and playwright.
"""

import os
import shutil
import sys
from pathlib import Path

import trio
from playwright.sync_api import Browser, sync_playwright

from trio_process import ControlServer, Probe, RestartPolicy, Runner, RunSpec, Supervisor, UnitSpec

STATIC = Path(__file__).parent / "_static"
HISTORY = 45.0  # seconds, so that there is something to see in the small curves

WEB = r"""
import itertools, random, sys, time
random.seed(int(sys.argv[1]))
print("listening on :8080", flush=True)
levels = ["\033[32mINFO\033[0m ", "\033[33mWARN\033[0m ", "\033[31mERROR\033[0m", "\033[2mDEBUG\033[0m"]
for number in itertools.count(1):
    level = random.choices(levels, [75, 10, 4, 11])[0]
    took = random.randint(2, 90)
    print(f"{level} \033[36mGET\033[0m /api/items/{number} 200 in {took} ms", flush=True)
    if number % 23 == 0:
        print("upstream: connection refused, trying again", file=sys.stderr, flush=True)
    sum(range(random.randint(0, 1_200_000)))
    time.sleep(random.random() / 6)
"""
POSTGRES = (
    "echo 'database system is ready to accept connections'; while :; do sleep 1.3; echo 'checkpoint complete'; done"
)
WORKER = "echo 'worker: connecting to the broker'; sleep 9; echo 'the broker closed the connection' >&2; exit 3"
SHELL = "sh"
UNITS = [
    UnitSpec(name="postgres", command=SHELL, args=["-c", POSTGRES], ready=Probe.line("ready to accept")),
    UnitSpec(name="redis", command=SHELL, args=["-c", "echo Ready to accept connections; exec sleep 9999"]),
    UnitSpec(
        name="migrate",
        command=SHELL,
        args=["-c", "echo 0042_add_index; sleep 0.5"],
        after=["postgres"],
        restart=RestartPolicy.never(),
    ),
    UnitSpec(
        name="web",
        command=sys.executable,
        args=["-u", "-c", WEB, "7"],
        after={"migrate": "completed", "redis": "ready"},
        replicas=2,
        ready=Probe.line("listening"),
    ),
    UnitSpec(
        name="worker",
        command=SHELL,
        args=["-c", WORKER],
        after=["redis", "postgres"],
        restart=RestartPolicy.on_failure(max_restarts=99, backoff=20.0),
    ),
    UnitSpec(
        name="mailer",
        command=SHELL,
        args=["-c", "echo 'no SMTP host was given' >&2; exit 1"],
        after=["redis"],
        restart=RestartPolicy.never(),
    ),
    UnitSpec(name="reports", command="sleep", args=["9999"], after=["mailer"]),
    UnitSpec(name="proxy", command=SHELL, args=["-c", "while :; do echo 'GET / 200'; sleep 0.4; done"], after=["web"]),
    UnitSpec(name="profiler", command="sleep", args=["9999"], enabled=False),
]


def _task(name: str, script: str, *after: str, allow_failure: bool = False) -> RunSpec:
    return RunSpec(name=name, command=SHELL, args=["-c", script], after=after, allow_failure=allow_failure)


TASKS = [
    _task("lint", "sleep 0.5; echo all checks passed"),
    _task("types", "sleep 1.2; echo no issues found"),
    _task("schema", "sleep 0.3; echo valid"),
    _task("spelling", "sleep 0.6; echo 'guide.md:12: recieve'; exit 1", allow_failure=True),
    *[_task(f"test-3.{minor}", f"sleep {1.4 + minor / 20}; echo 96 passed", "lint") for minor in (11, 12, 13)],
    _task("docs", "sleep 1.3; echo build succeeded", "schema"),
    _task("wheel", "sleep 0.4; echo built", "types"),
    _task("install", "sleep 0.3; echo 'no room left in the image' >&2; exit 1", "wheel"),
    _task("smoke-test", "true", "install"),
    _task("publish", "true", "test-3.11", "docs", "smoke-test"),
]


def shoot(
    browser: Browser, url: str, where: str, name: str, *, dark: bool = False, width: int = 1180, height: int = 640
) -> None:
    """Make one picture."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", device_scale_factor=1.5
    )
    page = context.new_page()
    page.goto(url)
    page.get_by_role("navigation", name="Views").get_by_text("Overview").wait_for()
    page.evaluate("where => { location.hash = where }", where)
    page.wait_for_timeout(2500)
    page.screenshot(path=str(STATIC / name))
    context.close()


def pictures(url: str) -> None:
    """Make all pictures."""
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--headless", *root])
        watcher = browser.new_page()
        watcher.goto(url)
        watcher.wait_for_timeout(HISTORY * 1000)  # services are measured only while somebody looks
        shoot(browser, url, "#/", "control-services.png")
        shoot(browser, url, "#/service/web", "control-logs.png", dark=True)
        shoot(browser, url, "#/graph", "control-graph.png", height=420)
        shoot(browser, url, "#/pipeline/1", "control-pipeline.png", height=540)
        shoot(browser, url, "#/", "control-narrow.png", dark=True, width=375, height=720)
        browser.close()


async def main() -> None:
    """Run what is shown, and make the pictures."""
    supervisor = Supervisor(UNITS)
    async with ControlServer("127.0.0.1:0", supervisor=supervisor) as control, supervisor:
        await Runner(supervisor.service).run_all(
            TASKS, schedule="eager", updates=control.pipeline("nightly build", TASKS)
        )
        await trio.to_thread.run_sync(pictures, control.login_url.reveal())


if __name__ == "__main__":
    trio.run(main)
