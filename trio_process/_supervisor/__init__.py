"""Layer 4, supervision: units that are kept running, in the order of their dependencies."""

from .events import UnitChanged
from .file import find_faults, load_pipeline, load_services, make_units
from .probes import Asker, Place, Probe
from .reload import ReloadPlan
from .rules import TABLE, Machine, Outlook, Situation, Strategy, UnitCondition, UnitEvent, UnitState, decide
from .spec import UnitSpec
from .supervisor import Supervisor, held, names_of, owner_of, reread, supervisor_of, wait_unheld
from .unit import Unit, UnitInfo
from .unit_lines import UnitLines

__all__ = [
    "TABLE",
    "Asker",
    "Machine",
    "Outlook",
    "Place",
    "Probe",
    "ReloadPlan",
    "Situation",
    "Strategy",
    "Supervisor",
    "Unit",
    "UnitChanged",
    "UnitCondition",
    "UnitEvent",
    "UnitInfo",
    "UnitLines",
    "UnitSpec",
    "UnitState",
    "decide",
    "find_faults",
    "held",
    "load_pipeline",
    "load_services",
    "make_units",
    "names_of",
    "owner_of",
    "reread",
    "supervisor_of",
    "wait_unheld",
]
