"""Check the names by which a server is addressed, to keep out pages of other sites and rebound names.

DNS rebinding makes a browser send requests for `attacker.example` to 127.0.0.1; their `Host` still says
`attacker.example`. So a `Host` is accepted only if it is one of our names. Its port is not compared, so that port
forwarding (``ssh -L``, containers) works; an `Origin` must name the same port, because other programs may serve pages
on other ports of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, final

from ..._core import OptionError

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_HOST: Final = r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?\Z"  # compiled and cached at first use
_ORIGIN: Final = r"(https?)://(.+)\Z"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Authority(NamedTuple):
    """A host, in lower case and without brackets, and a port or None."""

    host: str
    port: int | None


def parse_authority(text: str) -> Authority | None:
    """Return the host and port of a `Host` header; None if it is not valid: userinfo, a path, a port out of range.

    >>> parse_authority("Localhost:8700"), parse_authority("user@localhost")
    (Authority(host='localhost', port=8700), None)
    """
    found = re.match(_HOST, text)
    if found is None or (found[2] is not None and int(found[2]) > 65535):
        return None
    host = found[1].lower().removesuffix(".")
    if host.startswith("["):
        host = host[1:-1]
        if _address(host) is None:
            return None
    return Authority(host, None if found[2] is None else int(found[2])) if host else None


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
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # IPv6 only
    return bool((mapped or address).is_loopback)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    from ipaddress import ip_address  # noqa: PLC0415 - kept out of the import time

    try:
        return ip_address(host)
    except ValueError:
        return None


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
        bound = [host.lower() for host in bound]
        everywhere = any(host in ("", "0.0.0.0", "::") for host in bound)  # noqa: S104 - compared, not bound
        self._loopback = everywhere or any(is_loopback(host) for host in bound)
        self._hosts = {host for host in bound if host}
        self._with_port: set[Authority] = set()
        self._port = port
        self._anything = anything
        for name in hosts:
            authority = parse_authority(name) if isinstance(name, str) else None
            if authority is None:
                raise OptionError(
                    f"hosts must be names such as 'ops.example.org' or 'ops.example.org:8443', got {name!r}"
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
            or (bool(local) and authority.host == local)
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
