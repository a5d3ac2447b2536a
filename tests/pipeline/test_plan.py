"""The plan against networkx, on graphs of every shape; and what it says of those that can't run."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_process._pipeline import RunSpec, find_faults, make_plan
from trio_process._pipeline.plan import MAX_DRAWN, parallel_plan, sequential_plan


def spec(name, *after):
    return RunSpec(name=name, command="true", after=after)


def graph_of(specs):
    """An edge from each spec to what it needs; missing names are nodes too."""
    import networkx as nx

    graph = nx.DiGraph()
    for one in specs:
        graph.add_node(one.name)
        graph.add_edges_from((one.name, name) for name in one.after)
    return graph


@st.composite
def pipelines(draw, acyclic=False, missing=True):
    count = draw(st.integers(0, 12))
    specs = []
    for place in range(count):
        others = range(place) if acyclic else [n for n in range(count) if n != place]
        after = [f"t{n}" for n in others if draw(st.integers(0, 3)) == 0]
        if missing and draw(st.integers(0, 9)) == 0:
            after.insert(draw(st.integers(0, len(after))), draw(st.sampled_from(["gone", "lost"])))
        specs.append(spec(f"t{place}", *after))
    return draw(st.permutations(specs))


def expected_broken(specs):
    import networkx as nx

    graph = graph_of(specs)
    known = {one.name for one in specs}
    bad = {name for name in graph if name not in known}
    for component in nx.strongly_connected_components(graph):
        if len(component) > 1:
            bad |= component
    return {name for name in known if name in bad or nx.descendants(graph, name) & bad}


@settings(deadline=None)
@given(pipelines())
def test_a_spec_is_broken_just_if_it_reaches_a_cycle_or_a_missing_name(specs):
    plan = make_plan(specs)
    assert {specs[place].name for place in plan.broken} == expected_broken(specs)
    assert all((plan.wave[place] is None) == (place in plan.broken) for place in range(len(specs)))


@settings(deadline=None)
@given(pipelines())
def test_the_waves_are_the_topological_generations_in_input_order(specs):
    import networkx as nx

    plan = make_plan(specs)
    graph = graph_of(specs).reverse()
    graph.remove_nodes_from([name for name in list(graph) if name in expected_broken(specs) | {"gone", "lost"}])
    place = {one.name: number for number, one in enumerate(specs)}
    expected = [sorted(place[name] for name in layer) for layer in nx.topological_generations(graph)]
    assert [list(wave) for wave in plan.waves] == expected
    assert all(plan.wave[one] == number for number, wave in enumerate(expected) for one in wave)


def test_a_wave_is_in_input_order_whatever_released_its_members():
    assert make_plan([spec("a"), spec("b"), spec("x", "b"), spec("y", "a")]).waves == [[0, 1], [2, 3]]


@settings(deadline=None)
@given(pipelines(acyclic=True, missing=False))
def test_the_chain_of_a_spec_is_the_longest_path_that_begins_with_it(specs):
    import networkx as nx

    plan = make_plan(specs)
    graph = graph_of(specs).reverse()
    for place, one in enumerate(specs):
        reach = graph.subgraph({one.name} | nx.descendants(graph, one.name))
        assert plan.chain[place] == len(nx.dag_longest_path(reach))


@settings(deadline=None)
@given(pipelines(missing=False))
def test_a_cycle_that_is_told_is_one_and_begins_with_its_first_member_in_the_input(specs):
    import networkx as nx

    plan = make_plan(specs)
    graph = graph_of(specs)
    place = {one.name: number for number, one in enumerate(specs)}
    for broken, why in plan.broken.items():
        told = re.search(r"the cycle (.*)$", why)
        assert told, why
        names = told[1].split(" → ")
        assert names[0] == names[-1]
        assert len(set(names)) == len(names) - 1 >= 2
        assert all(graph.has_edge(*pair) for pair in pairwise(names))
        assert place[names[0]] == min(place[name] for name in names)
        own = specs[broken].name
        if own in names:
            assert why.startswith("it is part of the cycle")
        else:
            assert set(names) <= nx.descendants(graph, own)


def test_a_missing_dependency_is_told_with_the_nearest_name():
    plan = make_plan([spec("build"), spec("test", "bulid"), spec("report", "test")])
    assert plan.broken == {
        1: "it depends on 'bulid', which doesn't exist; did you mean 'build'?",
        2: "it needs 'test', which can't run: 'test': it depends on 'bulid', which doesn't exist; did you mean 'build'?",
    }


def test_every_missing_dependency_of_a_spec_is_told():
    why = make_plan([spec("a", "x1", "y2")]).broken[0]
    assert "'x1'" in why
    assert "'y2'" in why


def test_a_member_of_a_cycle_tells_what_it_misses_too():
    plan = make_plan([spec("a", "b"), spec("b", "a", "gone")])
    assert plan.broken[0] == "it is part of the cycle a → b → a"
    assert plan.broken[1] == "it depends on 'gone', which doesn't exist; it is part of the cycle a → b → a"


def test_a_cycle_of_three_in_five_hundred_breaks_only_its_members_and_those_behind_them():
    specs = [spec(f"t{n}", *([f"t{n - 1}"] if n else [])) for n in range(400)]
    specs += [spec("x", "z"), spec("y", "x"), spec("z", "y"), spec("behind", "z")]
    specs += [spec(f"u{n}") for n in range(96)]
    plan = make_plan(specs)
    assert [specs[place].name for place in plan.broken] == ["x", "y", "z", "behind"]
    assert {plan.broken[place] for place in (400, 401, 402)} == {"it is part of the cycle x → z → y → x"}


def test_a_huge_cycle_is_told_in_short():
    count = 3000
    specs = [spec(f"t{n}", f"t{(n + 1) % count}") for n in range(count)]
    began = time.thread_time()
    plan = make_plan(specs)
    assert time.thread_time() - began < 5
    assert len(plan.broken) == count
    assert f"… {count + 1 - MAX_DRAWN} more …" in plan.broken[0]
    assert len(plan.broken[0]) < 2000


def test_thousands_of_missing_names_are_told_in_bounded_time_and_space():
    specs = [spec("needs all", *[f"gone{n}" for n in range(2000)])]
    specs += [spec(f"t{n}", "needs all", f"lost{n}") for n in range(1000)]
    specs += [spec(f"u{n}", "needs all") for n in range(1000)]
    began = time.thread_time()
    plan = make_plan(specs)
    assert time.thread_time() - began < 10
    assert len(plan.broken) == 2001
    assert max(len(plan.broken[place]) for place in range(1, 2001)) < 1000


@pytest.mark.parametrize(
    "make_specs",
    [
        lambda: [spec(f"t{n}", *([f"t{n - 1}"] if n else [])) for n in range(3000)],
        lambda: [*[spec(f"t{n}") for n in range(3000)], spec("all", *[f"t{n}" for n in range(3000)])],
        lambda: [spec("first"), *[spec(f"t{n}", "first") for n in range(3000)]],
    ],
    ids=["a chain of 3,000", "3,000 dependencies", "3,000 dependents"],
)
def test_a_plan_takes_time_in_proportion(make_specs):
    specs = make_specs()
    began = time.thread_time()
    plan = make_plan(specs)
    assert time.thread_time() - began < 2
    assert not plan.broken
    assert sum(map(len, plan.waves)) == len(specs)


def test_every_fault_is_found():
    assert find_faults([spec("a"), spec(""), spec("a", ""), spec("b", "a", "a", "b"), spec("", "x", "x")]) == [
        "spec 2 has an empty name",
        "the name 'a' is used twice: by spec 1 and by spec 3",
        "'a': after holds an empty name",
        "'b': after names 'a' twice",
        "'b': it can't come after itself",
        "spec 5 has an empty name",
        "spec 5: after names 'x' twice",
    ]


@settings(deadline=None)
@given(pipelines())
def test_missing_names_and_cycles_are_no_faults_of_that_kind(specs):
    assert find_faults(specs) == []


def test_flat_plans_ignore_dependencies():
    assert sequential_plan([spec("a", "c"), spec("b"), spec("c")]).waves == [[0], [1], [2]]
    assert parallel_plan(3).waves == [[0, 1, 2]]
    assert not any(parallel_plan(0).waves)
