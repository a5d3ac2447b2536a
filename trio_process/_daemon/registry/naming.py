"""Which file of the registry an entry lives in: pure rules, shared with go-process."""

from __future__ import annotations

import hashlib
from typing import Final

from ..._core import bad_option, checks

SUFFIX: Final = ".json"

_DIGEST_LENGTH: Final = 16


def check_key(option: str, value: object) -> str:
    """Return one half of a key: a str that is not empty, without NUL, lone surrogates and ``..`` components.

    Raises:
        OptionError: The value is not a valid key.
    """
    name = checks.text(option, value, empty=False)
    if ".." in name and ".." in name.split("/"):  # the cheap test first: `list` asks for each entry
        raise bad_option(option, f"must not have a '..' component, got {value!r}")
    if not name.isascii():
        try:
            name.encode()
        except UnicodeEncodeError:
            raise bad_option(option, f"must be text that UTF-8 can encode, got {value!r}") from None
    return name


def file_names(code: str, daemon: str, limit: int) -> tuple[str, ...]:
    """Return the file names that the entry of a key may have, the preferred one first.

    The first is the one that go-process uses: ``code-daemon.json``, with every ``/`` as ``-``. The second is for a key whose
    first name is taken (``a-b`` and `c` share theirs with `a` and ``b-c``), and ends in a digest of the key. A key that is
    too long for the file system has only the second, shortened.

    Args:
        code: The first half of the key.
        daemon: The second half.
        limit: The longest name that the file system takes, in bytes (NAME_MAX, limits.h(0p)).

    >>> file_names("my/app", "server", 255)[0]
    'my-app-server.json'
    """
    plain = f"{code}-{daemon}".replace("/", "-")
    # no key holds NUL, so no two keys are joined to the same text
    digest = hashlib.sha256(f"{code}\0{daemon}".encode()).hexdigest()[:_DIGEST_LENGTH]
    ending = f"~{digest}{SUFFIX}"
    other = plain.encode()[: limit - len(ending)].decode(errors="ignore") + ending  # not cut inside a character
    first = plain + SUFFIX
    return (first, other) if len(first.encode()) <= limit else (other,)
