"""The other end of a `ClusterService`: ``python -m trio_process.agent`` serves one client, and ends with it.

It talks over its stdin and stdout. With ``--call-back`` it reads one line of JSON from stdin, with an address to connect to
and a token, and falls back to stdin and stdout if that fails. It is started by a launcher of `trio_process.cluster`, or by
any command that passes its stdin and stdout through (such as ``kubectl exec -i``).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from typing import Any, Final

import trio

from ._cluster import MOST_SLOTS, AgentServer, client_context
from ._core import OptionError, checks

__all__ = ["main"]

_CONNECT_TIMEOUT: Final = 10.0  # seconds per address


def main(argv: list[str] | None = None) -> int:
    """Serve one client; return the exit status.

    Args:
        argv: The arguments, `sys.argv`'s unless given.
    """
    parser = argparse.ArgumentParser(
        prog="python -m trio_process.agent", description="Run processes for a remote client."
    )
    parser.add_argument("--slots", type=_slots, help="how many processes to offer (default: the processors it may use)")
    parser.add_argument("--call-back", action="store_true", help="read from stdin where to connect to")
    chosen = parser.parse_args(argv)
    _check_descriptors()
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    trio.run(_serve, chosen.slots, chosen.call_back, restrict_keyboard_interrupt_to_checkpoints=True)
    return 0


def _slots(text: str) -> int:
    try:
        return checks.written("--slots", text, least=1, most=MOST_SLOTS)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _check_descriptors() -> None:
    """Refuse a closed stdin or stdout, whose number some file of ours would get, and replace a closed stderr."""
    try:
        os.fstat(0), os.fstat(1)
    except OSError:
        raise SystemExit("an agent speaks over its stdin and stdout, and one of them is closed") from None
    null = os.open(os.devnull, os.O_RDWR)
    if null > 2:
        os.close(null)


async def _serve(slots: int | None, call_back: bool) -> None:  # noqa: FBT001 - a flag of the command line
    # private ends, out of reach of a child or a library that prints
    given, taken = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    stream = await _connect(_read_config(given)) if call_back else None
    if stream is None:
        stream = trio.StapledStream(trio.lowlevel.FdStream(taken), trio.lowlevel.FdStream(given))
        await AgentServer(stream, slots=slots).serve()
        return
    os.close(taken)
    await AgentServer(stream, slots=slots, lifeline=trio.lowlevel.FdStream(given)).serve()


def _read_config(descriptor: int) -> dict[str, Any]:
    """Return the addresses to call back to, the token and the certificates, from a line of JSON."""
    line = _read_line(descriptor)
    try:
        config = dict(json.loads(line))
        config["token"].encode()
        config["addresses"] = [(str(host), int(port)) for host, port in config["addresses"]]
        config.setdefault("tls", None)
    except (ValueError, TypeError, LookupError, AttributeError):
        # not quoted: it may hold a token
        why = f"the {len(line)} bytes that came are something else" if line else "it ended before that"
        raise SystemExit(f"stdin should begin with a line that says where to call back to; {why}") from None
    return config


def _read_line(descriptor: int) -> bytes:
    """Read one line and not a byte more: the rest is for a later reader."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            break
        line += byte
    return line


async def _connect(config: dict[str, Any]) -> trio.abc.Stream | None:
    """Connect to the first of the addresses that answers; None if none does."""
    for host, port in config["addresses"]:
        try:
            with trio.fail_after(_CONNECT_TIMEOUT):
                stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
                if config["tls"] is not None:
                    secured = trio.SSLStream(stream, client_context(config["tls"]), server_hostname=host)
                    await secured.do_handshake()
                    stream = secured
                await stream.send_all(config["token"].encode())
                return stream
        except (OSError, trio.TooSlowError, trio.BrokenResourceError) as error:
            logging.getLogger("trio_process").warning("the client can't be reached at %s:%s: %s", host, port, error)
    return None


def _become_utf8() -> None:
    """Run this program in Python's UTF-8 mode: a text of the client's must not become other bytes by this host's locale."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - this very program


if __name__ == "__main__":
    _become_utf8()
    sys.exit(main())
