"""Check the names by which a server is addressed, to keep out pages of other sites and rebound names.

DNS rebinding makes a browser send requests for `attacker.example` to 127.0.0.1; their `Host` still says
`attacker.example`. So a `Host` is accepted only if it is one of our names. Its port is not compared, so that port
forwarding (``ssh -L``, containers) works; an `Origin` must name the same port, because other programs may serve pages
on other ports of this machine.

An address is compared whatever its spelling: ``127.1`` is 127.0.0.1 to the resolver and to browsers (URL standard, 3.5), so
no site can have it as its name.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, final

from ..._core import bad_option, checks

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_HOST: Final = r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{0,5}))?\Z"  # compiled and cached at first use
_ORIGIN: Final = r"(https?)://(.+)\Z"
_NUMBERS: Final = r"[0-9a-fx.]+"  # of which inet_aton(3) reads one to four
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Authority(NamedTuple):
    """A host, in lower case and without brackets, an address in its usual spelling; and a port or None."""

    host: str
    port: int | None


def parse_authority(text: str) -> Authority | None:
    """Return the host and port of a `Host` header; None if it is not valid: userinfo, a path, a port out of range.

    >>> parse_authority("Localhost:8700"), parse_authority("user@localhost")
    (Authority(host='localhost', port=8700), None)
    """
    found = re.match(_HOST, text)
    port = int(found[2]) if found is not None and found[2] else None  # it may be empty (RFC 3986, 3.2.3)
    if found is None or (port is not None and port > 65535):
        return None
    host = found[1]
    if host.startswith("["):
        host = host[1:-1]
        if ":" not in host or _address(host) is None:
            return None
    host = canonical(host)
    return Authority(host, port) if host else None


def parse_origin(text: str) -> tuple[str, Authority] | None:
    """Return the scheme and authority of an `Origin` header; None for `null`, other schemes and invalid values.

    >>> parse_origin("http://[::1]:8700")
    ('http', Authority(host='::1', port=8700))
    """
    found = re.match(_ORIGIN, text)
    authority = None if found is None else parse_authority(found[2])
    return None if found is None or authority is None else (found[1], authority)


def is_loopback(host: str) -> bool:
    """Return whether a host is the loopback of this machine, in any spelling."""
    if host == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def canonical(host: str) -> str:
    """Return a host as it is compared: in lower case, without the last dot, an address in its usual spelling.

    >>> canonical("Localhost."), canonical("127.1"), canonical("::FFFF:7f00:1"), canonical("0::1")
    ('localhost', '127.0.0.1', '127.0.0.1', '::1')
    """
    host = host.lower().removesuffix(".")
    address = _address(host)
    return host if address is None else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    from ipaddress import IPv4Address, ip_address  # noqa: PLC0415 - kept out of the import time

    try:
        address = ip_address(host)
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host)) if re.fullmatch(_NUMBERS, host) else None
        except OSError:
            return None
    return getattr(address, "ipv4_mapped", None) or address  # IPv6 only


@final
class Names:
    """The names of one server.

    Args:
        bound: The hosts it is bound to.
        port: The port it is bound to.
        hosts: Further names, `host` or ``host:port``, such as that of a proxy.
        anything: Whether every `Host` is accepted, as on a unix socket.

    Raises:
        OptionError: One of `hosts` is not a valid name.
    """

    __slots__ = ("_anything", "_hosts", "_loopback", "_port", "_with_port")

    def __init__(
        self, bound: Iterable[str], port: int, hosts: Iterable[object] = (), *, anything: bool = False
    ) -> None:
        bound = [canonical(host) for host in bound]
        everywhere = any(host in ("", "0.0.0.0", "::") for host in bound)  # noqa: S104 - compared, not bound
        self._loopback = everywhere or any(is_loopback(host) for host in bound)
        self._hosts = {host for host in bound if host}
        self._with_port: set[Authority] = set()
        self._port = port
        self._anything = anything
        for name in hosts:
            authority = parse_authority(name) if isinstance(name, str) else None
            if authority is None:
                raise bad_option(
                    "hosts",
                    f"must be names such as 'ops.example.org' or 'ops.example.org:8443', got {checks.brief(name)}",
                )
            if authority.port is None:
                self._hosts.add(authority.host)
            else:
                self._with_port.add(authority)

    def knows(self, authority: Authority, local: str = "") -> bool:
        """Return whether a `Host` names this server; `local` is the address that the client connected to."""
        return self._anything or self._has(authority, local)

    def _has(self, authority: Authority, local: str) -> bool:
        return (
            (self._loopback and is_loopback(authority.host))
            or authority.host in self._hosts
            or authority in self._with_port
            or (bool(local) and authority.host == canonical(local))
        )

    def is_own_origin(self, origin: str, host: Authority, local: str = "") -> bool:
        """Return whether an `Origin` is that of this server's page, for a request to `host`."""
        parsed = parse_origin(origin)
        if parsed is None:
            return False
        scheme, authority = parsed
        port = authority.port or _DEFAULT_PORTS[scheme]
        if authority in self._with_port:
            return True
        if self._anything:  # a proxy in front of a unix socket: the name must be that of the request
            return authority.host == host.host and port == (host.port or _DEFAULT_PORTS[scheme])
        return self._has(authority, local) and port in (self._port, host.port or _DEFAULT_PORTS[scheme])
