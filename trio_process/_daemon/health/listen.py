"""Listening sockets, bound by this package so that no child inherits one, and no live socket is replaced."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio

from ..._core import DaemonError, logger, make_directories, socket_path
from .address import Address

_BACKLOG: Final = 4096  # the kernel takes less if it wants (somaxconn, listen(2)); probes wait there while we are full
_PORT_ATTEMPTS: Final = 20
_NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
_Place = tuple[socket.AddressFamily, str]


class _ListenError(DaemonError, OSError, shown_as=DaemonError):
    """The address can't be bound; `errno` says why."""

    __str__ = Exception.__str__

    def __init__(self, address: Address, error: OSError) -> None:
        advice = {
            errno.EADDRINUSE: "another program listens there; stop it, or choose another address",
            errno.EADDRNOTAVAIL: "this machine has no such address",
            errno.EACCES: "not allowed; ports below 1024 need privileges, a unix socket a directory one can write to",
        }.get(error.errno or 0, error.strerror or str(error))
        super().__init__(f"cannot listen at {address}: {advice}")
        self.errno = error.errno
        self.strerror = error.strerror


@asynccontextmanager
async def listening(address: Address, *, mode: int | None = None) -> AsyncIterator[tuple[list[socket.socket], Address]]:
    """Listen on `address` inside the block.

    Args:
        address: The address.
        mode: The mode of a unix socket's file, set before a client can connect; None to leave it to the umask.

    Yields:
        The listeners, and the address with its true port.

    Raises:
        DaemonError: The address is in use, or can't be bound; also an `OSError`, with its errno.
    """
    with ExitStack() as stack:
        try:
            if address.path:
                sockets, bound = [stack.enter_context(_unix_socket(address.path))], address
                if mode is not None:
                    os.chmod(address.path, mode)
            else:
                sockets, bound = _tcp_sockets(stack, address, await _places(address.host))
            for sock in sockets:
                sock.listen(_BACKLOG)
        except OSError as error:
            raise _ListenError(address, error) from error
        yield sockets, bound


async def _places(host: str) -> list[_Place]:
    """Return the addresses to bind for a host; IPv4 first, because the first one is shown as the address of the server."""
    if not host:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]  # noqa: S104 - ":port" is all interfaces
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:  # IDNA 2008 refuses more than `parse_address`
        raise OSError(errno.EINVAL, f"no host name: {error}") from error
    places = [(family, str(sockaddr[0])) for family, _, _, _, sockaddr in found]
    return sorted(dict.fromkeys(places), key=lambda place: place[0] != socket.AF_INET)


def _tcp_sockets(stack: ExitStack, address: Address, places: Iterable[_Place]) -> tuple[list[socket.socket], Address]:
    """Bind the same port on every address; if port 0 yields one that is in use on another address, try again."""
    for attempt in range(_PORT_ATTEMPTS):
        with ExitStack() as bound:
            try:
                sockets = _bind_all(bound, places, address.port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and not address.port and attempt + 1 < _PORT_ATTEMPTS:
                    continue
                raise
            stack.push(bound.pop_all())
            host, port = sockets[0].getsockname()[:2]
            return sockets, Address(host, port)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _bind_all(stack: ExitStack, places: Iterable[_Place], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, host in places:
        try:
            sock = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                raise
            missing = error  # a machine without IPv6, say: enough if one place is left
        else:
            sockets.append(sock)
            port = port or sock.getsockname()[1]
    if not sockets:
        raise missing or OSError(errno.EADDRNOTAVAIL, "no address")
    return sockets


@contextmanager
def _unix_socket(path: str) -> Iterator[socket.socket]:
    """Bind a unix socket, replacing a dead one at the path, but not a live one; remove it at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        make_directories(Path(path).parent)
        _remove_dead_socket(path)
        with socket_path(path) as short:
            sock.bind(short)
        # whatever the umask; no client can connect before it listens
        os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) & ~stat.S_IWOTH)
        ours = _identity(path)
        try:
            yield sock
        finally:
            try:
                if ours is not None and _identity(path) == ours:
                    os.unlink(path)
            except OSError as error:  # the body's own exception continues
                logger.warning("could not remove the unix socket %s: %s", path, error)


def _remove_dead_socket(path: str) -> None:
    """Remove a socket that no process listens on. Two concurrent starts are left to the PID file."""
    before = _identity(path)
    if before is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            with socket_path(path) as short:
                probe.connect(short)
        except ConnectionRefusedError:
            if _identity(path) == before:
                os.unlink(path)
        except OSError:
            pass  # a full backlog (EAGAIN) is a living one; a file, or no access: bind says it
    # if it is alive, bind() raises EADDRINUSE


def _identity(path: str) -> tuple[int, int] | None:
    """Return the identity of a socket file, which differs from that of a successor at the same path; None if there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None
