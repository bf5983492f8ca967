# SPDX-License-Identifier: Apache-2.0
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.envs.core.errors import InputError
from edgegen.platform.sweeps.history import remember
from edgegen.platform.sweeps.searching import StudyPlan, StudySearch
from edgegen.platform.sweeps.space import KINDS, Domain, check_conditions, parse_domain

DOMAINS = {
    "uniform": Domain("uniform", (-1.0, 2.0)),
    "log_uniform": Domain("log_uniform", (1e-4, 1e-1)),
    "int": Domain("int", (2, 4)),
    "log_int": Domain("log_int", (1, 64)),
    "choice": Domain("choice", ("a", None, 3, True)),
}


def test_every_kind_is_covered():
    assert set(DOMAINS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_tune_and_optuna_draw_the_same_values(kind):
    domain = DOMAINS[kind]
    drawn = [domain.tune().sample(random_state=np.random.RandomState(seed)) for seed in range(300)]
    distribution = domain.optuna()
    for value in drawn:
        assert domain.clip(value) == pytest.approx(value) if kind != "choice" else value in domain.values
        assert distribution._contains(distribution.to_internal_repr(value))
    if kind in ("int", "choice"):
        assert len(set(map(repr, drawn))) == domain.size  # both ends occur
    if kind == "log_uniform":
        assert np.mean(np.log10(drawn)) == pytest.approx(-2.5, abs=0.2)


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_clipped_values_are_inside(value):
    for kind in ("uniform", "log_uniform", "int", "log_int"):
        domain: Any = DOMAINS[kind]
        clipped = domain.clip(value)
        assert domain.low <= clipped <= domain.high
        assert isinstance(clipped, int) == (kind in ("int", "log_int"))


def test_numbers_may_be_written_as_people_write_them():
    assert parse_domain("x", {"log_uniform": ["1e-4", 1]}) == Domain("log_uniform", (1e-4, 1.0))
    assert parse_domain("x", {"int": [2.0, 4]}) == Domain("int", (2, 4))


@pytest.mark.parametrize("value", ["1_0", "yes", "1:30", True, None, float("nan"), float("inf"), 10**400, 1e39, [1]])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(InputError, match=r"^space\.x\.uniform holds .*, but needs numbers from -1e\+12 to 1e\+12\.$"):
        parse_domain("x", {"uniform": [0, value]})


def test_a_field_with_a_condition_is_drawn_where_it_is_met(tmp_path):
    remember(tmp_path)
    lines: dict[str, Any] = {
        "depth": {"int": [2, 8], "when": {"net": ["deep", "wide"]}},
        "net": {"choice": ["flat", "deep", "wide"]},
        "on": {"choice": [True, False]},
        "x": {"uniform": [0, 1], "when": {"on": True}},
    }
    space = {name: parse_domain(name, line) for name, line in lines.items()}
    check_conditions(space)
    search = StudySearch(StudyPlan("s", "tpe", 0, 5, "min", space))
    drawn = {str(number): search.suggest(str(number))["settings"] for number in range(40)}
    for values in drawn.values():
        assert ("depth" in values) == (values["net"] != "flat")
        assert ("x" in values) == values["on"]
    assert {len(values) for values in drawn.values()} == {2, 3, 4}
    again = StudySearch(search.plan)
    again.recall([{"trial_id": name, "config": {"settings": values}, "status": "x"} for name, values in drawn.items()])
    assert [trial.params for trial in again.study.get_trials()] == list(drawn.values())


@pytest.mark.parametrize(
    ("when", "sentence"),
    [
        ("net", "space.a.when is 'net', but must be one field with its value or a list of values."),
        ({"net": []}, "space.a.when.net is an empty list"),
        ({"nett": "deep"}, "space.a.when names 'nett', which is not in space. Did you mean 'net'?"),
        ({"width": 3}, "must name a field that is a choice and has no when itself"),
        ({"inner": 1}, "must name a field that is a choice and has no when itself"),
        ({"net": ["deep", "high"]}, "space.a.when.net holds 'high', but its choices are ['flat', 'deep']."),
        ({"number": True}, "space.a.when.number holds True, but its choices are [1, 2]."),
    ],
)
def test_impossible_conditions_are_refused(when, sentence):
    lines: dict[str, Any] = {
        "a": {"int": [1, 2], "when": when},
        "net": {"choice": ["flat", "deep"]},
        "number": {"choice": [1, 2]},
        "inner": {"choice": [1, 2], "when": {"net": "deep"}},
        "width": {"int": [1, 4]},
    }
    with pytest.raises(InputError) as error:
        check_conditions({name: parse_domain(name, line) for name, line in lines.items()})
    assert sentence in str(error.value)
