"""The page in a real browser, and what other pages in the same browser can do: nothing."""

import json
import re

import pytest
import trio
from browser import Tab, until

from trio_process import (
    ControlServer,
    DaemonEntry,
    PipelineError,
    Probe,
    Registry,
    RestartPolicy,
    Runner,
    RunSpec,
    Service,
    Supervisor,
    UnitSpec,
)
from trio_process._control.page import files as page_files
from trio_process._core import escape_controls

STRANGE = (
    r"printf 'nul \000 bidi \342\200\256txet \033]0;title\007\033[31mred\033[0m \033[999;1Hmoved "
    r"<img src=x onerror=document.title=1> <script>document.title=1</script>\n';"
    r"head -c 1500000 /dev/zero | tr '\0' x; echo"
)


def specs():
    return [
        UnitSpec(name="db", command="sh", args=["-c", "echo open; exec sleep 1000"], ready=Probe.line("open")),
        UnitSpec(name="web", command="sh", args=["-c", "seq -f 'line %g' 3000; exec cat"], after=["db"], replicas=2),
        UnitSpec(name="strange", command="sh", args=["-c", f"{STRANGE}; exec sleep 1000"]),
        UnitSpec(name="off", command="sleep", args=["9"], enabled=False),
        UnitSpec(
            name="bad", command="sh", args=["-c", "echo '<i>no luck</i>' >&2; exit 3"], restart=RestartPolicy.never()
        ),
    ]


def steer(browser, control):
    tab = Tab(browser).log_in(control)
    page = tab.page
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="db", exact=True))
    row.get_by_text("ready").wait_for()
    bad = page.get_by_role("row").filter(has=page.get_by_role("link", name="bad", exact=True))
    bad.get_by_text("failed").wait_for()
    bad.get_by_text("<i>no luck</i>").wait_for()  # as text
    assert "token" not in page.url
    assert page.evaluate("document.cookie") == ""  # HttpOnly
    off = page.get_by_role("row").filter(has=page.get_by_role("link", name="off", exact=True))
    off.get_by_role("button", name="Start off").click()
    off.get_by_text("ready").wait_for()
    calls = []
    page.on("request", lambda request: request.method == "POST" and calls.append(request.url.rpartition("/")[2]))
    page.on("response", lambda answer: answer.request.method == "POST" and calls.append(answer.status))
    page.evaluate("for (const name of ['Restart off', 'Stop off']) document.querySelector(`[title='${name}']`).click()")
    off.get_by_text("stopped").wait_for()
    assert calls == ["restart", 202, "stop", 202]  # not on two connections, in any order
    # by keyboard: to the first row, open it
    page.locator("body").press("j")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="db").wait_for()
    page.get_by_role("log", name="Log lines").get_by_text("open").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("g")
    page.locator("svg a", has_text="web").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    for hash_ in ("#/", "#/logs", "#/graph", "#/service/web"):
        page.set_viewport_size({"width": 375, "height": 700})
        tab.go(hash_)
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, hash_
    return tab.complaints


def read_logs(browser, control):
    tab = Tab(browser).log_in(control)
    page = tab.page
    tab.go("#/service/web")
    log = page.get_by_role("log", name="Log lines")
    log.get_by_text("line 3000").first.wait_for()
    assert page.locator(".ln").count() < 200
    log.evaluate("el => { el.scrollTop = 0 }")  # older ones come by themselves
    until(page, "document.querySelector('.tools .end').textContent.replace(/\\D/g, '') > 1400")
    search = page.get_by_role("searchbox", name="Search the logs")
    search.fill("LINE 2999")
    until(page, "document.querySelectorAll('.ln mark').length === 2")
    assert "grep=line+2999" in page.url
    link = page.url
    again = Tab(browser, storage_state=tab.context.storage_state())
    again.page.goto(link)
    until(again.page, "document.querySelectorAll('.ln mark').length === 2")
    again.page.locator(".ln").first.click()
    assert "at=" in again.page.url
    with again.page.expect_download() as download:
        again.page.get_by_role("button", name="Download").click()
    with open(download.value.path()) as file:
        assert file.read().count("line 2999") == 2
    tab.go("#/service/strange")
    line = page.locator(".ln", has_text="nul")
    line.wait_for()
    text = line.inner_text()
    assert "<img src=x onerror=document.title=1> <script>document.title=1</script>" in text
    assert "\u202e" not in text
    assert "U+202E" in text
    assert "title\x07" not in text
    assert page.title() != "1"
    assert page.locator("main img, main script").count() == 0
    assert len(page.locator(".ln", has_text="xxxx").first.inner_text()) < 5000  # of a line of 1.5 MB
    page.get_by_role("button", name="Pause").click()
    assert page.get_by_role("button", name="Pause").get_attribute("aria-pressed") == "true"
    return tab.complaints + again.complaints


CUT = """[...document.querySelectorAll('td')].filter((td) => {
    const state = td.querySelector('.state');
    return state && td.offsetParent && state.getBoundingClientRect().right > td.getBoundingClientRect().right;
})"""


def watch_pipeline(browser, control):
    tab = Tab(browser).log_in(control)
    page = tab.page
    page.get_by_role("row").filter(has_text="refused").get_by_text("the name 'twice' is used twice").wait_for()
    page.set_viewport_size({"width": 375, "height": 700})
    page.get_by_role("row").filter(has_text="later").get_by_text("running", exact=True).first.wait_for()
    until(page, f"document.querySelectorAll('td .state').length >= 2 && {CUT}.length === 0")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.get_by_role("link", name="build").click()
    page.locator(".task", has_text="compile").wait_for()
    page.locator(".task", has_text="test").click()
    page.locator(".out pre", has_text="2 of 3 failed").wait_for()
    page.get_by_role("button", name="Graph").click()
    page.locator("svg a", has_text="deploy").get_by_text("skipped").wait_for()
    return tab.complaints


def type_the_token(browser, control):
    tab = Tab(browser)
    page = tab.page
    page.goto(control.url)
    field = page.get_by_label("Token")
    field.fill("wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("the token is wrong").wait_for()
    field.fill(control.token.reveal())
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("navigation", name="Views").get_by_text("Overview").wait_for()
    return [each for each in tab.complaints if "401" not in each]


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_services_are_seen_and_steered_and_logs_read(browse):
    supervisor = Supervisor(specs())
    async with ControlServer("127.0.0.1:0", supervisor=supervisor) as control, supervisor:
        assert await browse(steer, control) == []
        assert await browse(read_logs, control) == []


STACK = """
[services.web]
run = ["sh", "-c", "printf '\\\\033[32mINFO\\\\033[0m: up\\\\n'; exec cat"]

[services.migrate]
run = "true"
restart = "never"
"""


def follow_links(browser, control, file):
    tab = Tab(browser).log_in(control)
    page, lines = tab.page, tab.page.locator(".ln")

    def post(path, body="{}"):
        options = f"{{method: 'POST', body: {body!r}, headers: {{'Content-Type': 'application/json'}}}}"
        return page.evaluate(f"fetch('api/process{path}', {options}).then((answer) => answer.json())")["data"]

    def write(line):
        post(f"/processes/{process}/input", json.dumps({"input": f"{line}\n"}))

    page.locator("#health").get_by_text("1 of 1 ready").wait_for()  # the completed one need not be
    process = page.evaluate("fetch('api/process/services/web').then((answer) => answer.json())")["data"]["processId"]
    tab.go("#/logs?grep=INFO:")  # in capitals, and only a part of it is coloured
    lines.get_by_text("INFO: up").wait_for()
    write("INFO: later")
    lines.get_by_text("INFO: later").locator("mark").wait_for()

    streams = []

    def late(socket):  # what is written before the first stream begins is not missing
        streams.append(socket)
        if len(streams) == 1:
            write("before the stream")
            page.evaluate("""async () => {
                const text = encodeURIComponent('before the stream');
                while (!(await (await fetch('api/process/logs?grep=' + text)).json()).data.lines.length);
            }""")
        socket.connect_to_server()

    page.route_web_socket("**/events?*process.output*", late)
    tab.go("#/service/web?at=1000000")  # of another run: the newest lines
    lines.get_by_text("before the stream").wait_for()
    page.locator(".jump").wait_for(state="hidden")
    page.locator("#skip").press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert "#/service/web" in page.url
    tab.go("#/graph")
    page.locator("svg a", has_text="web").wait_for()
    file.write_text(f"{STACK}[services.more]\nrun = ['sleep', '1000']\n")
    post("/reload")
    page.locator("svg a", has_text="more").wait_for()
    file.write_text(STACK)
    post("/reload")
    page.locator("svg a", has_text="more").wait_for(state="detached")
    tab.go("#/service/%zz")
    page.get_by_role("heading", name="%zz").wait_for()
    until(page, "document.title.startsWith('%zz')")
    return tab.complaints


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_links_lead_to_what_they_name_and_lines_and_services_that_come_meanwhile_are_shown(browse, tmp_path):
    file = tmp_path / "trio-process.toml"
    file.write_text(STACK)
    supervisor = Supervisor.from_file(file)
    async with ControlServer("127.0.0.1:0", supervisor=supervisor) as control, supervisor:
        assert await browse(follow_links, control, file) == []


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_pipelines_are_shown_and_a_token_can_be_typed(browse):
    async with Service() as service, ControlServer("127.0.0.1:0", service=service) as control:
        pipeline = [
            RunSpec(name="compile", command="echo", args=["ok"]),
            RunSpec(name="test", command="sh", args=["-c", "echo 2 of 3 failed; exit 1"], after=["compile"]),
            RunSpec(name="deploy", command="true", after=["test"]),
        ]
        await Runner(service).run_all(pipeline, updates=control.pipeline("build", pipeline))
        twice = [RunSpec(name="twice", command="true")] * 2
        with pytest.raises(PipelineError):
            await Runner(service).run_all(twice, updates=control.pipeline("refused", twice))
        with control.pipeline("later", pipeline):  # is running until its updates end
            assert await browse(watch_pipeline, control) == []
        assert await browse(type_the_token, control) == []


ODD = "a\x1b[31m\u202eb\u061c\u2028\u200b\x7f\xad"
SHOWN_ODD = "a\u241b[31mU+202EbU+061CU+2028U+200B\u2421U+00AD"
INVISIBLE = re.search(r"const INVISIBLE = (.*);", page_files._read("page.js").decode())[1]
SEEN_ODD = f"""() => {{
    const odd = {INVISIBLE}, walker = document.createTreeWalker(document, 5), found = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {{
        const seen = node.nodeType === 3 ? [node.data] : [...node.attributes].filter((each) => !each.name.startsWith('data-'));
        found.push(...seen.map((each) => each.value ?? each).filter((each) => odd.test(each)));
    }}
    return [...found, ...[document.title].filter((each) => odd.test(each))];
}}"""


def see_odd_names(browser, control):
    tab = Tab(browser).log_in(control)
    page = tab.page
    for where in ("#/", "#/pipelines", "#/pipeline/1", "#/pipeline/1?as=graph", "#/logs"):
        tab.go(where)
        if where == "#/logs":
            page.locator("summary").click()
        page.locator("main").get_by_text(SHOWN_ODD).first.wait_for()
        assert page.evaluate(SEEN_ODD) == [], where
    tab.go("#/")
    page.get_by_role("button", name=f"Stop {SHOWN_ODD}").first.click()
    page.locator(".toast").get_by_text(SHOWN_ODD).wait_for()
    assert page.evaluate(SEEN_ODD) == []
    return tab.complaints


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_controls_and_characters_of_no_width_in_names_are_shown_as_signs(browse, tmp_path):
    registry = Registry(tmp_path)
    async with Service() as service, ControlServer("127.0.0.1:0", service=service, registry=registry) as control:
        await service.start("sh", "-c", "echo up; exec sleep 1000", ODD, name=ODD)
        pipeline = [RunSpec(name=ODD, command="true")]
        with registry.registered(DaemonEntry("core", ODD, project=ODD)), control.pipeline(ODD, pipeline):
            assert await browse(see_odd_names, control) == []


def test_the_page_shows_the_same_characters_as_signs_as_everything_else():
    odd = re.compile(INVISIBLE.strip("/"))
    chars = map(chr, [*range(0xD800), *range(0xE000, 0x11000)])
    assert [char for char in chars if bool(odd.match(char)) != (escape_controls(char) != char)] == []


TOO_MANY = "Too many streams are open: close other pages"


def see_that_there_are_too_many_streams(browser, control):
    first = Tab(browser).log_in(control)
    second = Tab(browser)
    second.page.goto(control.login_url.reveal())
    second.page.get_by_role("main").get_by_text(TOO_MANY).wait_for()
    first.go("#/logs")  # which takes a second stream
    first.page.locator("#health").get_by_text(TOO_MANY).wait_for()
    first.go("#/")
    until(first.page, f"() => !document.body.innerText.includes({TOO_MANY!r})")
    first.page.close()
    second.page.get_by_role("navigation", name="Views").get_by_text("Overview").wait_for()
    until(second.page, f"() => !document.body.innerText.includes({TOO_MANY!r})")


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_a_page_whose_stream_is_one_too_many_says_so_until_there_is_room(browse):
    async with Service() as service, ControlServer("127.0.0.1:0", service=service, max_streams=1) as control:
        await service.start("sleep", "1000")
        await browse(see_that_there_are_too_many_streams, control)


FOREIGN = """<!doctype html><title>foreign</title><iframe id=frame src="TARGET/"></iframe>
<form id=form method=post action="TARGET/api/process/processes/ID/kill" target=frame><input name=a value=b></form>
<form id=text method=post enctype=text/plain action="TARGET/api/process/processes/ID/kill" target=frame><input name='{"a":"' value='"}'></form>
<script>
const results = [];
const note = (what, promise) => promise.then((value) => results.push(`${what}: ${value}`), () => results.push(`${what}: error`));
const options = { method: 'POST', credentials: 'include' };
const url = 'TARGET/api/process/processes/ID/kill';
document.getElementById('form').submit();
document.getElementById('text').submit();
note('read', fetch('TARGET/api/process/processes', { credentials: 'include' }).then((answer) => answer.text()));
note('post', fetch(url, options).then((answer) => answer.text()));
note('no-cors', fetch(url, { ...options, mode: 'no-cors' }).then((answer) => answer.type));
note('json', fetch(url, { ...options, headers: { 'Content-Type': 'application/json' }, body: '{}' }).then((answer) => answer.text()));
note('beacon', Promise.resolve(navigator.sendBeacon(url)));
note('script', new Promise((good, bad) => { const el = document.createElement('script'); el.onload = good; el.onerror = bad; el.src = 'TARGET/api/process/processes'; document.body.append(el); }));
note('image', new Promise((good, bad) => { const el = new Image(); el.onload = good; el.onerror = bad; el.src = 'TARGET/page/icon.svg'; }));
note('websocket', new Promise((good, bad) => { const el = new WebSocket('TARGET/api/process/events'.replace('http', 'ws')); el.onmessage = () => good('open'); el.onerror = bad; el.onclose = bad; }));
note('eventsource', new Promise((good, bad) => { const el = new EventSource('TARGET/api/process/events', { withCredentials: true }); el.onmessage = () => good('open'); el.onerror = bad; }));
</script>"""


async def serve_foreign(page, *, task_status):
    async def answer(stream):
        async with stream:
            await stream.receive_some(65536)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode() + page)

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(listener.socket.getsockname()[1])
    await trio.serve_listeners(answer, [listener])


def attack(browser, control, port):
    tab = Tab(browser).log_in(control)  # the browser has the session's cookie now
    found = {}
    for host in ("127.0.0.1", "localhost"):  # the same site, and another one
        page = tab.context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"http://{host}:{port}/")
        until(page, "results.length >= 9")
        found[host] = page.evaluate("results")
        assert page.frames[1].url.startswith("chrome-error:") or not page.frames[1].locator("#bar").count()
        page.close()
    return found


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_a_foreign_page_can_do_nothing(browse):
    async with Service() as service, ControlServer("127.0.0.1:0", service=service) as control:
        process = await service.start("sleep", "1000")
        page = FOREIGN.replace("TARGET", control.url.rstrip("/")).replace("ID", process.id).encode()
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve_foreign, page)
            found = await browse(attack, control, port)
            nursery.cancel_scope.cancel()
        for host, results in found.items():
            assert len(results) == 9
            left = {result for result in results if not result.endswith(": error")}
            # what a browser never tells a page about: it was sent, and refused
            assert left <= {"no-cors: opaque", "beacon: true"}, (host, left)
        assert process.is_running


def rebind(browser, port):
    page = Tab(browser).page
    answer = page.goto(f"http://attacker.example:{port}/")
    return answer.status, page.content()


@pytest.mark.xdist_group("browser")
@pytest.mark.bound(300)
async def test_a_rebound_name_gets_nothing(browse):
    async with ControlServer("127.0.0.1:0") as control:
        port = control.addr.rpartition(":")[2]
        status, content = await browse(rebind, port)
        assert status == 421
        assert "page.js" not in content


def test_the_page_is_small_and_comes_with_the_wheel():
    names = page_files._TYPES
    assert sum(len(page_files._read(name)) for name in names) <= 80_000
