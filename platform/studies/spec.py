# SPDX-License-Identifier: Apache-2.0
"""What a study does, as frozen data: the fields of its YAML file, and what they have to do with one another."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from edgegen.algorithms.core.tunable import tuned_name
from edgegen.envs.core.fields import Count, Flag, Frozen, Positive, Real, Seed

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]

Size = Literal["full", "quick"]
"""How much of a study is run: all of it, or as much as takes minutes."""
FULL: Size = "full"
QUICK: Size = "quick"

FigureKind = Literal["curves", "efficiency", "final", "improvement", "profile", "axis"]


class Method(Frozen):
    """A way to train a policy.

    Attributes:
        title: Its name in tables and figures.
        algorithm: ``ladts``, ``t2drl``, or ``ppo``: RLlib's own, one policy for all servers.
        preset: The preset its settings begin with.
        settings: Settings that differ from the preset.
        note: What people should know, one sentence in the report.
    """

    title: str
    algorithm: str
    preset: str = "paper"
    settings: dict[str, Any] = Field(default_factory=dict)
    note: str = ""


class Extent(Frozen):
    """How much is trained and measured; what is not given is that of the study.

    Attributes:
        seeds: Training seeds.
        episodes: Training episodes.
        evaluation_episodes: Evaluation episodes, the same for all policies.
        evaluation_seed: Their seed.
        settings: Settings of every method that differ, for example shorter exploration in shorter trainings.
        method_episodes: Training episodes of single methods that differ, by method.
        methods: The methods that are run; all of the experiment if not given.
        tuned: The rules that are tuned; all of the experiment if not given.
        values: The values of the axis that are run; all if not given.
        skip: Whether the experiment is left out.
    """

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    episodes: Count | None = None
    evaluation_episodes: Count | None = None
    evaluation_seed: Seed | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    method_episodes: dict[str, Count] = Field(default_factory=dict)
    methods: tuple[Name, ...] | None = None
    tuned: tuple[str, ...] | None = None
    values: tuple[Real | str, ...] | None = None
    skip: Flag = False

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds is {list(self.seeds)}, but no seed may occur twice")
        return self


class Point(Frozen):
    """One value of an axis.

    Attributes:
        value: The value, a number or a word.
        overrides: Fields of the scenario that differ, by dotted name.
        settings: Settings of the methods that differ.
    """

    value: Real | str
    overrides: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)


class Axis(Frozen):
    """What an experiment varies.

    Attributes:
        label: What it is, with its unit, as on the axis of a figure.
        field: A field of the scenario as ``scenario.NAME``, or a setting of the methods; with ``values``.
        values: Its values.
        points: Instead of both: values with everything that changes with them.
        log: Whether the axis of the figure is logarithmic.
    """

    label: str
    field: str | None = None
    values: tuple[Real, ...] = ()
    points: tuple[Point, ...] = ()
    log: Flag = False

    @model_validator(mode="after")
    def _either(self) -> Self:
        if bool(self.points) == (self.field is not None):
            raise ValueError("an axis needs either points, or a field with values")
        if self.field is not None and not self.values:
            raise ValueError(f"field is '{self.field}', but values is empty")
        values = [point.value for point in self.all_points]
        if len(set(values)) < len(values):
            raise ValueError(f"the values are {values}, but none may occur twice")
        return self

    @property
    def all_points(self) -> tuple[Point, ...]:
        """The points, however they were given."""
        if self.field is None:
            return self.points
        head, _, rest = self.field.partition(".")
        of_scenario = head == "scenario" and bool(rest)
        made = []
        for number in self.values:
            value = int(number) if float(number).is_integer() else number
            change = {rest if of_scenario else self.field: value}
            made.append(Point(value=value, **{"overrides" if of_scenario else "settings": change}))
        return tuple(made)


class Claim(Frozen):
    """A published statement that the data confirms, contradicts or leaves open.

    Attributes:
        text: The statement, for people.
        kind: ``order``: each method's training delay is below the next one's, in a block of episodes. ``ratio``: the
            final mean of ``method`` over that of ``reference`` is at most ``at_most``. ``below``: the final mean of
            ``method`` is below that of ``reference``.
        methods: Of ``order``: the methods, best first.
        method: Of the others: the method.
        reference: Of the others: the method or rule it is compared with.
        at_most: Of ``ratio``: the published ratio.
        first: Of ``order``: first episode of the block, from 1.
        last: Of ``order``: its last episode.
    """

    text: str
    kind: Literal["order", "ratio", "below"]
    methods: tuple[Name, ...] = ()
    method: Name | None = None
    reference: Name | None = None
    at_most: Positive | None = None
    first: Count = 1
    last: Count = 1

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "order" and (len(self.methods) < 2 or self.last < self.first):
            raise ValueError("a claim of kind order needs at least two methods, and last not before first")
        if self.kind != "order" and (self.method is None or self.reference is None):
            raise ValueError(f"a claim of kind {self.kind} needs method and reference")
        if self.kind == "ratio" and self.at_most is None:
            raise ValueError("a claim of kind ratio needs at_most")
        return self


class Published(Frozen):
    """Published numbers to set beside ours.

    Attributes:
        source: Where they are from, and how exactly they could be read.
        final: Final values by method or rule.
        curves: By method, values by episode.
        claims: Statements.
    """

    source: str
    final: dict[Name, Real] = Field(default_factory=dict)
    curves: dict[Name, dict[int, Real]] = Field(default_factory=dict)
    claims: tuple[Claim, ...] = ()


class Experiment(Frozen):
    """One question: methods and rules, in worlds, with the figures and tables that answer it.

    Attributes:
        name: Its name, also in the names of its files.
        title: Heading in the report.
        question: What it is to answer, one or two sentences.
        methods: Methods that are trained, by name.
        rules: Rules and benchmarks beside them.
        tuned: Rules that are tuned for every training seed, with as many simulated training episodes as the longest
            training has; all that have constants if not given. Where nothing is trained nothing is tuned.
        scenarios: Worlds, each named, ``name:variant`` or a file; results of several are aggregated as ratios to the
            reference.
        train_on: The world that methods are trained in, once for all scenarios; each in its own if not given.
        overrides: Fields of all scenarios that differ.
        axis: What varies, if anything.
        reference: The rule that ratios refer to; the usual one of the kind of world if not given.
        baseline: The method that all others are compared with, seed by seed; none if not given.
        metrics: What figures over an axis show, a panel each; the metric that decides if not given.
        figures: Figures to draw.
        published: Published numbers to set beside ours.
        full: How much is done in the full study.
        quick: How much in the quick one.
    """

    name: Name
    title: str
    question: str = ""
    methods: tuple[Name, ...] = ()
    rules: tuple[str, ...] = ()
    tuned: tuple[str, ...] | None = None
    scenarios: Annotated[tuple[str, ...], Field(min_length=1)]
    train_on: str | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    axis: Axis | None = None
    reference: str | None = None
    baseline: Name | None = None
    metrics: tuple[str, ...] = ()
    figures: Annotated[tuple[FigureKind, ...], Field(min_length=1)] = ("final",)
    published: Published | None = None
    full: Extent = Extent()
    quick: Extent = Extent()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.methods and not self.rules:
            raise ValueError("an experiment needs methods or rules")
        if self.baseline is not None and self.baseline not in self.methods:
            raise ValueError(f"baseline is '{self.baseline}', but must be one of the methods {', '.join(self.methods)}")
        if self.baseline is not None and self.axis is not None:
            raise ValueError("baseline is for experiments without an axis")
        if ("axis" in self.figures) != (self.axis is not None):
            raise ValueError("figure 'axis' and the field axis need one another")
        if self.axis is not None and len(self.figures) > 1:
            raise ValueError(
                f"figures is {list(self.figures)}, but an experiment with an axis has the figure axis only"
            )
        if self.train_on is not None and {"curves", "efficiency"} & set(self.figures):
            raise ValueError("figures of trainings belong to the world that is trained in, so train_on excludes them")
        if "curves" in self.figures and not self.methods:
            raise ValueError("figure 'curves' shows trainings, but there are no methods")
        return self

    def extent(self, size: Size) -> Extent:
        """Return how much of it belongs to a size."""
        return self.full if size == FULL else self.quick


class StudySpec(Frozen):
    """A study: experiments that share methods and, where they are the same, trainings.

    Attributes:
        name: Its name, also of its report.
        title: Heading of the report.
        description: What it is about, below the heading.
        methods: Methods by name.
        labels: What rules and scenarios are called in tables and figures, by name; by their names if not given.
        experiments: Experiments.
        full: How much each experiment does if it says nothing else; seeds and episodes must be given.
        quick: Likewise in the quick study.
        checkpoint_every: Training episodes between checkpoints: what a kill costs at most.
    """

    name: Name
    title: str
    description: str = ""
    methods: dict[Name, Method] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    experiments: Annotated[tuple[Experiment, ...], Field(min_length=1)]
    full: Extent
    quick: Extent
    checkpoint_every: Count = 25

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for size in (FULL, QUICK):
            extent: Extent = getattr(self, size)
            for name in ("seeds", "episodes", "evaluation_episodes", "evaluation_seed"):
                if getattr(extent, name) is None:
                    raise ValueError(f"{size}.{name} is missing; experiments that say nothing need it")
            for name in ("methods", "tuned", "values", "skip"):
                if name in extent.model_fields_set:
                    raise ValueError(f"{size}.{name} is for experiments, each of which has its own")
            for name in extent.method_episodes:
                if name not in self.methods:
                    raise ValueError(
                        f"{size}.method_episodes names '{name}', but methods are {', '.join(self.methods)}"
                    )
        shown = {name for e in self.experiments for name in (*e.rules, *map(tuned_name, e.rules), *e.scenarios)}
        if unknown := next((name for name in self.labels if name not in shown), None):
            raise ValueError(
                f"labels names '{unknown}', but the rules and scenarios of the study are {', '.join(sorted(shown))}"
            )
        names = [experiment.name for experiment in self.experiments]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two experiments are called '{min(doubled)}'")
        return self
