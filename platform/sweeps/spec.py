# SPDX-License-Identifier: Apache-2.0
"""What a sweep does, as frozen data: the fields of its YAML file, and what they have to do with one another."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from edgegen.envs.core.fields import Count, Flag, Frozen, NonNegative, Positive, Real, Seed, Share, Whole

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Searcher(Frozen):
    """Who proposes values.

    Attributes:
        kind: ``random``, or one of Optuna's: ``tpe``, the tree-structured Parzen estimator; ``gp``, a Gaussian process;
            ``cmaes``, an evolution strategy.
        seed: Seed of the proposals.
        startup_trials: Trials that are drawn at random before it begins to learn.
        storage: URL of a database for the study, such as ``sqlite:///study.db``; in memory if not given.
    """

    kind: Literal["random", "tpe", "gp", "cmaes"] = "tpe"
    seed: Seed = 0
    startup_trials: Count = 10
    storage: str | None = None


class Scheduler(Frozen):
    """Who stops trials early, or changes them.

    Attributes:
        kind: ``none``; ``asha``: asynchronous successive halving; ``pbt``: population-based training; ``pb2``: the
            same, where a Gaussian process proposes the values that a trial goes on with (population-based bandits).
        grace_episodes: Episodes that ``asha`` grants every trial.
        reduction_factor: One in so many trials passes each of its halts.
        interval_episodes: Episodes between two chances of a trial of a population to copy a better one.
        quantile: Share of the trials that copy, and of those that are copied.
        resample: Probability that ``pbt`` draws a copied value anew instead of moving it by a fifth.
    """

    kind: Literal["none", "asha", "pbt", "pb2"] = "asha"
    grace_episodes: Count | None = None
    reduction_factor: Annotated[Real, Field(gt=1)] = 3.0
    interval_episodes: Count | None = None
    quantile: Annotated[Positive, Field(le=0.5)] = 0.25
    resample: Share = 0.25

    @property
    def has_population(self) -> bool:
        """Whether trials copy one another, and change their values in the middle of a training."""
        return self.kind in ("pbt", "pb2")


class Goal(Frozen):
    """One of several objectives.

    Attributes:
        metric: A metric of the kind of world, or ``training_cpu_s``, the processor time of the training.
        mode: Whether less or more of it is better; known of every metric, so it need not be said.
    """

    metric: str
    mode: Literal["min", "max"] | None = None


class Budget(Frozen):
    """How much is spent.

    Attributes:
        trials: Trials in all; the population of ``pbt`` and ``pb2``.
        episodes: Training episodes of a trial that is not stopped early.
        report_every: Training episodes between two validations, or as many as are played at once (``copies``, of every
            env runner) if those are more.
        time_s: No trial goes on for longer than this after the search has begun, s; the final training still follows. A
            search that is resumed has as much again.
    """

    trials: Annotated[Count, Field(le=100_000)]
    episodes: Count
    report_every: Count
    time_s: Positive | None = None


class Validation(Frozen):
    """What trials are judged on. The arrivals are neither those of training nor those of ``compare``.

    Attributes:
        episodes: Episodes per validation.
        seed: Their seed.
        actions: Sampled from the policy, or its most likely ones.
    """

    episodes: Count = 20
    seed: Seed = 0
    actions: Literal["sampled", "greedy"] = "sampled"


class Retrain(Frozen):
    """The final training, which tells good settings from lucky seeds.

    Attributes:
        seeds: Training seeds; none may be one of the search.
        finalists: Best trials whose settings are trained anew.
        control: Whether the preset without any change is trained the same way, to see what the search was worth.
    """

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=32)] = (101, 102, 103)
    finalists: Annotated[Count, Field(le=5)] = 1
    control: Flag = True


class Evaluation(Frozen):
    """The comparison in the report, on the arrivals of ``edgegen compare`` with the same seed.

    Attributes:
        episodes: Episodes per policy.
        seed: Their seed.
        rules: Rules to compare with; the usual ones of the algorithm if not given.
        tuned: Whether rules with constants are tuned, with each seed of the final training and as many training
            episodes as it has, and are the bar: in the comparison, and for the champion. Where the kind of world has
            none this says nothing.
    """

    episodes: Count = 30
    seed: Seed = 1000
    rules: tuple[str, ...] | None = None
    tuned: Flag = True


class Resources(Frozen):
    """What a trial takes.

    Attributes:
        cpus: CPU cores of the trial's own process.
        gpus: GPUs of the same.
        env_runners: Remote env runners, one more core each; 0 plays in the trial's own process.
        concurrent: Most trials at a time; as many as the cluster holds if not given.
    """

    cpus: Annotated[Positive, Field(le=1024)] = 1.0
    gpus: Annotated[NonNegative, Field(le=64)] = 0.0
    env_runners: Annotated[Whole, Field(le=1024)] = 0
    concurrent: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _takes_turns(cls, values: Any) -> Any:
        if isinstance(values, dict) and "asynchronous" in values:
            raise ValueError(
                "resources.asynchronous is given, but trials are synchronous: a trial that is resumed, copied or "
                "trained again has to give the same numbers; remove it, and give trials env_runners"
            )
        return values


class SweepSpec(Frozen):
    """A sweep.

    Attributes:
        name: Its name; that of the file if not given.
        description: What it is for.
        algorithm: What is trained.
        preset: The preset that the settings begin with.
        scenario: The world; the algorithm's own if neither this nor ``service`` is given.
        service: Name or file of a service config: the world is the one ``edgegen demo`` makes of its edge servers.
        settings: Settings of the algorithm that differ from the preset in every trial.
        overrides: Fields of the scenario that differ, by dotted name.
        space: What varies: settings by name, fields of the scenario as ``scenario.NAME``.
        metric: The metric that decides; that of the kind of world if not given.
        objectives: Instead of it, several: the first decides, the others are searched beside it.
        seeds: Training seeds of every trial; its metric is the mean over them.
        searcher: Who proposes values.
        scheduler: Who stops trials early.
        budget: How much is spent.
        validation: What trials are judged on.
        retrain: The final training.
        evaluation: The comparison in the report.
        resources: What a trial takes.
        model: Name of the registered model; ``edgegen-NAME`` if not given.
    """

    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    description: str = ""
    algorithm: str
    preset: str = "improved"
    scenario: str | None = None
    service: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    overrides: dict[str, Any] = Field(default_factory=dict)
    space: Annotated[dict[str, Any], Field(min_length=1)]
    metric: str | None = None
    objectives: Annotated[tuple[Goal, ...], Field(min_length=2, max_length=5)] | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=100)] = (0,)
    searcher: Searcher = Searcher()
    scheduler: Scheduler = Scheduler()
    budget: Budget
    validation: Validation = Validation()
    retrain: Retrain = Retrain()
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()
    model: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scenario is not None and self.service is not None:
            raise ValueError("scenario and service both name the world; give one of them")
        if self.objectives is not None:
            _check_objectives(self)
        for name, seeds in (("seeds", self.seeds), ("retrain.seeds", self.retrain.seeds)):
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"{name} is {list(seeds)}, but no seed may occur twice")
        if both := set(self.seeds) & set(self.retrain.seeds):
            raise ValueError(
                f"retrain.seeds holds {min(both)}, which is a seed of the search too; the final training needs seeds "
                "that chose nothing"
            )
        budget, scheduler = self.budget, self.scheduler
        if budget.report_every > budget.episodes:
            raise ValueError(
                f"budget.report_every is {budget.report_every}, but must not exceed budget.episodes ({budget.episodes})"
            )
        for name in ("grace_episodes", "interval_episodes"):
            value = getattr(scheduler, name)
            if value is not None and value > budget.episodes:
                raise ValueError(
                    f"scheduler.{name} is {value}, but must not exceed budget.episodes ({budget.episodes})"
                )
        if scheduler.has_population:
            _check_population(scheduler.kind, self.searcher, budget)
        return self


def _check_objectives(spec: SweepSpec) -> None:
    metrics = [goal.metric for goal in spec.objectives or ()]
    if spec.metric is not None:
        raise ValueError("metric and objectives both say what decides; give one of them")
    if len(set(metrics)) < len(metrics):
        raise ValueError(f"objectives are {metrics}, but none may occur twice")
    if spec.scheduler.has_population:
        raise ValueError(
            f"objectives are {metrics}, but the population of scheduler {spec.scheduler.kind} follows one metric; "
            "write metric"
        )
    if spec.searcher.kind == "cmaes":
        raise ValueError(
            f"objectives are {metrics}, but searcher cmaes knows only one; write searcher: {{kind: tpe}}, gp or random"
        )


def _check_population(scheduler: str, searcher: Searcher, budget: Budget) -> None:
    if searcher.kind != "random":
        raise ValueError(
            f"searcher.kind is {searcher.kind}, but the population of scheduler {scheduler} is drawn at random; "
            "write searcher: {kind: random}"
        )
    if searcher.storage is not None:
        raise ValueError(
            f"searcher.storage is given, but the population of scheduler {scheduler} has no study; remove it"
        )
    if budget.trials < 2:
        raise ValueError(
            f"budget.trials is {budget.trials}, but scheduler {scheduler} needs a population of at least 2"
        )
