"""Agents on a Dask that speaks TLS: they call back by TLS, with the certificates of the cluster."""

import ssl
from pathlib import Path

import pytest
import trio
from engines import make_certificate

from trio_process import ClusterError
from trio_process.cluster import ClusterService, dask_agents


@pytest.fixture(autouse=True)
def _warm(warm_dask_helper):
    pass


def security(ca, cert, key):
    from distributed import Security

    return Security(tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key, require_encryption=True)


@pytest.mark.parametrize("given", ["paths", "texts"])
async def test_an_agent_calls_back_by_tls(dask_tls, given):
    address, *files = dask_tls
    cert, key = files if given == "paths" else [Path(file).read_text() for file in files]
    async with ClusterService(dask_agents(address, security=security(cert, cert, key))) as cluster:
        assert (await cluster.run("cat", stdin=b"x" * 300_000)).output == "x" * 300_000
        [session] = cluster._crew._sessions
        assert isinstance(session.link._stream, trio.SSLStream)


async def test_without_certificates_it_says_so(dask_tls):
    with pytest.raises(ClusterError, match=r"can't be reached.*TLS"):
        async with ClusterService(dask_agents(dask_tls[0])):
            pass


async def test_certificates_of_another_cluster_are_refused_by_the_scheduler(dask_tls, tmp_path):
    cert, key = make_certificate(tmp_path, "other")
    launcher = dask_agents(dask_tls[0], security=security(dask_tls[1], cert, key))
    with pytest.raises(ClusterError, match="can't be reached"):
        async with ClusterService(launcher):
            pass


async def test_certificates_that_can_not_be_used_are_refused_at_once(dask_tls, tmp_path):
    (tmp_path / "none").write_text("no certificate")
    with pytest.raises(ClusterError, match="certificates of the Security can't be used"):
        dask_agents(dask_tls[0], security=security(dask_tls[1], str(tmp_path / "none"), dask_tls[2]))


async def test_a_call_back_without_tls_or_of_a_stranger_is_closed(tmp_path):
    from trio_process._cluster import client_context, open_callbacks, server_context

    ours, theirs = [make_certificate(tmp_path, name) for name in ("ours", "theirs")]
    context = server_context({"ca": ours[0], "cert": ours[0], "key": ours[1]})
    async with open_callbacks(context, loopback=True) as callbacks:
        token, calls = callbacks.expect()
        host, port = callbacks.addresses[0]
        plain = await trio.open_tcp_stream(host, port)
        await plain.send_all(token.encode())
        with trio.fail_after(20):
            try:
                while await plain.receive_some():
                    pass  # an alert of TLS
            except trio.BrokenResourceError:
                pass  # it is reset where something had not been read
        await plain.aclose()
        stranger = client_context({"ca": ours[0], "cert": theirs[0], "key": theirs[1]})
        secured = trio.SSLStream(await trio.open_tcp_stream(host, port), stranger, server_hostname=host)
        with trio.fail_after(20), pytest.raises((trio.BrokenResourceError, ssl.SSLError)):
            await secured.send_all(token.encode())
            assert await secured.receive_some() != b""
        await trio.aclose_forcefully(secured)
        with pytest.raises(trio.WouldBlock):
            calls.receive_nowait()
        friend = client_context({"ca": ours[0], "cert": ours[0], "key": ours[1]})
        secured = trio.SSLStream(await trio.open_tcp_stream(host, port), friend, server_hostname=host)
        await secured.send_all(token.encode())
        with trio.fail_after(20):
            assert isinstance(await calls.receive(), trio.SSLStream)
        await trio.aclose_forcefully(secured)
