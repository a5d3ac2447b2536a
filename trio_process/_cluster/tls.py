"""TLS for agents that call back; both sides show certificates, as Dask's own connections do."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Mapping


def client_context(given: Mapping[str, str]) -> ssl.SSLContext:
    """Return the context of an agent: `ca`, `cert` and `key`, each a path or a text in PEM."""
    return _context(ssl.Purpose.SERVER_AUTH, given)


def server_context(given: Mapping[str, str]) -> ssl.SSLContext:
    """Return the context of a client that agents call back."""
    return _context(ssl.Purpose.CLIENT_AUTH, given)


def _context(purpose: ssl.Purpose, given: Mapping[str, str]) -> ssl.SSLContext:
    ca = given["ca"]
    context = ssl.create_default_context(purpose, **({"cadata": ca} if "\n" in ca else {"cafile": ca}))
    context.check_hostname = False  # as in Dask's own: certificates are of the cluster, not of a host
    context.verify_mode = ssl.CERT_REQUIRED
    with tempfile.TemporaryDirectory(prefix="trio-process-") as directory:
        cert, key = (_as_file(given.get(name) or "", os.path.join(directory, name)) for name in ("cert", "key"))
        context.load_cert_chain(cert, key or None)
    return context


def _as_file(value: str, path: str) -> str:
    """Return the path of a file with this text; a path is returned unchanged."""
    if "\n" not in value:
        return value
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(value)
    return path
