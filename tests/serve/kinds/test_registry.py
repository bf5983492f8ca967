# SPDX-License-Identifier: Apache-2.0
"""How kinds of worlds are served: the one that is, those that can not be, and services as scenarios."""

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.serve.config import load_config
from edgegen.serve.kinds import registry


def test_a_kind_whose_worlds_can_not_be_served_is_refused_in_one_sentence(monkeypatch):
    assert registry.served_kinds() == ["offloading", "provisioning", "fleet"]
    monkeypatch.delitem(registry.SERVED.shipped, "provisioning")
    monkeypatch.delitem(registry.SERVED.entries, "provisioning", raising=False)
    with pytest.raises(InputError, match=r"^Worlds of the kind provisioning can not be served yet\.$"):
        registry.served("provisioning")
    with pytest.raises(InputError, match=r"^The kind is 'moon', but must be offloading or "):
        registry.served("moon")
    with pytest.raises(InputError, match=r"'kind'.* worlds of the kind provisioning can not be served yet\.$"):
        load_config("demo", {"kind": "provisioning"})
    assert registry.served_kinds() == ["offloading", "fleet"]


def test_the_service_becomes_a_world_to_train_in():
    service = load_config("demo")
    scenario = registry.training_scenario(service)
    assert scenario.servers == len(service.edges)
    assert scenario.slot_s == service.slot_s
    assert 0.8 < scenario.load <= 1.05  # long queues have to be seen in training
    slowdowns = [edge.slowdown for edge in service.edges]
    products = [speed * slowdown for speed, slowdown in zip(scenario.capacity_gcycles_s, slowdowns, strict=True)]
    assert products == pytest.approx([products[0]] * len(products))


def test_a_kind_that_says_nothing_of_training_trains_in_the_scenario_that_stands_for_the_service(monkeypatch):
    config = load_config("demo")
    plain = registry.Served(registry.served(config.kind).world, lambda config, capacities: (config.name, capacities))
    monkeypatch.setitem(registry.SERVED.entries, "offloading", plain)
    assert registry.training_scenario(config) == ("demo", (1.0, 0.5, 0.25))
    assert registry.scenario_of(config, {"edge-b": 3.0}) == ("demo", (1.0, 3.0, 0.25))
