"""`Access`: how much a client of the control plane may do."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Access(StrEnum):
    """How much the clients of a `ControlServer` may do; each level includes the ones before it.

    Attributes:
        READ: See everything: states, logs, metrics, events.
        CONTROL: Start, stop, scale and signal known services and processes, and write to their stdin.
        RUN: Start any command, with the rights of this process.

    >>> Access("read")
    <Access.READ: 'read'>
    """

    READ = "read"
    CONTROL = "control"
    RUN = "run"

    def allows(self, needed: Access) -> bool:
        """Return whether this level includes `needed`.

        >>> Access.CONTROL.allows(Access.READ), Access.CONTROL.allows(Access.RUN)
        (True, False)
        """
        return _ORDER.index(self) >= _ORDER.index(needed)


_ORDER: Final = tuple(Access)
