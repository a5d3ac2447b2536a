"""The addresses of health servers: ``host:port``, ``:port``, ``[::1]:port``, ``unix:/path``."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from ..._core import OptionError, bad_option, checks, fault_of_socket_path

UNIX_PREFIX: Final = "unix:"


class Address(NamedTuple):
    """The address of a health server: the `path` of a unix socket, or a `host` ("" is all interfaces) and a `port`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return UNIX_PREFIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def reachable_host(self) -> str:
        """The host that a client on this machine connects to: "all interfaces" is not a valid destination on every system."""
        return {"": "localhost", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - no bind


def parse_address(value: object, option: str = "addr") -> Address:
    """Parse an address; the `OptionError` for an invalid one explains the format."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise _refused(option, value, "it must be a non-empty str without NUL")
    if value.startswith(UNIX_PREFIX):
        return _parse_unix(value, option)
    host, colon, port = value.rpartition(":")
    if not colon or "/" in value:
        raise _refused(option, value, "leave out 'http://' and the path" if "/" in value else "the port is missing")
    # isascii: int() would also take other scripts' digits; no sign, no blanks, no underscores
    if not (port.isascii() and port.isdigit() and int(port[:6]) <= 65535 and len(port) <= 5):
        raise _refused(option, value, f"the port must be 0 to 65535, not {checks.brief(port)}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise _refused(option, value, "brackets are for IPv6 addresses")
    elif ":" in host:
        raise _refused(option, value, "an IPv6 address goes into brackets")
    if any(char.isspace() or char in "[]/@" for char in host):
        raise _refused(option, value, f"{checks.brief(host)} is not a valid host")
    try:
        host.encode("idna")
    except UnicodeError as error:  # a label that is empty or too long; a resolver would raise just that
        raise _refused(option, value, f"{checks.brief(host)} is not a valid host") from error
    return Address(host, int(port))


def parse_destination(value: object, option: str = "addr") -> Address:
    """Parse an address to connect to; port 0, which only a server may be given, is refused."""
    address = parse_address(value, option)
    if not address.path and not address.port:
        raise _refused(option, value, "no server can be reached at port 0")
    return address


def _parse_unix(value: str, option: str) -> Address:
    path = value.removeprefix(UNIX_PREFIX)
    if not path:
        raise _refused(option, value, "the path is missing")
    if path.startswith("@"):
        raise _refused(option, value, "abstract sockets are not supported; a file of that name is 'unix:./@…'")
    try:
        path = os.path.abspath(path)  # a later chdir must not move it; Path.resolve would follow links
    except FileNotFoundError:
        raise _refused(option, value, "it is relative, and the working directory has been removed") from None
    fault = fault_of_socket_path(path)
    if fault is not None:
        raise _refused(option, value, fault)
    return Address(path=path)


def _refused(option: str, value: object, why: str) -> OptionError:
    return bad_option(
        option,
        f"{checks.brief(value)} is not a valid address: {why}; write 'host:port', ':port', '[::1]:port' or 'unix:/path'",
    )
