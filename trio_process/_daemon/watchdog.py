"""systemd's watchdog (WatchdogSec= in systemd.service(5)): signs of life while the health checks pass."""

from __future__ import annotations

import trio

from .._core import open_scope
from .health import Checkup
from .systemd import Notifier


async def keep_quiet(notifier: Notifier, checkup: Checkup) -> None:
    """Give a sign of life every `notifier.watchdog` seconds, unless the last checks failed; until cancelled.

    The checks have a rhythm of their own, as one may take longer than the watchdog is patient: until there is a verdict,
    at the limit of a check at the latest, the one before it stands. Waiting for it would have a daemon killed that is
    well, with checks that are slow but pass.
    """
    well: bool | None = None

    async def check() -> None:
        nonlocal well
        while True:
            begun = trio.current_time()
            passed = not any(result.why for result in await checkup.results())
            if passed and not well:
                notifier.alive()  # at once: the last sign may have been long ago
            well = passed
            await trio.sleep_until(begun + notifier.watchdog)

    async with open_scope() as nursery:
        nursery.start_soon(check, name="health checks for the watchdog")
        while True:
            await trio.sleep(notifier.watchdog)
            if well is not False:
                notifier.alive()
