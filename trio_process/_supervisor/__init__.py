"""Layer 4, supervision: units that are kept running, in the order of their dependencies."""

from .events import UnitChanged
from .file import load_services, make_units
from .probe import Probe
from .reload import ReloadPlan
from .spec import UnitSpec
from .states import Strategy, UnitCondition, UnitState
from .supervisor import Supervisor
from .unit import Unit, UnitInfo
from .unit_lines import UnitLines

__all__ = [
    "Probe",
    "ReloadPlan",
    "Strategy",
    "Supervisor",
    "Unit",
    "UnitChanged",
    "UnitCondition",
    "UnitInfo",
    "UnitLines",
    "UnitSpec",
    "UnitState",
    "load_services",
    "make_units",
]
