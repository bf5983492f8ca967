# SPDX-License-Identifier: Apache-2.0
"""Fields of files: every number has bounds, and nothing else is taken for one."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel, PlainValidator, TypeAdapter, ValidationError

from edgegen.algorithms.methods.t2drl import T2DRLSettings
from edgegen.algorithms.roles.router.settings import RouterSettings
from edgegen.envs.core.errors import InputError
from edgegen.envs.core.fields import LEAST, MOST, Count, Flag, Positive, check_copies
from edgegen.envs.offloading.scenario import OffloadingScenario
from edgegen.envs.provisioning.curves import CurveSet
from edgegen.envs.provisioning.scenario import ProvisioningScenario
from edgegen.platform.studies.ppo import PPOSettings
from edgegen.platform.studies.spec import StudySpec
from edgegen.platform.sweeps.spec import SweepSpec
from edgegen.serve.config import ServiceConfig

WORLDS = (OffloadingScenario, ProvisioningScenario, CurveSet)
WHAT_FILES_HOLD = (*WORLDS, ServiceConfig, SweepSpec, StudySpec, RouterSettings, T2DRLSettings, PPOSettings)


def leaves(annotation: Any, name: str) -> Iterator[tuple[str, Any, type]]:
    """Numbers and truth values anywhere in a type, by name, with their constraints."""
    if get_origin(annotation) is Annotated:
        base, *constraints = get_args(annotation)
        if any(isinstance(constraint, PlainValidator) for constraint in constraints):
            return
        if base in (int, float, bool):
            yield name, annotation, base
        else:
            yield from leaves(base, name)
    elif annotation in (int, float, bool):
        yield name, annotation, annotation
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for inner, field in annotation.model_fields.items():
            whole = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            yield from leaves(whole, f"{name}.{inner}")
    else:
        parts = get_args(annotation)
        for part in parts[1:] if get_origin(annotation) is dict else parts:
            yield from leaves(part, name)


FIELDS = [field for model in WHAT_FILES_HOLD for field in leaves(model, model.__name__)]


@pytest.mark.parametrize(("annotation", "kind"), [pytest.param(kind, base, id=name) for name, kind, base in FIELDS])
def test_every_field_takes_its_own_kind_within_bounds(annotation: Any, kind: type) -> None:
    wrong = [1, 0, "yes", "true", None] if kind is bool else [True, False, "1", "1_0", b"1", None, float("nan")]
    beyond = [1e39, -1e39, float("inf"), 2**63, 10**400, -(2**63)]
    for value in wrong + beyond:
        with pytest.raises(ValidationError):
            TypeAdapter(annotation).validate_python(value)


def test_there_are_fields_of_every_kind() -> None:
    names = {name for name, _, _ in FIELDS}
    assert {"OffloadingScenario.traffic.bursts.factor", "OffloadingScenario.steps.integer"} <= names
    assert "SweepSpec.budget.time_s" in names
    assert {"ProvisioningScenario.curves.curves.a1_steps", "ServiceConfig.edges.rate_mbit_s"} <= names
    assert len(names) > 150


def test_bounds_are_told() -> None:
    for value, said in ((1e-46, f"must be at least {LEAST:g}"), (2 * MOST, f"between {-MOST:g} and {MOST:g}")):
        with pytest.raises(ValidationError, match=said.replace("+", r"\+")):
            TypeAdapter(Positive).validate_python(value)
    with pytest.raises(ValidationError, match="must be a number"):
        TypeAdapter(Count).validate_python(True)
    with pytest.raises(ValidationError, match="must be true or false"):
        TypeAdapter(Flag).validate_python("yes")


def test_whole_numbers_may_be_written_with_an_exponent() -> None:
    assert TypeAdapter(Count).validate_python(1e5) == 100_000
    with pytest.raises(ValidationError, match="fractional part"):
        TypeAdapter(Count).validate_python(1.5)


def test_more_copies_than_a_memory_holds_are_refused() -> None:
    check_copies(100, 1000, "lab")
    with pytest.raises(InputError, match=r"copies is 100000, but of scenario 'lab' at most 2000 can be played side"):
        check_copies(100_000, 1_000_000, "lab")
