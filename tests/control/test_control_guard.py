"""The guard: what foreign pages, rebound names and guessed tokens get."""

import gzip

import pytest
import trio
from asking import Refused, ask, get, post, raw, serving, websocket

from trio_process import Access, ControlServer, Secret, Service
from trio_process._control.gate import Names, is_loopback
from trio_process._control.gate.hosts import parse_authority, parse_origin

GUARDED = [
    "/api/process/processes",
    "/api/process/events",
    "/metrics",
    "/openapi.json",
    "/api/process/nothing",
    "/else",
]
SECURE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OPEN = ["/", "/page/page.js", "/page/page.css", "/page/icon.svg", "/health", "/ready"]


@pytest.fixture
async def control():
    async with Service() as service, ControlServer("127.0.0.1:0", service=service, hosts=["ops.example.org"]) as found:
        yield found


async def head(control, *lines, method="GET", path="/api/process/processes"):
    return await raw(control, "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1"))


def bearer(control):
    return f"Authorization: Bearer {control.token.reveal()}"


def port(control):
    return control.addr.rpartition(":")[2]


@pytest.mark.parametrize("path", GUARDED)
async def test_everything_but_the_page_and_the_probes_needs_the_token(control, path):
    assert (await ask(control, "GET", path, token=False)).code == "unauthorized"
    assert (await ask(control, "GET", path, Authorization="Bearer wrong")).code == "unauthorized"
    assert (await ask(control, "GET", path, Authorization="Basic dXNlcjp4")).status == 401


@pytest.mark.parametrize("path", OPEN)
async def test_the_page_and_the_probes_need_none(control, path):
    got = await ask(control, "GET", path, token=False)
    assert got.status == 200
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "[::1]",
        "127.9.9.9:80",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "127.1",
        "127.0.0.01:",
        "0x7F.1:8700",
        "0177.0.0.1",
        "2130706433",
        "OPS.example.org.",
        "ops.example.org",
    ],
)
async def test_a_host_that_is_ours_is_believed(control, host):
    assert (await head(control, f"Host: {host}", bearer(control))).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "127.0.0.1.attacker.example",
        "localhost.attacker.example",
        "0x7f.attacker.example",
        "10.0.0.1",
        "10.1",
        "1",
        "0",
        "127.0.0.256",
        "127.0.0.09",
        "[::127.0.0.1]",
        "localhost..",
        "a.localhost",
    ],
)
async def test_a_rebound_name_is_misdirected(control, host):
    assert (await head(control, f"Host: {host}", bearer(control))).code == "misdirected"
    assert (await head(control, f"Host: {host}", path="/")).status == 421  # the page, too


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("Host: localhost", "Host: localhost"),
        ("Host: localhost", "Host: attacker.example"),
        ("Host: user@localhost",),
        ("Host: localhost:port",),
        ("Host: localhost/path",),
        ("Host: ",),
        ("Host: [::1",),
        ("Host: localhost:99999",),
        ("Host: %31%32%37.0.0.1",),
        ("Host: 127\u30020.0.1".encode().decode("latin-1"),),
        ("Host: [::1%25lo]",),
        ("Host: [127.0.0.1]",),
        ("Host: a b",),
    ],
)
async def test_a_host_that_is_none_or_there_twice_is_a_bad_request(control, lines):
    refused(await head(control, *lines, bearer(control)), 400, "invalid_request")


async def test_http_1_0_without_a_host_is_a_bad_request(control):
    got = await raw(control, f"GET /health HTTP/1.0\r\n{bearer(control)}\r\n\r\n".encode())
    refused(got, 400, "invalid_request")


@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (["GET /health HTTP/1.1", "Host: localhost", "X: " + "x" * 100_000], 431, "headers_too_large"),
        (["GET /health HTTP/1.1", "Host: localhost", "no header"], 400, "invalid_request"),
        (["GET /he alth HTTP/1.1", "Host: localhost"], 400, "invalid_request"),
        (["POST /api/process/session HTTP/1.1", "Host: localhost", "Transfer-Encoding: gzip"], 501, "not_implemented"),
        (["POST /api/process/session HTTP/1.1", "Host: localhost", "Content-Length: x"], 400, "invalid_request"),
        (["HEAD /health HTTP/1.1"], 400, "invalid_request"),
        (
            ["POST /else HTTP/1.1", "Host: localhost", "Content-Length: 4", "Transfer-Encoding: chunked"],
            400,
            "invalid_request",
        ),
        (["\x16\x03\x01 TLS"], 400, "invalid_request"),
    ],
)
async def test_a_request_that_is_not_valid_http_gets_the_envelope(control, lines, status, code):
    refused(await raw(control, "\r\n".join([*lines, "", ""]).encode("latin-1"), body=True), status, code)


HANDSHAKE = ["Host: localhost", "Connection: upgrade", "Upgrade: websocket"]
KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="


async def test_refused_websockets_have_the_envelope_and_the_headers(control):
    events = "/api/process/events"
    version = "Sec-WebSocket-Version: 13"
    for path, lines, status, code in (
        (events, [*HANDSHAKE, KEY, version], 401, "unauthorized"),
        ("/else", [*HANDSHAKE, KEY, version, bearer(control)], 404, "not_found"),
        (events + "?channels=x", [*HANDSHAKE, KEY, version, bearer(control)], 400, "invalid_request"),
        (events, [*HANDSHAKE, KEY, "Sec-WebSocket-Version: 8", bearer(control)], 400, "invalid_request"),
        (events, [*HANDSHAKE, version, bearer(control)], 400, "invalid_request"),
        (events, [*HANDSHAKE, "Sec-WebSocket-Key: x", version, bearer(control)], 400, "invalid_request"),
        (events, [*HANDSHAKE, KEY, KEY, version, bearer(control)], 400, "invalid_request"),
    ):
        refused(await head(control, *lines, path=path), status, code)

    @control.app.websocket("/mine")
    async def mine():
        from quart import abort

        abort(403)

    refused(await head(control, *HANDSHAKE, KEY, version, bearer(control), path="/mine/not"), 404, "not_found")
    got = await head(control, *HANDSHAKE, KEY, version, bearer(control), path="/mine")
    assert (got.status, got.headers["x-content-type-options"]) == (403, "nosniff")


async def test_what_comes_before_a_websocket_is_accepted_ends_it_and_frees_its_place(control):
    lines = [*HANDSHAKE, KEY, "Sec-WebSocket-Version: 13", bearer(control)]
    head = "\r\n".join(["GET /api/process/events HTTP/1.1", *lines, "", "too early"]).encode()
    for _ in range(5):
        got = await raw(control, head)
        refused(got, 400, "invalid_request")
        assert b"snapshot" not in got.body
    with trio.fail_after(10):
        while b"streams_open 0" not in (await ask(control, "GET", "/metrics")).body:
            await trio.sleep(0.01)


def refused(got, status, code):
    assert (got.status, got.code) == (status, code)
    assert got.headers["content-type"] == "application/json"
    assert {name: value for name, value in got.headers.items() if name in SECURE} == SECURE


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://127.0.0.1:{port}/health", "127.0.0.1", 200),
        ("HTTP://localhost/health", "attacker.example", 200),  # RFC 9112, 3.2.2: the Host header is ignored
        ("http://localhost/api/process/processes?runningOnly=true", "localhost", 200),
        ("http://localhost", "localhost", 200),
        ("http://attacker.example/health", "localhost", 421),
        ("http://user@localhost/health", "localhost", 400),
        ("http:///health", "localhost", 400),
        ("http://localhost/nothing", "localhost", 404),
        ("https://localhost/health", "localhost", 404),
    ],
)
async def test_a_target_in_absolute_form_is_accepted_and_its_authority_is_the_host(control, target, host, status):
    got = await head(control, f"Host: {host}", bearer(control), path=target.format(port=port(control)))
    assert got.status == status


async def test_what_a_server_with_routes_of_the_user_does_not_know_gets_the_envelope(control):
    @control.app.route("/mine/", methods=["POST"])
    async def mine():
        return "mine"

    refused(await ask(control, "GET", "/else"), 404, "not_found")
    got = await ask(control, "GET", "/mine/")
    refused(got, 405, "method_not_allowed")
    assert got.headers["allow"] == "OPTIONS, POST"
    assert (await ask(control, "POST", "/mine/", {})).body == b"mine"


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://attacker.example",
        "https://attacker.example:8700",
        "http://localhost:1",
        "file://",
        "http://localhost@attacker.example",
        "ftp://localhost",
    ],
)
async def test_a_foreign_page_is_forbidden_even_with_the_token(control, origin):
    assert (await get(control, "/processes", Origin=origin)).code == "forbidden"
    assert (await post(control, "/session", {"token": control.token.reveal()}, Origin=origin)).code == "forbidden"


async def test_our_own_page_may_come_by_every_name(control):
    for name in ("127.0.0.1", "localhost", "[::1]"):
        assert (await get(control, "/processes", Origin=f"http://{name}:{port(control)}")).status == 200
    assert (await get(control, "/processes", Host="ops.example.org", Origin="https://ops.example.org")).status == 200
    assert (
        await get(control, "/processes", Host="localhost:9000", Origin="http://localhost:9000")
    ).status == 200  # ssh -L


async def session(control):
    got = await post(control, "/session", {"token": control.token.reveal()}, token=False)
    assert got.data == {"access": "control"}
    cookie, *attributes = got.headers["set-cookie"].split("; ")
    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert control.token.reveal() not in cookie
    return cookie


async def test_the_cookie_of_a_session_reads_and_with_an_origin_changes(control):
    cookie = await session(control)
    own = f"http://{control.addr}"
    assert (await get(control, "/processes", token=False, Cookie=f"a=b; {cookie}")).status == 200
    assert (await post(control, "/processes/x/kill", token=False, Cookie=cookie)).code == "forbidden"
    assert (await post(control, "/processes/x/kill", token=False, Cookie=cookie, Origin=own)).code == "not_found"
    assert (await get(control, "/processes", token=False, Cookie=cookie + "x")).code == "unauthorized"
    both = f"{cookie}x; {cookie}"  # the first was set by a page of another port, with a longer path
    assert (await get(control, "/processes", token=False, Cookie=both)).status == 200


async def test_a_websocket_is_guarded_in_the_same_way(control):
    cookie = (b"cookie", (await session(control)).encode())
    own = (b"origin", f"http://{control.addr}".encode())
    token = (b"authorization", f"Bearer {control.token.reveal()}".encode())
    for headers, status in (
        ([], 401),
        ([(b"authorization", b"Bearer wrong")], 401),
        ([cookie], 403),
        ([token, (b"origin", b"http://attacker.example")], 403),
        ([cookie, (b"origin", b"null")], 403),
    ):
        with pytest.raises(Refused) as caught:
            async with websocket(control, headers=headers):
                pass
        assert caught.value.status == status
    with pytest.raises(Refused) as caught:
        async with websocket(control, headers=[token], host="attacker.example"):
            pass
    assert caught.value.status == 421
    for headers in ([token], [cookie, own]):
        async with websocket(control, headers=headers) as events:
            assert (await events.next())["type"] == "snapshot"


async def test_guessing_is_slowed_down_and_the_right_token_still_passes(control):
    codes = [(await get(control, "/processes", Authorization=f"Bearer {guess}")).status for guess in range(15)]
    assert codes == [401] * 10 + [429] * 5
    assert (await post(control, "/session", {"token": "guess"}, token=False)).status == 429
    assert (await get(control, "/processes")).status == 200
    await trio.sleep(1.05)  # the second of the contract
    assert (await get(control, "/processes", Authorization="Bearer x")).status == 401


async def test_a_request_without_a_token_is_no_guess(control):
    assert {(await get(control, "/processes", token=False)).status for _ in range(15)} == {401}


@pytest.mark.parametrize("access", list(Access))
async def test_the_access_decides_before_the_route_does(access):
    async with serving(access=access) as (control, _):
        assert (await get(control, "/processes")).status == 200
        steer = await post(control, "/processes/x/kill")
        unknown = await post(control, "/nothing")
        if access is Access.READ:
            assert (steer.code, unknown.code) == ("forbidden", "forbidden")
        else:
            assert (steer.code, unknown.code) == ("not_found", "not_found")
        for path in ("/processes", "/processes/run", "/pipelines/run"):
            got = await post(control, path, {})
            assert got.code == ("invalid_request" if access is Access.RUN else "run_not_allowed")


async def test_a_form_of_a_foreign_page_is_no_json(control):
    got = await post(control, "/session", b"token=x", Content_Type="application/x-www-form-urlencoded", token=False)
    assert got.code == "unsupported_media_type"
    got = await post(control, "/processes/x/kill", b"a=b", Content_Type="text/plain")
    assert got.code == "unsupported_media_type"
    got = await post(control, "/session", gzip.compress(b"{}"), Content_Encoding="gzip")
    assert got.code == "unsupported_media_type"
    assert "compressed" in got.json["error"]["message"]


async def test_there_is_no_cors_and_a_preflight_gets_nothing(control):
    got = await ask(control, "OPTIONS", "/api/process/processes", token=False, Origin="http://attacker.example")
    assert got.status == 403
    got = await ask(control, "OPTIONS", "/api/process/processes")
    assert got.status == 405
    assert not [name for name in got.headers if name.startswith("access-control")]


async def test_the_page_has_a_policy_without_inline_code(control):
    policy = (await ask(control, "GET", "/", token=False)).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    page = (await ask(control, "GET", "/", token=False)).body.decode()
    assert "<script>" not in page
    assert "style=" not in page
    assert "onclick" not in page


async def test_on_a_unix_socket_any_host_is_right_and_no_token_needed(tmp_path):
    async with serving(f"unix:{tmp_path}/s") as (control, _):
        assert (await get(control, "/processes", Host="anything.example", token=False)).status == 200
        assert (await head(control, "Host: a", "Host: b")).status == 400
        assert (await get(control, "/processes", Origin="http://attacker.example", token=False)).status == 403


async def test_a_given_token_is_taken_as_a_secret_or_a_text():
    for token in ("abc", Secret("abc")):
        async with serving(token=token) as (control, _):
            assert (await get(control, "/processes", Authorization="Bearer abc")).status == 200


@pytest.mark.parametrize("text", ["localhost", "127.0.0.1", "::1", "127.1.2.3", "::ffff:127.0.0.1", "127.1", "0x7f.1"])
def test_loopback_is_known_in_every_spelling(text):
    assert is_loopback(text)


@pytest.mark.parametrize("text", ["128.0.0.1", "::2", "localhost.example", "", "0.0.0.0", "::ffff:10.0.0.1"])
def test_what_is_not_loopback_is_known_too(text):
    assert not is_loopback(text)


@pytest.mark.parametrize("text", ["", ":80", "a:b", "a:65536", "[::1", "a@b", "a/b", "a b", "[::1]x", "ü"])
def test_what_is_no_authority_is_none(text):
    assert parse_authority(text) is None
    assert parse_origin(f"http://{text}") is None


def test_an_address_is_compared_whatever_its_spelling():
    names = Names(["192.0.2.1", "2001:DB8:0::1"], 8700, ["198.51.100.1:80"])
    known = ["192.0.2.1", "192.0.513", "[::ffff:192.0.2.1]", "[2001:db8::1]", "[2001:0DB8::0001]", "198.51.100.01:80"]
    assert all(names.knows(parse_authority(text)) for text in known)
    assert not any(names.knows(parse_authority(text)) for text in ["192.0.2.2", "[2001:db8::2]", "198.51.100.1:81"])
    assert names.knows(parse_authority("203.0.113.1"), "::ffff:203.0.113.1")  # of a socket that takes both families


def test_a_name_with_a_port_is_for_that_port_alone():
    names = Names(["127.0.0.1"], 8700, ["ops.example.org:8443"])
    assert names.knows(parse_authority("ops.example.org:8443"))
    assert not names.knows(parse_authority("ops.example.org:1"))
