"""`Unique`: objects that can be neither copied nor pickled."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex


class Unique:
    """The base of the objects that can be neither copied nor pickled, as each stands for something that runs or is open.

    A copy would share that with the original, and end it: a subscription is closed when it is garbage-collected.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"{name} objects can't be copied or pickled: each stands for something that runs or is open")
