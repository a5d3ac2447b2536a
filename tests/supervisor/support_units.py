"""Small helpers of the supervisor's tests."""

from contextlib import asynccontextmanager

from trio_process import RestartPolicy, Supervisor, UnitChanged, UnitSpec
from trio_process.testing import Behaviour, FakeService

SERVER = {"lines": ["listening"], "exit_code": None}
STEADY = RestartPolicy.on_failure(backoff=1.0, jitter=0.0)
"""A policy whose delays are exact."""


def unit(name, **options):
    """Return the spec of a command that is called like the unit."""
    if "main" not in options:
        options.setdefault("command", name)
    options.setdefault("restart", STEADY)
    return UnitSpec(name=name, **options)


def fake_service(**behaviours):
    """Return a fake service; a name that isn't given is a server that runs until it is stopped."""
    fake = FakeService()
    fake.on(lambda _: True, **SERVER)
    for name, behaviour in behaviours.items():
        if isinstance(behaviour, list):
            fake.on(name, ..., then=behaviour)
        else:
            fake.on(name, ..., **behaviour)
    return fake


def crash(after, code=1):
    """Return the behaviour of a process that fails after some seconds."""
    return Behaviour(exit_after=after, exit_code=code)


FOR_EVER = Behaviour(exit_code=None)


class Changes:
    """The changes of state so far, in order."""

    def __init__(self, subscription):
        self._subscription = subscription
        self._seen = []

    def all(self):
        import trio

        while True:
            try:
                self._seen.append(self._subscription.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
                return self._seen

    def of(self, name):
        """Return the states that a unit came into."""
        return [str(event.new) for event in self.all() if event.name == name]

    def entered(self, state):
        """Return the units that came into a state, in order."""
        return [event.name for event in self.all() if event.new == state]


@asynccontextmanager
async def supervised(units, fake=None, **options):
    """Enter a supervisor on a fake service; give it, the fake, and the changes."""
    fake = fake if fake is not None else fake_service()
    async with fake:
        with fake.subscribe(UnitChanged, buffer=float("inf")) as events:
            changes = Changes(events)
            try:
                async with Supervisor(units, service=fake, **options) as supervisor:
                    yield supervisor, fake, changes
            finally:
                changes.all()


def starts(fake, command=None):
    """Return when the processes of a command were started, on the virtual clock."""
    return [call.at for call in fake.calls if command is None or call.command == command]
