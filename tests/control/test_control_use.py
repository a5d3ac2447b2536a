"""The page in use: every button and key, what axe says of every view, and a service that writes without an end."""

import sys

import pytest
import trio
from browser import Tab, until

from trio_process import (
    ControlServer,
    DaemonEntry,
    Probe,
    Registry,
    RestartPolicy,
    Runner,
    RunSpec,
    Supervisor,
    UnitSpec,
)

UNITS = [
    UnitSpec(name="db", command="sh", args=["-c", "echo open; exec sleep 1000"], ready=Probe.line("open")),
    UnitSpec(
        name="web",
        command="sh",
        args=["-c", r"echo up; printf '\033[31mred\033[0m and \033[2mdim\033[0m\n'; echo bad >&2; exec sleep 1000"],
        after=["db"],
    ),
    UnitSpec(name="broken", command="sh", args=["-c", "echo no luck >&2; exit 3"], restart=RestartPolicy.never()),
]
TASKS = [
    RunSpec(name="compile", command="echo", args=["compiled"]),
    RunSpec(name="deploy", command="sleep", args=["1000"], after=["compile"]),
    RunSpec(name="long " * 40, command="true", after=["compile"]),
]
VIEWS = ("#/", "#/logs", "#/service/web", "#/graph", "#/pipelines", "#/pipeline/1", "#/pipeline/1?as=graph")


def row_of(page, name):
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))


def copied(page):
    return page.evaluate("navigator.clipboard.readText()")


def steer_rows(page):
    """Click what the rows of the overview have; the daemon's answer is made up, as it would end this process."""
    row_of(page, "broken").get_by_role("button", name="Start broken").click()
    page.get_by_text("broken is being started").wait_for()
    row_of(page, "extra").get_by_role("button", name="Stop extra").click()
    row_of(page, "extra").wait_for(state="detached")
    asked = []

    def answer(route):
        asked.append(route.request.method)
        route.fulfill(json={"success": True, "data": {"stopped": True}})

    page.route("**/daemons/app/srv/stop", answer)
    row_of(page, "app/srv").get_by_role("button", name="Stop app/srv").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert asked == []
    row_of(page, "app/srv").get_by_role("button", name="Stop app/srv").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    page.get_by_text("app/srv was told to stop").wait_for()
    assert asked == ["POST"]


def steer_service(tab):
    page = tab.page
    tab.go("#/service/web")
    assert page.get_by_role("button", name="One replica less").is_disabled()
    page.get_by_role("button", name="One replica more").click()
    page.get_by_text("2 replicas").wait_for()
    page.get_by_role("button", name="Stop all web").wait_for()
    page.get_by_role("button", name="One replica less").click()
    page.get_by_text("1 replica", exact=True).wait_for()
    page.get_by_role("button", name="Stop web").click()
    page.locator(".head .pill", has_text="stopped").wait_for()
    page.keyboard.press("s")  # starts what is stopped
    page.locator(".head .pill", has_text="ready").wait_for()
    page.keyboard.press("r")
    page.locator(".head", has_text="Run3").wait_for()


def steer_logs(tab):
    page = tab.page
    tab.go("#/logs")
    page.locator("details.pick summary").click()
    page.locator("details.pick label", has_text="db").click()
    until(page, "location.hash === '#/logs?service=db'")
    page.keyboard.press("Escape")
    tab.go("#/logs")
    line = page.locator(".ln", has_text="red and dim").first
    line.click()
    page.locator(".full").get_by_role("button", name="Copy").click()
    page.get_by_text("The line was copied").wait_for()
    assert copied(page) == "red and dim"  # without the colours
    page.get_by_role("log", name="Log lines").press("ArrowUp")
    page.locator(".full pre", has_text="up").wait_for()
    page.locator(".full").get_by_role("button", name="Close").click()
    assert page.locator(".full").is_hidden()
    page.keyboard.press("p")
    page.get_by_role("button", name="Newest lines").click()  # goes on, too
    assert page.get_by_role("button", name="Pause").get_attribute("aria-pressed") == "false"
    page.keyboard.press("/")
    page.keyboard.type("dim")
    until(page, "document.querySelectorAll('.ln mark').length > 0")
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("The link was copied").wait_for()
    assert copied(page) == page.url
    page.get_by_role("log", name="Log lines").press("End")


def steer_by_keys(tab):
    page = tab.page
    tab.go("#/")
    for keys, where in (("gl", "#/logs"), ("go", "#/"), ("gg", "#/graph"), ("gp", "#/pipelines")):
        for key in keys:
            page.keyboard.press(key)
        until(page, f"location.hash === '{where}'")
    page.keyboard.press("Escape")
    page.locator("tr", has_text="db").wait_for()  # the address changes before the view does
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.locator("tr.picked", has_text="db").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Keyboard help").click()
    page.keyboard.press("Escape")
    colours = set()
    for press in (lambda: page.keyboard.press("t"), page.get_by_role("button", name="Colours").click):
        press()
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
    page.keyboard.press("t")


# rows whose name is drawn over their bar, and boxes of a graph whose icon is drawn outside of them
OVER = """[...document.querySelectorAll('.task')].filter((task) =>
    task.querySelector('.state').getBoundingClientRect().right > task.querySelector('.track').getBoundingClientRect().left)"""
OUTSIDE = """[...document.querySelectorAll('.graph a')].filter((box) => {
    const icon = box.querySelector('.glyph path').getBoundingClientRect();
    const edge = box.querySelector('rect').getBoundingClientRect();
    return icon.left < edge.left || icon.right > edge.right || icon.top < edge.top || icon.bottom > edge.bottom;
})"""


def steer_pipeline(tab):
    page = tab.page
    tab.go("#/pipeline/1")
    page.locator(".task", has_text="compile").click()
    assert page.evaluate(f"{OVER}.length") == 0
    page.locator(".out pre", has_text="compiled").wait_for()
    page.get_by_role("link", name="All lines").click()
    page.locator(".ln", has_text="compiled").wait_for()
    tab.go("#/pipeline/1")
    page.get_by_role("button", name="Graph").click()
    page.locator("svg a", has_text="deploy").get_by_text("running").wait_for()
    assert page.evaluate(f"{OUTSIDE}.length") == 0
    page.get_by_role("button", name="Timeline").click()
    page.get_by_role("button", name="Stop build").click()
    page.locator(".head .pill", has_text="failed").wait_for()


def violations(page, **options):
    found = page.evaluate("options => axe.run(document, options).then((results) => results.violations)", options)
    return [f"{each['id']} ({each['impact']}): {[node['target'] for node in each['nodes']][:4]}" for each in found]


def look_at_all_views(tab, axe):
    """Return what axe finds: all of its rules in one scheme and width, and those of colours in the other."""
    page = tab.page
    page.evaluate(axe)
    found = []
    for width, scheme, options in (
        (1280, "light", {}),
        (375, "dark", {"runOnly": ["color-contrast", "scrollable-region-focusable"]}),
    ):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        for where in VIEWS:
            tab.go(where)
            until(page, "document.querySelector('main h1')?.textContent")
            until(page, "!document.querySelector('.logbox') || document.querySelectorAll('.ln').length > 1")
            found += [f"{where}, {scheme}: {each}" for each in violations(page, resultTypes=["violations"], **options)]
    page.keyboard.press("?")
    found += [f"help: {each}" for each in violations(page)]
    page.keyboard.press("Escape")
    return found


def use(browser, control, axe):
    tab = Tab(browser, permissions=["clipboard-read", "clipboard-write"]).log_in(control)
    found = look_at_all_views(tab, axe)
    tab.page.set_viewport_size({"width": 1280, "height": 800})
    tab.go("#/")
    steer_rows(tab.page)
    steer_service(tab)
    steer_logs(tab)
    steer_by_keys(tab)
    steer_pipeline(tab)
    return found, tab.complaints


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_every_button_and_key_works_and_axe_finds_nothing(tmp_path, browse):
    reason = "axe-playwright-python, which brings axe-core, is not installed"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=reason).Axe().axe_script
    registry, supervisor, stopping = Registry(tmp_path), Supervisor(UNITS), trio.Event()
    async with (
        ControlServer("127.0.0.1:0", supervisor=supervisor, registry=registry) as control,
        supervisor,
        trio.open_nursery() as nursery,
    ):
        await supervisor.wait_ready("web")
        await supervisor.service.start("sleep", "1000", name="extra")
        updates = control.pipeline("build", TASKS, stopping=stopping)
        runner = Runner(supervisor.service)

        async def build():
            await runner.run_all(TASKS, updates=updates, stopping=stopping)

        nursery.start_soon(build)
        with registry.registered(DaemonEntry("app", "srv")):
            assert await browse(use, control, axe) == ([], [])
        assert stopping.is_set()


RATE, SECONDS = 20_000, 4  # more lines than the page keeps
WRITER = f"""
import sys, time
due = time.monotonic()
for number in range({SECONDS * 20}):
    sys.stdout.write(f"{{number}} a line of some sixty characters, as programs write them all day\\n" * {RATE // 20})
    sys.stdout.flush()
    due += 0.05
    time.sleep(max(0.0, due - time.monotonic()))
print("the last line", flush=True)
time.sleep(1000)
"""
HIDE = """hidden => {
    Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
}"""


def follow(browser, control):
    tab = Tab(browser).log_in(control)
    page = tab.page
    tab.go("#/service/noisy")
    until(page, "document.querySelectorAll('.ln').length > 10")
    session = tab.context.new_cdp_session(page)
    rows, heaps = [], []
    for hidden in (False, True, False):
        page.evaluate(HIDE, hidden)
        for _ in range(3):
            page.wait_for_timeout(SECONDS * 1000 / 9)
            rows.append(page.locator(".ln").count())
        session.send("HeapProfiler.collectGarbage")
        heaps.append(page.evaluate("performance.memory.usedJSHeapSize"))
    page.locator(".ln", has_text="the last line").wait_for()  # it was followed to the end
    return rows, heaps, tab.complaints


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_a_flood_is_followed_to_its_last_line_with_the_tab_in_the_background_and_back(browse):
    supervisor = Supervisor([UnitSpec(name="noisy", command=sys.executable, args=["-u", "-c", WRITER])])
    async with ControlServer("127.0.0.1:0", supervisor=supervisor) as control, supervisor:
        rows, heaps, complaints = await browse(follow, control)
    assert complaints == []
    assert max(rows) < 200
    assert max(heaps) < 60e6
