"""The decisions, free of tasks, processes and clocks: states and their table, conditions, the order of starts and stops."""

from .conditions import missing, outlook_of, unmet_error
from .graph import Graph
from .state_machine import TABLE, Machine, Outlook, Situation, UnitEvent, Verdict, decide
from .states import AT_REST, RUNNING, Strategy, UnitCondition, UnitState
from .stop_order import StopOrder

__all__ = [
    "AT_REST",
    "RUNNING",
    "TABLE",
    "Graph",
    "Machine",
    "Outlook",
    "Situation",
    "StopOrder",
    "Strategy",
    "UnitCondition",
    "UnitEvent",
    "UnitState",
    "Verdict",
    "decide",
    "missing",
    "outlook_of",
    "unmet_error",
]
