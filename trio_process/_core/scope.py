"""The one way to write an async context manager that holds a nursery, so that no exception group leaks.

A nursery wraps every exception that leaves it in an `ExceptionGroup`. A class-based manager that holds a nursery would
turn the `ValueError` of its body into a group, two deep when nested. So the body's own error is remembered inside the
nursery and raised outside it, and a single failure of the nursery's tasks is raised bare.
"""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import ParamSpec, Self, TypeVar, TypeVarTuple, Unpack

import trio

from .errors import ProcessError
from .system import end_fork
from .unique import Unique

logger = logging.getLogger("trio_process")

_Arguments = ParamSpec("_Arguments")
_Each = TypeVarTuple("_Each")
_Value = TypeVar("_Value")


class _Uninterrupted(AbstractAsyncContextManager[_Value]):
    __slots__ = ("_manager",)

    def __init__(self, manager: AbstractAsyncContextManager[_Value]) -> None:
        self._manager = manager

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> _Value:
        return await self._manager.__aenter__()

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        end_if_forked(error)
        return await self._manager.__aexit__(kind, error, traceback)


def uninterrupted(
    function: Callable[_Arguments, AsyncIterator[_Value]],
) -> Callable[_Arguments, AbstractAsyncContextManager[_Value]]:
    """Make an async context manager of a generator function, as `asynccontextmanager` does, for use as a decorator.

    Ctrl-C during the entry or the end of the block is raised at a checkpoint. Elsewhere, in contextlib for example, it
    would leave out the rest of the function, and so leave a nursery open, which Trio does not forgive. A fork made inside
    the block ends where it would leave the block, as with `Block`.
    """
    manager = asynccontextmanager(function)

    @wraps(function)
    def enter(*args: _Arguments.args, **keywords: _Arguments.kwargs) -> AbstractAsyncContextManager[_Value]:
        return _Uninterrupted(manager(*args, **keywords))

    return enter


@trio.lowlevel.disable_ki_protection
async def interruptible(function: Callable[[Unpack[_Each]], Awaitable[_Value]], *args: *_Each) -> _Value:
    """Call foreign code from the entry or the end of a block: Ctrl-C is raised anywhere in it, as it may block."""
    return await function(*args)


@uninterrupted
async def open_scope(*, wait: bool = False) -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose body's error leaves as the same object.

    Args:
        wait: When the body ends without an exception, wait for the tasks instead of cancelling them.
    """
    body_error: BaseException | None = None
    failures: list[BaseException] = []
    cancelled: trio.Cancelled | None = None
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            try:
                yield nursery
            except trio.Cancelled:
                nursery.cancel_scope.cancel()
                raise  # it belongs to a scope: trio decides there whether it goes on
            except BaseExceptionGroup as group:
                of_scopes, rest = group.split(trio.Cancelled)
                body_error = rest if of_scopes is not None else group  # the same object, as it concerns no scope
                if of_scopes is not None:  # as above, from a nursery inside of the body
                    nursery.cancel_scope.cancel()
                    raise of_scopes from None
            except BaseException as error:  # noqa: BLE001 - remembered and raised again below
                body_error = error
            if body_error is not None or not wait:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        for leaf in _leaves(group):
            if isinstance(leaf, trio.Cancelled):
                cancelled = leaf
            else:
                failures.append(leaf)
    raise_first(body_error, failures)
    if cancelled is not None:
        raise cancelled


@uninterrupted
async def open_shielded_scope() -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose tasks serve the body until it has been left, also while it is being cancelled from outside.

    A cancellation reaches only the body; the tasks are cancelled once the body has been left. The failure of a task
    cancels the body, as in `open_scope`.
    """
    scope = trio.CancelScope(shield=True)
    opened: list[trio.Nursery] = []
    entered = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def hold() -> None:
        with scope:
            async with open_scope() as nursery:
                opened.append(nursery)
                entered.set()
                await trio.sleep_forever()

    async with open_scope() as outer:
        try:
            outer.start_soon(hold)
            with trio.CancelScope(shield=True):  # for one step; `outer.start` would wait for ever if cancelled by then
                await entered.wait()
            yield opened[0]
        finally:
            scope.cancel()


def raise_first(body_error: BaseException | None, failures: list[BaseException]) -> None:
    """Raise the exception that a block is left with: its body's error, its only failure, or a group of several failures.

    Args:
        body_error: The exception of the body; the failures become its notes and log records.
        failures: The exceptions of the way out. A `KeyboardInterrupt` among them takes precedence over all others.
    """
    urgent = next((e for e in failures if isinstance(e, (KeyboardInterrupt, SystemExit))), None)
    if urgent is not None and not isinstance(body_error, (KeyboardInterrupt, SystemExit)):
        failures = [failure for failure in failures if failure is not urgent]
        if body_error is not None:
            failures.append(body_error)
        body_error = urgent
    if body_error is not None:
        for failure in failures:
            note_failure(body_error, failure)
        raise body_error
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise BaseExceptionGroup("several things failed on the way out", failures)


def note_failure(error: BaseException, failure: BaseException) -> None:
    """Record a failure of the way out that must not hide `error`, as a note on it and in the log."""
    error.add_note(f"on the way out, this failed too: {failure!r}")
    logger.error("on the way out of a failed block, this failed too: %r", failure, exc_info=failure)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the errors of the nursery's own tasks, one level deep; a group raised by a task stays a group."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup) and is_cancellation(error):
            yield from _leaves(error)
        else:
            yield error


def is_cancellation(error: BaseException) -> bool:
    """Return whether an error is a `trio.Cancelled`, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


_inherited_run: trio.lowlevel.TrioToken | None = (
    None  # in a fork made inside of trio.run: that run, which is the parent's
)


def _note_fork() -> None:
    global _inherited_run  # noqa: PLW0603 - a fork has only the thread that made it, so there is one run at most
    try:
        _inherited_run = trio.lowlevel.current_trio_token()
    except RuntimeError:
        _inherited_run = None


os.register_at_fork(after_in_child=_note_fork)


def check_run(token: trio.lowlevel.TrioToken, owner: str) -> None:
    """Raise unless this is the call of `trio.run` with this token: no task of another one can be woken from there.

    Raises:
        ProcessError: It is another one, or there is none in this thread, or this is a fork of the process that it is in.
    """
    try:
        here = trio.lowlevel.current_trio_token()
    except RuntimeError:
        here = None
    if here is not token:
        raise ProcessError(
            f"this {owner} belongs to another call of trio.run; from a thread, call its methods by trio.from_thread"
        )
    if here is _inherited_run:
        raise ProcessError(
            f"this {owner} belongs to the process that this one was forked from; a fork needs a call of trio.run of its own"
        )


def end_if_forked(error: BaseException | None) -> None:
    """End this process, with the exit status that `error` stands for, if it is a fork inside of its parent's `trio.run`."""
    if _inherited_run is not None and trio.lowlevel.current_trio_token() is _inherited_run:
        end_fork(error)


class Block(Unique):
    """A base for the classes that are entered with ``async with``: subclasses write one `_block` generator.

    A process forked inside the block, without exec, ends where it would leave the block: see `forks`.
    """

    __slots__ = ("_entered", "_entered_by", "_entered_in", "_task")

    @abstractmethod
    def _block(self) -> AbstractAsyncContextManager[None]:
        """Return the context manager of one entry; defined with `asynccontextmanager`."""

    def __init__(self) -> None:
        self._entered: AbstractAsyncContextManager[None] | None = None

    def _refuse_entry(self) -> None:
        """Raise if the block can't be entered now."""
        if self._entered is not None:
            raise ProcessError(f"this {type(self).__name__} has already been entered; create another one")

    def _check_run(self) -> None:
        """Raise if the block was entered, and not left, in another call of `trio.run`."""
        if self._entered is not None:
            check_run(self._entered_in, type(self).__name__)

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Self:
        self._refuse_entry()
        try:
            self._entered_in = trio.lowlevel.current_trio_token()
        except RuntimeError:
            name = type(self).__name__
            raise ProcessError(f"a {name} runs in Trio: write trio.run(main), not asyncio.run(main())") from None
        self._task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self._entered = self._block()
        self._entered_by = os.getpid()
        try:
            await self._entered.__aenter__()
        except BaseException:
            self._entered = None
            raise
        return self

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        name = type(self).__name__
        if self._entered is None:
            raise ProcessError(f"this {name} is not entered, so it can't be left")
        if self._entered_by != os.getpid():
            end_fork(error)
        if self._task is not trio.lowlevel.current_task():  # the nurseries in the block would break all of Trio
            raise ProcessError(f"this {name} must be left in the task that entered it: use `async with` there")
        block, self._entered, self._task = self._entered, None, None
        return await block.__aexit__(kind, error, traceback)
