# SPDX-License-Identifier: Apache-2.0
"""Policies of a running service, compared: each is given the same sequences of requests, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgegen.envs.core.kinds import Values
from edgegen.envs.fleet.scenario import FleetScenario
from edgegen.platform.runs.comparison import Comparison, comparison_of
from edgegen.platform.runs.episode import Episode, Played
from edgegen.platform.runs.episodes import evaluation_seed
from edgegen.platform.runs.evaluation import Results

if TYPE_CHECKING:
    from edgegen.serve.load.sending import Answered
    from edgegen.serve.load.sequence import Painter


@dataclass(frozen=True)
class Entrant:
    """A policy that is to be compared live.

    Attributes:
        policy: Its name, as the service knows it.
        information: What it uses.
    """

    policy: str
    information: str


@dataclass(frozen=True)
class LoadTestRequest:
    """What is sent to which service.

    Attributes:
        url: The service.
        scenario: The service as a fleet; sequences are episodes of it.
        edges: Names of its sites, in order.
        models: Names of its models, in order.
        painter: Gives the prompts.
        sequences: How many sequences each policy gets.
        seed: The person's seed; the episodes are those of ``edgegen compare`` with it.
        cloud: The edge that is the cloud, if one is.
    """

    url: str
    scenario: FleetScenario
    edges: Sequence[str]
    models: Sequence[str]
    painter: Painter
    sequences: int
    seed: int
    cloud: str | None = None


@dataclass(frozen=True)
class LoadTest:
    """What came of it.

    Attributes:
        comparison: Policies on identical sequences.
        shown: The first sequence, as every policy served it.
        answers: What came back for the first sequence, by label.
        delays_s: Delays of the requests of all sequences, by label, s; infinite where there were no pictures.
    """

    comparison: Comparison
    shown: Episode
    answers: Mapping[str, Sequence[Answered]]
    delays_s: Mapping[str, NDArray[np.float64]]


def load_test(
    request: LoadTestRequest,
    entrants: Mapping[str, Entrant],
    reference: str,
    take_over: Callable[[str], None],
    on_sequence: Callable[[str, int], None] | None = None,
) -> LoadTest:
    """Let every policy serve the same sequences.

    The order of the policies turns from sequence to sequence, so that none always meets a warmer machine.

    Args:
        request: What is sent where.
        entrants: Policies by label.
        reference: Label of the policy that the others are compared with.
        take_over: Puts a policy in charge and returns when the service is idle.
        on_sequence: Called with label and number before a sequence is sent.

    Raises:
        InputError: If the service can not be reached.
    """
    from edgegen.serve.load.sending import send
    from edgegen.serve.load.sequence import sequence_of
    from edgegen.serve.load.served import record_of, results_of, values_of

    seed = evaluation_seed(request.seed)
    values: dict[str, list[Values]] = {label: [] for label in entrants}
    played: dict[str, Played] = {}
    answers: dict[str, Sequence[Answered]] = {}
    delays_s: dict[str, list[float]] = {label: [] for label in entrants}
    labels = list(entrants)
    for number in range(request.sequences):
        sequence = sequence_of(request.scenario, request.edges, request.models, request.painter, seed, number)
        for label in labels[number % len(labels) :] + labels[: number % len(labels)]:
            if on_sequence is not None:
                on_sequence(label, number)
            take_over(entrants[label].policy)
            answered = send(request.url, sequence)
            results = results_of(sequence, answered, request.cloud)
            values[label].append(values_of(sequence, results))
            delays_s[label] += [answer.delay_s if answer.edge else np.inf for answer in answered]
            if number == 0:
                record = record_of(sequence, results)
                played[label] = Played(label, entrants[label].information, record, values[label][0])
                answers[label] = answered
    comparison = comparison_of(
        {label: _results(request, label, own) for label, own in values.items()},
        {label: entrant.information for label, entrant in entrants.items()},
        reference,
    )
    shown = Episode(request.scenario, request.seed, 0, tuple(played[label] for label in labels))
    return LoadTest(comparison, shown, answers, {label: np.array(own) for label, own in delays_s.items()})


def _results(request: LoadTestRequest, label: str, values: Sequence[Values]) -> Results:
    together = {name: np.concatenate([one[name] for one in values]) for name in values[0]}
    return Results(
        policy=label,
        scenario=request.scenario,
        seed=request.seed,
        explore=False,
        decision_wall_s=float("nan"),
        values=together,
    )
