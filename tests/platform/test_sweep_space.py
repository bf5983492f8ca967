from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgegen.envs.core.errors import InputError
from edgegen.platform.sweeps.space import KINDS, Domain, parse_domain

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
