"""Describe the services of a supervisor to clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, final

from ..._core import ProcessError, nearest
from ..._process import ManagedProcess
from ..._supervisor import Supervisor, Unit, UnitState, owner_of
from ..problem import Problem


@final
class Services:
    """The services of a supervisor.

    Args:
        supervisor: The supervisor, or None.
    """

    __slots__ = ("_supervisor",)

    def __init__(self, supervisor: Supervisor | None) -> None:
        self._supervisor = supervisor

    def need(self) -> Supervisor:
        """Return the supervisor.

        Raises:
            Problem: There is none.
        """
        if self._supervisor is None:
            raise Problem("unavailable", "this server was given no supervisor")
        return self._supervisor

    def units(self) -> list[Unit]:
        """Return all units, in the order of the file."""
        return [] if self._supervisor is None else list(self._supervisor.units)

    def rows(self) -> list[dict[str, Any]]:
        """Return all units, ready for JSON."""
        return [row(unit) for unit in self.units()]

    def named(self, name: str) -> list[Unit]:
        """Return the units that a name refers to: a service with all its replicas, or one replica.

        Raises:
            Problem: There is no such unit, or no supervisor.
        """
        self.need()
        units = self.units()
        found = [unit for unit in units if unit.spec.name == name] or [unit for unit in units if unit.name == name]
        if not found:
            raise Problem("not_found", f"there is no service {name!r}{nearest(name, [unit.name for unit in units])}")
        return found

    def source_of(self, id: str, label: str | None) -> tuple[str, int]:  # noqa: A002 - its name everywhere
        """Return the service and replica of a process, by which its lines are filed.

        A process of no service is filed by its label, or by its id if it has none, or one that a service is called.

        Args:
            id: The id of the process.
            label: Its label; anybody can call a process as a service is called, so it decides nothing else.
        """
        found = None if self._supervisor is None else owner_of(self._supervisor, id)
        if found is not None:
            return found
        taken = not label or any(unit.spec.name == label for unit in self.units())
        return (id if taken or label is None else label), 1

    def row_of(self, process: ManagedProcess) -> dict[str, Any]:
        """Return a process with its service and replica, ready for JSON."""
        service, replica = self.source_of(process.id, process.name)
        return process.info().to_dict() | {"service": service, "replica": replica}

    def all_ready(self) -> bool:
        """Return whether all wanted services are ready; False before the supervisor is entered."""
        units = self.units()
        return self._supervisor is None or (bool(units) and all(is_fine(unit) for unit in units))

    def graph(self) -> dict[str, Any]:
        """Return the dependency graph, ready for JSON: an edge leads from a dependency to its dependent."""
        nodes: dict[str, dict[str, Any]] = {}
        edges: list[dict[str, Any]] = []
        for unit in self.units():
            name = unit.spec.name
            if name in nodes:
                nodes[name]["replicas"] += 1
                continue
            nodes[name] = {"id": name, "name": name, "state": str(unit.state), "replicas": 1}
            edges += [
                {"from": needed, "to": name, "condition": condition}
                for needed, condition in conditions(unit.spec.after)
            ]
        return {"nodes": list(nodes.values()), "edges": edges}


def conditions(after: Mapping[str, Any] | Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield the dependencies of a service, each with its condition."""
    if isinstance(after, Mapping):
        return [(name, str(getattr(condition, "value", condition))) for name, condition in after.items()]
    return [(name, "ready") for name in after]


def is_fine(unit: Unit) -> bool:
    """Return whether a unit counts as ready for the whole: it is ready, completed, or not wanted."""
    if unit.state is UnitState.STOPPED:
        return unit.generation > 0 or not unit.spec.enabled  # otherwise it is about to be started
    return unit.state in (UnitState.READY, UnitState.COMPLETED)


def row(unit: Unit) -> dict[str, Any]:
    """Return a unit, ready for JSON."""
    process = unit.process
    return unit.info().to_dict() | {
        "exitCode": None if process is None else process.exit_code,
        "after": dict(conditions(unit.spec.after)),
        "replicas": unit.spec.replicas,
        "essential": unit.spec.essential,
    }


def of_failure(error: ProcessError) -> Problem:
    """Return the problem for the failure of an operation."""
    if isinstance(error, LookupError):
        return Problem("not_found", str(error))
    return Problem("conflict", str(error))
