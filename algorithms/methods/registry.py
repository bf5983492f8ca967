# SPDX-License-Identifier: Apache-2.0
"""What there is to train: methods by name, with their settings, worlds and what they are measured by.

A method is one entry in a module of its own. Those that come with the package are named in
:mod:`edgegen.algorithms.methods.known`; others are plugins (:mod:`edgegen.envs.core.plugins`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from edgegen.algorithms.core.trained import StoredPolicy, TrainedPolicy
from edgegen.algorithms.methods.known import METHODS
from edgegen.envs.core.errors import InputError, did_you_mean, from_validation
from edgegen.envs.core.kinds import Kind, Traits, kind_named
from edgegen.envs.core.plugins import plugged
from edgegen.envs.core.scenarios import build_scenario, load_scenario
from edgegen.envs.core.world import WorldScenario

if TYPE_CHECKING:
    from edgegen.algorithms.rllib.config import JointConfig
    from edgegen.algorithms.rllib.role import Learning


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method that can be trained.

    Attributes:
        name: How it is called.
        kind_name: Name of the kind of world it plays.
        presets: Its presets.
        settings: Model of its settings.
        headline: What of an episode's report tells how good it was; less is better.
        headline_label: That, for people, with its unit.
        rivals: Rules to compare it with first.
        config: Makes its RLlib config; imports RLlib.
        learning: Makes what learns in training, of a scenario and settings; imports RLlib when it is called.
        restore: Makes its policy for a scenario from a stored one and a seed.
        in_flight: Settings that population-based training may change under way.
        default_preset: The preset of those who name none.
        title: What people call it; its name if not given.
        start_episodes: From settings to the training episodes that it plays, at most, before it learns from any: those
            that its start is tuned on.
        judged: Headline and its label where the scenario's objective names terms; the same if not given.
        met: From settings as plain data to what training with them meets besides what the scenario says, by trait.
    """

    name: str
    kind_name: str
    presets: Mapping[str, Any]
    settings: type[BaseModel]
    headline: str
    headline_label: str
    rivals: tuple[str, ...]
    config: Callable[[], JointConfig]
    learning: Callable[[Any, Any], Learning]
    restore: Callable[[StoredPolicy, Any, int], TrainedPolicy]
    in_flight: tuple[str, ...] = ()
    default_preset: str = "improved"
    title: str = ""
    start_episodes: Callable[[Any], int] = lambda settings: 0
    judged: tuple[str, str] | None = None
    met: Callable[[Mapping[str, Any]], Traits] = lambda settings: {}

    def headline_in(self, scenario: WorldScenario) -> tuple[str, str]:
        """Return the headline in a scenario, and its label for people."""
        named = bool(getattr(scenario, "objective", ()))
        return self.judged if named and self.judged is not None else (self.headline, self.headline_label)

    @property
    def kind(self) -> Kind:
        """Kind of world it plays."""
        return kind_named(self.kind_name)

    @property
    def scenario(self) -> type[WorldScenario]:
        """Model of the scenarios it plays."""
        return self.kind.scenario

    @property
    def default_scenario(self) -> str:
        """What it trains on unless told otherwise."""
        return self.kind.default_scenario

    def make_settings(self, preset: str | None = None, overrides: Mapping[str, Any] | None = None) -> Any:
        """Return the settings of a preset, or their defaults, with some fields replaced.

        Raises:
            InputError: If the preset or a field is unknown, or a value is impossible.
        """
        title = self.title or self.name
        if preset is not None and preset not in self.presets:
            raise InputError(
                f"Unknown {title} preset '{preset}'; presets are {', '.join(self.presets)}."
                f"{did_you_mean(preset, self.presets)}"
            )
        chosen = {} if preset is None else self.presets[preset]
        try:
            return self.settings(**{**chosen, **(overrides or {})})
        except ValidationError as error:
            raise from_validation(error, f"{title} settings", self.settings.model_fields) from None

    def load_scenario(self, name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Any:
        """Load a scenario that it plays; see :func:`edgegen.envs.core.scenarios.load_scenario`."""
        return load_scenario(name_or_path, overrides, self.scenario)

    def build_scenario(self, data: dict[str, Any]) -> Any:
        """Validate plain data as a scenario that it plays."""
        return build_scenario(data, self.scenario)


def register(method: Method) -> Method:
    """Add a method; registering the same one again changes nothing.

    Raises:
        InputError: If there is another method of this name.
    """
    return METHODS.register(method.name, method)


def adopt(plugin: Any, reference: str) -> str | None:
    """Register a plugin if it is a method; returns its name, or None if it is something else.

    Raises:
        InputError: If its kind of world is unknown.
    """
    if not isinstance(plugin, Method):
        return None
    kind_named(plugin.kind_name, f"The kind_name of the method '{reference}'")
    return register(plugin).name


def methods() -> dict[str, Method]:
    """Return all methods by name, those of the package first.

    Raises:
        InputError: If a plugin can not be used.
    """
    return METHODS.all()


def find_method(name: str) -> Method:
    """Return a method by name, or by a reference to a plugin.

    Raises:
        InputError: If there is none of that name, or a plugin can not be used.
    """
    name = plugged(name)
    found = METHODS.get(name)
    if found is None:
        known = METHODS.names()
        raise InputError(f"Unknown algorithm '{name}'; algorithms are {', '.join(known)}.{did_you_mean(name, known)}")
    return found


def methods_for(kind: str) -> list[Method]:
    """Return the methods that play a kind of world."""
    return [method for method in methods().values() if method.kind_name == kind]


def headline_of(kind: str, scenario: WorldScenario | None = None) -> str:
    """What learning curves of a kind of world are called in records, whichever method learned.

    Args:
        kind: Name of the kind.
        scenario: The world, whose objective may name terms.

    Raises:
        InputError: If no method plays it.
    """
    for method in methods_for(kind):
        return method.headline if scenario is None else method.headline_in(scenario)[0]
    raise InputError(f"No method plays worlds of the kind '{kind}'.")
