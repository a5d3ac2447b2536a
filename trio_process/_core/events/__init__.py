"""Events of processes: batches inside, events outside.

What travels. A chunk that a child writes holds anything from one line to thousands. An event object, a checkpoint and a
hop over a memory channel for each line would cost 8 µs a line, which is 0.12 million lines a second. So a chunk travels
as one `EventBatch`: the process, the stream and the texts. Event objects are made when a reader looks at them, in bulk
and by C code. A reader that wants only texts takes `batch.lines` and no event is ever made.

Who holds what. A `Bus` belongs to a service; the bus of a core is its parent, and gets everything that the service's
gets. A bus has one `Backlog` per subscriber: the queue of batches and the policy for a full one. The `Subscription` is
the reader's end. The bus holds the backlog, and only the reader holds the subscription: a forgotten subscription is
garbage-collected, closes its backlog, and logs where it was made. Clones share a backlog: each batch is opened once,
and its iterator is given to all of them.

Nothing without a subscriber. `Bus.targets` returns the backlogs that want an event; for an empty list a caller makes no
batch and doesn't even split the chunk into lines. `Bus.version` changes with every subscription, so that a child asks
again only then.

Who waits for whom. Publishing never waits: `offer` takes every batch, and one chunk may overshoot the bound. A backlog
with `Overflow.WAIT` that is full then says so, and the publisher stops producing: the output router pauses the pipe,
so that the child blocks in write(2), and `Core.broadcast` waits in its own task. Each leaves a callback with `when_room`.
So a slow reader delays the processes it listens to, and no other task. It is named in a log record after 10 s.

Room is counted in events and in bytes of text. The batch that is being read one by one counts until the next one is opened:
freeing each of its events singly would wake the child for one line of room. With a dropping policy it doesn't count, as
it would push newer events than its own out of the backlog.

What is never dropped. `Started`, `Killed` and `Exited` come at most once per process, and programs wait for them. They are
taken in whatever the policy says, beyond the bound if need be. Only lines, and objects that a program broadcasts itself,
are dropped and counted in `dropped`.

The order of one process's events is `Started`, every line, `Killed` for a death by signal, `Exited`. `Exited` is published
after the output is drained, and before anything that waits for the process goes on, so a reader that has seen `Exited` has
seen all. A subscription for one process ends there; the others end when their service or core is closed. What is in the
backlog can still be read after that, also in a cancelled scope, by `receive_nowait`.

Checkpoints. `receive` and ``async for`` checkpoint once per batch, before its first event, and `receive_batch` once per call.
A checkpoint per event would cost four times as much as the event.
"""

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
