"""What travels on a bus, and who reads it: events, batches, backlogs, subscriptions."""

from .backlog import Backlog
from .batch import EventBatch, batch_of
from .bus import Bus
from .source import EventSource
from .subscription import Subscription, SubscriptionStatistics
from .types import ActionProcessExited, ActionProcessKilled, ActionProcessOutput, ActionProcessStarted

__all__ = [
    "ActionProcessExited",
    "ActionProcessKilled",
    "ActionProcessOutput",
    "ActionProcessStarted",
    "Backlog",
    "Bus",
    "EventBatch",
    "EventSource",
    "Subscription",
    "SubscriptionStatistics",
    "batch_of",
]
