# SPDX-License-Identifier: Apache-2.0
"""A search for the constants of a rule on training episodes, which goes on where its files say it was.

Trial after trial a sampler of Optuna proposes constants, and the rule plays the same episodes of the training stream
with them. The best few and the defaults then play other training episodes, the final round, and the best of those is
kept: what won by the luck of its episodes does not win again. Evaluation episodes are never seen.

Every trial draws from a sampler of its own seed that is told all trials before, so a search that was interrupted goes
on as if it had not been.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgegen.algorithms.core.play import metered
from edgegen.algorithms.core.rulebook import rule_book
from edgegen.algorithms.core.tunable import Constants, Tunable, save_tuned
from edgegen.envs.core.errors import InputError, did_you_mean
from edgegen.envs.core.kinds import kind_of
from edgegen.envs.core.world import World, WorldScenario
from edgegen.platform.files import write_json
from edgegen.platform.runs.episodes import play_in_chunks
from edgegen.platform.studies.streams import training_arrivals_seed

TRIALS_FILE, FINAL_FILE, POLICY_FOLDER = "trials.json", "final.json", "policy"
FINALISTS = 5
"""Best trials that play other episodes, beside the defaults."""
_FINAL = 2  # times as many episodes
_TRIALS = 64  # about as many trials' worth of episodes does a budget buy, the final round included


@dataclass(frozen=True)
class TuneRequest:
    """What is to be tuned.

    Attributes:
        rule: Name of the rule.
        scenario: The world.
        trials: Sets of constants to try; the first is the defaults, others that are known to be good follow.
        episodes: Training episodes that each plays.
        seed: Of the training stream and of the proposals.
    """

    rule: str
    scenario: WorldScenario
    trials: int = 200
    episodes: int = 16
    seed: int = 0

    @property
    def tunable(self) -> Tunable:
        """The rule.

        Raises:
            InputError: If the kind of the world has no such rule, or it has no constants.
        """
        book = rule_book(self.scenario.kind)
        if self.rule in book.tunable:
            return book.tunable[self.rule]
        known = ", ".join(book.tunable) or "none"
        if self.rule in book.makers:
            raise InputError(f"The rule '{self.rule}' has no constants to tune; rules with constants are {known}.")
        raise InputError(
            f"Unknown rule '{self.rule}'; rules with constants for scenario '{self.scenario.name}' are {known}."
            f"{did_you_mean(self.rule, book.tunable)}"
        )


def tunable_rules(scenario: WorldScenario) -> list[str]:
    """Names of the rules with constants that can play a scenario."""
    book = rule_book(scenario.kind)
    return [name for name in book.tunable if book.plays(name, scenario)]


def within_budget(episodes: int) -> tuple[int, int]:
    """Divide the training episodes of a learner: trials, and episodes of each, so that a search plays no more of them.

    The final round is counted as if all of its constants differed. Fewer than three episodes are not enough for any
    search; it then plays three.
    """
    each = max(1, episodes // _TRIALS)
    whole = episodes // each
    # Of n trials the best few and the defaults are at most min(n, FINALISTS + 1), and play _FINAL times as long.
    most = FINALISTS + 1
    return (whole - _FINAL * most if whole >= (1 + _FINAL) * most else max(1, whole // (1 + _FINAL))), each


@dataclass(frozen=True)
class Trial:
    """Constants that were tried.

    Attributes:
        constants: By name.
        value: Mean of what decides; less is better.
        requests: Requests that were simulated.
    """

    constants: dict[str, float | str]
    value: float
    requests: int


class RuleSearch:
    """A search, as far as it is; every step is in its folder before the next begins.

    Args:
        request: What to tune.
        folder: Where its files are, or will be.

    Attributes:
        trials: All trials so far.
        finals: Constants that played a final round, those of a smaller budget included.

    Raises:
        InputError: If the rule can not be tuned, or a file is damaged.
    """

    def __init__(self, request: TuneRequest, folder: Path) -> None:
        self.request, self.folder, self.tunable = request, folder, request.tunable
        self.trials = _read_trials(folder / TRIALS_FILE)
        self.finals = _read_trials(folder / FINAL_FILE)
        self._world: World | None = None

    @property
    def over(self) -> bool:
        """Whether all trials and the final round are done."""
        return len(self.trials) >= self.request.trials and not self._to_play()

    @property
    def requests(self) -> int:
        """Requests that were simulated so far, in all trials and final rounds."""
        return sum(trial.requests for trial in (*self.trials, *self.finals))

    @property
    def episodes(self) -> int:
        """Training episodes that were played so far."""
        return self.request.episodes * (len(self.trials) + _FINAL * len(self.finals))

    @property
    def best(self) -> Trial:
        """What the final round was won by, once the search is over."""
        return min(self._finalists(), key=lambda trial: (trial.value, str(self.tunable.constants(**trial.constants))))

    @property
    def default(self) -> Trial:
        """The defaults in the final round, once the search is over."""
        defaults = self.tunable.constants().model_dump()
        return next(trial for trial in self._finalists() if trial.constants == defaults)

    def step(self) -> None:
        """Try the next constants, or let the next of the best play the final round."""
        if len(self.trials) < self.request.trials:
            number = len(self.trials)
            starts = self.tunable.constants.starts()
            constants = starts[number] if number < len(starts) else self._proposed(number)
            self.trials.append(self._played(constants, 0, self.request.episodes))
            write_json(self.folder / TRIALS_FILE, [vars(trial) for trial in self.trials])
            return
        constants = self.tunable.constants(**self._to_play()[0])
        self.finals.append(self._played(constants, self.request.episodes, _FINAL * self.request.episodes))
        write_json(self.folder / FINAL_FILE, [vars(trial) for trial in self.finals])

    def save(self) -> Path:
        """Write the policy folder of what was found, in place of an earlier one; returns where it is."""
        request, target = self.request, self.folder / POLICY_FOLDER
        tuning = {
            "trials": len(self.trials),
            "episodes": request.episodes,
            "seed": request.seed,
            "simulated_requests": self.requests,
            "value": self.best.value,
            "default_value": self.default.value,
        }
        shutil.rmtree(target, ignore_errors=True)
        constants = self.tunable.constants(**self.best.constants)
        made = self.tunable.make(request.scenario, constants, request.seed)
        save_tuned(target, request.rule, made, constants, request.scenario, tuning)
        return target

    def _candidates(self) -> list[dict[str, float | str]]:
        """Constants of the final round: the best trials and the defaults, each once."""
        ranked = sorted(self.trials, key=lambda trial: trial.value)[:FINALISTS]
        wanted = [*(trial.constants for trial in ranked), self.tunable.constants().model_dump()]
        return [one for n, one in enumerate(wanted) if one not in wanted[:n]]

    def _to_play(self) -> list[dict[str, float | str]]:
        """Candidates that have not yet played it."""
        played = [trial.constants for trial in self.finals]
        return [one for one in self._candidates() if one not in played]

    def _finalists(self) -> list[Trial]:
        """What the candidates achieved in the final round."""
        candidates = self._candidates()
        return [trial for trial in self.finals if trial.constants in candidates]

    def _proposed(self, number: int) -> Constants:
        """Constants that the sampler would try after all trials so far."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(np.random.SeedSequence((self.request.seed, number)).generate_state(1)[0])
        study = optuna.create_study(
            sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=12)
        )
        ranges = self.tunable.constants.ranges()
        space: dict[str, Any] = {
            name: optuna.distributions.CategoricalDistribution(r.options)
            if r.options
            else optuna.distributions.FloatDistribution(r.low, r.high, log=r.log)
            for name, r in ranges.items()
        }
        study.add_trials(
            [
                optuna.trial.create_trial(params=trial.constants, distributions=space, value=trial.value)
                for trial in self.trials
            ]
        )
        return self.tunable.constants(**study.ask(space).params)

    def _played(self, constants: Constants, first: int, episodes: int) -> Trial:
        """Let the rule play training episodes with some constants."""
        scenario, kind = self.request.scenario, kind_of(self.request.scenario)
        policy = self.tunable.make(scenario, constants, self.request.seed)
        policy.seed(self.request.seed)
        root = training_arrivals_seed(self.request.seed)

        def measured(begin: int, copies: int) -> dict[str, Any]:
            if self._world is None or self._world.copies != copies:
                self._world = kind.world(scenario, copies)
            self._world.reset(root, first + begin)  # the same episodes again and again: a world need not draw them anew
            return metered(self._world, policy).values()

        values = play_in_chunks(episodes, kind.entries(scenario), measured)
        counted = values.get(kind.counted)
        each = kind.constant(scenario).get(kind.counted, 0) * episodes
        requests = int(counted.sum()) if counted is not None else each
        return Trial(constants.model_dump(), float(values[kind.metric].mean()), requests)


def _read_trials(path: Path) -> list[Trial]:
    """Trials of a file; none where there is no file.

    Raises:
        InputError: If the file is damaged: what it held would be lost.
    """
    if not path.exists():
        return []
    try:
        return [Trial(**trial) for trial in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        raise InputError(f"'{path}' is damaged; remove it to begin anew.") from None
