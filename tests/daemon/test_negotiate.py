"""Which media type an answer has, by the weights in `Accept`."""

import pytest

from trio_process._daemon import preferred

USUAL, OFFERS = "text/plain", ["application/health+json", "application/json"]
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", USUAL),
        ("*/*", USUAL),
        ("application/*", USUAL),
        ("application/json", "application/json"),
        ("Application/JSON ; Q=0.5", "application/json"),
        ("application/json, text/plain, */*", "application/json"),
        ("application/json, application/health+json", "application/health+json"),
        ("application/json, application/health+json;q=0.9", "application/json"),
        ("application/health+json;q=0, application/json;q=0.001", "application/json"),
        ("application/json;q=0", USUAL),
        ("application/json;q=0.000, */*", USUAL),
        ("application/json;charset=utf-8;q=0, */*;q=0.1", USUAL),
        ("text/plain, application/json;q=0.9", USUAL),
        ("text/*;q=0.5, application/json;q=0.4, */*", USUAL),
        ("text/plain;q=0.1, text/*, application/json;q=0.2", "application/json"),
        ("text/html, application/json;q=0.9, */*;q=0.8", "application/json"),
        *[(f"application/json;q={weight}", USUAL) for weight in ("", "x", "-1", "2", "nan", "1e-3", "0.1234", "\xb2")],
        (",,;;q=1,application/json;q=1.000;x=y", "application/json"),
    ],
)
def test_the_usual_type_is_sent_unless_another_is_named_with_at_least_its_weight(accept, wanted):
    assert preferred(accept, OFFERS, USUAL) == wanted


def test_the_parameters_of_a_type_do_not_matter_but_its_weight():
    assert preferred(PROMETHEUS, ["application/openmetrics-text"], USUAL) == "application/openmetrics-text"
