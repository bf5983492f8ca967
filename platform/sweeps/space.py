# SPDX-License-Identifier: Apache-2.0
"""What a sweep varies: from a line of YAML to values, for Ray Tune and for Optuna alike.

A line is a field and how its values are drawn: ``actor_lr: {log_uniform: [1e-4, 1e-2]}``. The kinds are ``uniform``,
``log_uniform``, ``int``, ``log_int`` (each with a lowest and a highest value, both included) and ``choice``. A field
that only matters where a choice has certain values says so: ``{int: [2, 8], when: {router: diffusion}}``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import yaml

from edgegen.envs.core.errors import InputError, did_you_mean, shortened
from edgegen.envs.core.fields import MOST
from edgegen.envs.core.yaml_files import parse_yaml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Kind = Literal["uniform", "log_uniform", "int", "log_int", "choice"]
KINDS: tuple[str, ...] = get_args(Kind)
WHEN = "when"
"""Begins a condition in the line of a field."""
SCENARIO_PREFIX = "scenario."
"""Begins the names of fields of the scenario; others are settings of the algorithm."""

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Domain:
    """How the values of one field are drawn.

    Attributes:
        kind: One of :data:`KINDS`.
        values: Lowest and highest value, or all choices.
        when: Another field, and its values with which this one is drawn; None if it always is.
    """

    kind: Kind
    values: tuple[Value, ...]
    when: tuple[str, tuple[Value, ...]] | None = None

    def applies(self, drawn: Mapping[str, Any]) -> bool:
        """Whether it is drawn, given the values of fields that always are."""
        return self.when is None or any(_same(drawn.get(self.when[0]), value) for value in self.when[1])

    @property
    def example(self) -> dict[str, Value]:
        """Values of other fields with which it is drawn."""
        return {} if self.when is None else {self.when[0]: self.when[1][0]}

    @property
    def low(self) -> float:
        """Lowest value of a range."""
        return cast(float, self.values[0])

    @property
    def high(self) -> float:
        """Highest value of a range."""
        return cast(float, self.values[1])

    @property
    def size(self) -> float:
        """Number of different values; infinite where fractions are drawn."""
        if self.kind == "choice":
            return len(self.values)
        return self.high - self.low + 1 if self.kind in ("int", "log_int") else math.inf

    def probes(self) -> list[Value]:
        """Values that tell whether a field can take what is drawn: ends, and a fraction where fractions occur."""
        if self.kind in ("uniform", "log_uniform"):
            return [*self.values, self.low + (self.high - self.low) / math.pi]
        return list(self.values)

    def clip(self, value: Any) -> Value:
        """Return the nearest value of a range; choices are returned as they are."""
        if self.kind == "choice":
            return cast(Value, value)
        inside = min(max(value, self.low), self.high)
        return round(inside) if self.kind in ("int", "log_int") else float(inside)

    def tune(self) -> Any:
        """Return the same for Ray Tune."""
        from ray import tune

        if self.kind == "choice":
            return tune.choice(list(self.values))
        if self.kind == "uniform":
            return tune.uniform(self.low, self.high)
        if self.kind == "log_uniform":
            return tune.loguniform(self.low, self.high)
        draw = tune.randint if self.kind == "int" else tune.lograndint
        return draw(int(self.low), int(self.high) + 1)  # Tune leaves the highest value out

    def optuna(self) -> BaseDistribution:
        """Return the same for Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.values)
        if self.kind in ("int", "log_int"):
            return IntDistribution(int(self.low), int(self.high), log=self.kind == "log_int")
        return FloatDistribution(self.low, self.high, log=self.kind == "log_uniform")


def parse_domain(name: str, line: Any) -> Domain:
    """Read how the values of a field are drawn.

    Args:
        name: Name of the field.
        line: What the file says, for example ``{"uniform": [0, 1]}``.

    Raises:
        InputError: If it is not one kind with fitting values.
    """
    where = f"space.{name}"
    if isinstance(line, Mapping) and WHEN in line:
        kind_only = {key: value for key, value in line.items() if key != WHEN}
        return replace(parse_domain(name, kind_only), when=_condition(f"{where}.{WHEN}", line[WHEN]))
    if not isinstance(line, Mapping) or len(line) != 1:
        raise InputError(
            f"{where} is {line!r}, but must be one kind with its values, for example {{uniform: [0, 1]}} or "
            f"{{choice: [32, 64]}}; kinds are {', '.join(KINDS)}."
        )
    kind, values = next(iter(line.items()))
    if kind not in KINDS:
        raise InputError(
            f"{where}: unknown kind '{kind}'; kinds are {', '.join(KINDS)}.{did_you_mean(str(kind), KINDS)}"
        )
    if not isinstance(values, list) or (len(values) < 2 if kind == "choice" else len(values) != 2):
        wanted = "at least two values" if kind == "choice" else "the lowest and the highest value"
        raise InputError(f"{where}.{kind} is {values!r}, but must be a list of {wanted}.")
    if kind == "choice":
        return _choice(where, values)
    numbers = [_number(f"{where}.{kind}", value, whole=kind in ("int", "log_int")) for value in values]
    low, high = numbers
    if low >= high:
        raise InputError(f"{where}.{kind} is {values!r}, but the first value must be below the second.")
    if kind.startswith("log") and low <= 0:
        raise InputError(f"{where}.{kind} begins at {values[0]}, but a logarithmic range must begin above 0.")
    return Domain(cast(Kind, kind), (low, high))


def check_conditions(space: Mapping[str, Domain]) -> None:
    """Refuse conditions that can not be told before the field is drawn, or can never be met.

    Raises:
        InputError: If a condition names something else than a choice that is always drawn, or a value it has not.
    """
    for name, domain in space.items():
        if domain.when is None:
            continue
        other, values = domain.when
        where = f"space.{name}.{WHEN}"
        if other not in space:
            raise InputError(f"{where} names '{other}', which is not in space.{did_you_mean(other, space)}")
        if space[other].kind != "choice" or space[other].when is not None:
            raise InputError(
                f"{where} names '{other}', but must name a field that is a choice and has no {WHEN} itself."
            )
        for value in values:
            if not any(_same(value, choice) for choice in space[other].values):
                raise InputError(f"{where}.{other} holds {value!r}, but its choices are {list(space[other].values)}.")


def in_order(space: Mapping[str, Domain]) -> list[tuple[str, Domain]]:
    """Fields in an order in which they can be drawn: those with conditions last."""
    return sorted(space.items(), key=lambda item: item[1].when is not None)


def _condition(where: str, condition: Any) -> tuple[str, tuple[Value, ...]]:
    if not isinstance(condition, Mapping) or len(condition) != 1:
        raise InputError(f"{where} is {condition!r}, but must be one field with its value or a list of values.")
    other, values = next(iter(condition.items()))
    listed = values if isinstance(values, list) else [values]
    if not listed:
        raise InputError(f"{where}.{other} is an empty list, but must hold at least one value.")
    return str(other), tuple(listed)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)  # true is no number here


def _choice(where: str, values: list[Any]) -> Domain:
    for value in values:
        if value is not None and not isinstance(value, str | int | float | bool):
            raise InputError(f"{where}.choice holds {value!r}, but can only hold numbers, texts, true, false and null.")
    if len({repr(value) for value in values}) < len(values):
        raise InputError(f"{where}.choice is {values!r}, but no value may occur twice.")
    return Domain("choice", tuple(values))


def _number(where: str, value: Any, whole: bool) -> float | int:
    if isinstance(value, str):
        with contextlib.suppress(yaml.YAMLError):
            value = parse_yaml(value)  # in quotes, but a number all the same
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST
    if not number or (whole and value != int(value)):
        needed = f"{'whole ' if whole else ''}numbers from {-MOST:g} to {MOST:g}"
        raise InputError(f"{where} holds {shortened(repr(value))}, but needs {needed}.")
    return int(value) if whole else float(value)
