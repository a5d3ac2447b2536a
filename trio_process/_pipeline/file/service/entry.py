"""`ServiceEntry`: a service of a pipeline file, from which a supervisor can make a unit."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import attrs

from ...._core import Argument

if TYPE_CHECKING:
    from ..value_types import Report


@final
@attrs.frozen(kw_only=True)
class ServiceEntry:
    """One service of a file.

    Attributes:
        name: Its name.
        command: The program.
        args: Its arguments.
        options: Further fields of a unit, by their Python names.
        after: The condition that each other service must meet.
        ready: The `kind`, the `target` and the keywords of a probe, as in the file; None for none.
        live: The same for the liveness probe.
        restart: The fields of a restart policy, as in the file; None for the default.
        description: Its purpose.
        keys: Its keys in the file.
        report: Records a fault of this entry.
    """

    name: str
    command: str
    args: Sequence[Argument]
    options: Mapping[str, Any]
    after: Mapping[str, str] = attrs.field(factory=dict)
    ready: Mapping[str, Any] | None = None
    live: Mapping[str, Any] | None = None
    restart: Mapping[str, Any] | None = None
    description: str = ""
    keys: Collection[str] = ()
    report: Report = attrs.field(repr=False, eq=False)

    def in_file(self, prefix: str) -> ServiceEntry:
        """Return the service as seen by a file that includes this one under a name."""
        after = {f"{prefix}:{name}": condition for name, condition in self.after.items()}
        return attrs.evolve(self, name=f"{prefix}:{self.name}", after=after)
