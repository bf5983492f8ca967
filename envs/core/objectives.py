# SPDX-License-Identifier: Apache-2.0
"""Objectives: what decisions in a world are judged by, as a weighted sum of named terms.

Terms of a kind of world are entries of a registry; others are plugins (:mod:`edgegen.envs.core.plugins`). A scenario
names terms with their weights in its field ``objective``; those that it does not name keep the weights that they have
by default. What a term is measured from is the business of its kind: ``terms.py`` in the folder of the world says it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from edgegen.envs.core.electricity import Electricity
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.fields import Positive, Real
from edgegen.envs.core.registry import Registry
from edgegen.envs.core.world import WorldScenario

TERM_PREFIX = "term_"
"""What metrics begin with that say what a term adds to the objective."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A term of an objective.

    Attributes:
        name: Its name in ``objective``.
        kind: Kind of the worlds that it is for.
        title: What it is called in tables, with the unit of its amount.
        metric: Name of its amount among the values of a meter; empty where the kind reports that anyway.
        measure: What its amounts are, see ``terms.py`` of the kind.
        needs: Fields of a scenario that must be given for it.
        field: Field of a scenario that is its weight, if there is one.
        default: Its weight where neither ``objective`` nor a field says one, or from a scenario to that.
        tariff: Of a fleet, what it charges for, which compiled rules see; see ``terms.py`` there.
        fixed: Why its weight can not be chosen; empty if it can.
    """

    name: str
    kind: str
    title: str
    metric: str = ""
    measure: Callable[..., Any]
    needs: tuple[str, ...] = ()
    field: str = ""
    default: float | Callable[[Any], float] = 0.0
    tariff: Callable[[Any], Any] | None = None
    fixed: str = ""

    @property
    def part(self) -> str:
        """Name of the metric that says what it adds to the objective."""
        return TERM_PREFIX + self.name

    @property
    def usual(self) -> bool:
        """Whether it is part of every objective of its kind, named or not."""
        return bool(self.field or self.default)

    def weight_in(self, scenario: Any) -> float:
        """Return its weight in a scenario."""
        if self.field and (own := getattr(scenario, self.field)) is not None:
            return float(own)
        usual = self.default(scenario) if callable(self.default) else self.default
        return float(scenario.objective.get(self.name, usual))


TERMS: Registry[Term] = Registry("term", {})
"""The registry, by ``kind:name``; ``terms.py`` of a kind adds what the package has when its scenarios are imported."""


def register(term: Term) -> Term:
    """Add a term; registering the same one again changes nothing.

    Raises:
        InputError: If its kind has a term of this name, or the name is no word.
    """
    if not all(part.isidentifier() for part in term.name.split("-")):
        raise InputError(f"The name of a term is '{term.name}', but must be words of letters and digits.")
    TERMS.register(f"{term.kind}:{term.name}", term)
    return term


def adopt(plugin: Any, reference: str) -> str | None:
    """Register a plugin if it is a term; returns its name, or None if it is something else."""
    del reference
    return register(plugin).name if isinstance(plugin, Term) else None


def terms_of(kind: str) -> dict[str, Term]:
    """Return the terms of a kind of world by name, those of the package first.

    Raises:
        InputError: If a plugin can not be used.
    """
    own = [name for name in TERMS.names() if name.startswith(f"{kind}:")]
    return {name.partition(":")[2]: term for name in own if (term := TERMS.get(name)) is not None}


class Weights(dict[str, float]):
    """Weights of terms by name, which nobody changes."""

    def __hash__(self) -> int:  # type: ignore[override]  # dictionaries have none
        return hash(frozenset(self.items()))


class JudgedScenario(WorldScenario):
    """A world whose objective is a weighted sum of terms.

    Attributes:
        objective: Weights of terms by name; see :func:`terms_of` for what there is. Terms that it names are reported,
            also where their weight is 0; those that it does not name keep their defaults.
        power_w: Electric power of each site while it works, W: one number for all or one each.
        electricity: What electricity costs.
    """

    judged_as: ClassVar[str]
    """Kind whose terms its objective may have."""

    objective: Annotated[dict[str, Real], Field(max_length=100)] = Field(default_factory=Weights)
    power_w: Annotated[tuple[Positive, ...], Field(max_length=10_000)] = ()
    electricity: Electricity | None = None

    @model_validator(mode="before")
    @classmethod
    def _weights_with_fields(cls, data: Any) -> Any:
        """Weights that are fields of their own may stand in the objective too."""
        named = data.get("objective") if isinstance(data, dict) else None
        if not isinstance(named, dict):
            return data
        data = dict(data)
        for name, term in terms_of(cls.judged_as).items():
            if name in named and term.field:
                if term.field in data and data[term.field] != named[name]:
                    raise ValueError(
                        f"{term.field} is {data[term.field]} and objective.{name} is {named[name]}, but they are the "
                        "same weight; give one of them"
                    )
                data[term.field] = named[name]
        return data

    @model_validator(mode="after")
    def _objective_is_known(self) -> Self:
        known = terms_of(self.judged_as) if self.objective else {}
        for name in self.objective:
            if name not in known:
                raise ValueError(
                    f"objective names '{name}', but must name some of {', '.join(known)}.{did_you_mean(name, known)}"
                )
            if known[name].fixed:
                raise ValueError(f"objective.{name} can not be set: {known[name].fixed}")
            for field in known[name].needs:
                if not getattr(self, field):
                    raise ValueError(f"objective.{name} needs the field {field}")
        object.__setattr__(self, "objective", Weights(self.objective))
        return self

    @model_validator(mode="after")
    def _power_is_known(self) -> Self:
        count, each = self.powered
        if len(self.power_w) not in (0, 1, count):
            raise ValueError(
                f"power_w has {len(self.power_w)} entries for {count} {each}s; give one for all or one each"
            )
        if self.electricity is not None:
            self.electricity.check(*self.placed)
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self._given(dump(self))

    def _given(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return plain data without an objective and power that are not given: it is that of worlds without them."""
        for name in ("objective", "power_w", "electricity"):
            if not getattr(self, name):
                data.pop(name, None)
        return data

    @property
    @abstractmethod
    def powered(self) -> tuple[int, str]:
        """How many entries ``power_w`` may have, and what each is for."""

    @property
    def placed(self) -> tuple[int, str]:
        """How many sites there are, and what one is called."""
        return self.powered

    @property
    def power_kw(self) -> tuple[float, ...]:
        """Electric power of every site while it works, kW; nothing where none is given."""
        own = self.power_w or (0.0,)
        return tuple(own[site % len(own)] / 1000 for site in range(self.placed[0]))


@dataclass(frozen=True)
class Objective:
    """The objective of a scenario: terms that are measured one by one, and their weights.

    Attributes:
        scenario: The scenario.
        terms: Terms with their weights.
    """

    scenario: Any
    terms: tuple[tuple[Term, float], ...]

    @classmethod
    def of(cls, scenario: Any) -> Objective | None:
        """Return the objective of a scenario; None where it names no term, so that all is as the kind has it."""
        if not scenario.objective:
            return None
        every = terms_of(scenario.judged_as).values()
        own = [term for term in every if term.usual or term.name in scenario.objective]
        return cls(scenario, tuple((term, term.weight_in(scenario)) for term in own))

    def weight(self, name: str) -> float:
        """Return the weight of a term; 0 if it is not part of the objective."""
        return next((weight for term, weight in self.terms if term.name == name), 0.0)

    def amounts(self, facts: Any) -> dict[str, Any]:
        """Return the amount of every term, by name, as the facts are."""
        return {term.name: term.measure(self.scenario, facts) for term, _ in self.terms}

    def total(self, amounts: Mapping[str, Any]) -> Any:
        """Return the weighted sum of amounts; those that are missing count nothing."""
        return sum(weight * amounts[term.name] for term, weight in self.terms if term.name in amounts and weight)

    def cost(self, facts: Any) -> Any:
        """Return what facts cost: the weighted sum of all amounts."""
        return self.total(self.amounts(facts))

    def reported(self, amounts: Mapping[str, Any]) -> dict[str, Any]:
        """Return what results say of mean amounts: what each term adds to the objective, and amounts with a metric."""
        values = {term.part: weight * amounts[term.name] for term, weight in self.terms if term.name in amounts}
        named = [term for term, _ in self.terms if term.metric and term.name in self.scenario.objective]
        return values | {term.metric: amounts[term.name] for term in named}
