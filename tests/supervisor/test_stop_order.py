"""The nearest units that run, with what is remembered of those that don't, against a search that remembers nothing."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from trio_process._supervisor.rules import Graph, StopOrder

COUNT = 8
EDGES = st.sets(st.tuples(st.integers(0, COUNT - 1), st.integers(0, COUNT - 1)).filter(lambda edge: edge[0] < edge[1]))
STEPS = st.lists(st.tuples(st.integers(0, COUNT - 1), st.booleans(), st.booleans()), max_size=60)


def graph_of(edges):
    """Return the graph in which the higher number of each pair needs the lower one."""
    return Graph({str(name): frozenset([str(low) for low, high in edges if high == name]) for name in range(COUNT)})


def searched(name, neighbours, entries):
    found, seen, waiting = set(), {name}, [name]
    while waiting:
        for other in neighbours(waiting.pop()) - seen:
            seen.add(other)
            if entries[other].replicas[0].is_running:
                found.add(other)
            else:
                waiting.append(other)
    return found


@given(EDGES, STEPS)
def test_what_is_remembered_changes_no_answer(edges, steps):
    graph = graph_of(edges)
    entries = {
        str(name): SimpleNamespace(replicas=[SimpleNamespace(name=str(name), is_running=False)])
        for name in range(COUNT)
    }
    order = StopOrder(graph, entries)
    for number, runs, is_asked in steps:
        name = str(number)
        if is_asked:
            dependents = {replica.name for replica in order.running_dependents(name)}
            needs = {replica.name for replica in order.running_needs(name)}
            assert (dependents, needs) == (
                searched(name, graph.dependents, entries),
                searched(name, graph.needs, entries),
            )
        else:
            entries[name].replicas[0].is_running = runs
            if runs:
                order.runs(name)


def test_a_long_chain_is_walked_once():
    graph = Graph({str(number): frozenset([str(number - 1)] if number else []) for number in range(1000)})
    looks = 0

    class Entries(dict):
        def get(self, name, default=None):
            nonlocal looks
            looks += 1
            return super().get(name, default)

    entries = Entries({str(n): SimpleNamespace(replicas=[SimpleNamespace(is_running=True)]) for n in range(1000)})
    order = StopOrder(graph, entries)
    for number in range(999, -1, -1):
        assert not list(order.running_dependents(str(number)))
        entries[str(number)].replicas[0].is_running = False
    assert looks < 2000
