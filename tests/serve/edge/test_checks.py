# SPDX-License-Identifier: Apache-2.0
"""Edges that can not hold what they are to hold are refused in one sentence, before anything starts."""

from __future__ import annotations

import pytest

from edgegen.envs.core.errors import InputError
from edgegen.serve.config import build_config
from edgegen.serve.edge.checks import check_edges

MODEL = {"cycles_per_step_gcycles": 0.1, "size_gb": 2.0}


def check(edge, **models):
    described = {"m": MODEL, "n": {**MODEL, "size_gb": 3.0}, **models}
    names = edge.get("models", ["m", "n"])
    config = build_config(
        {
            "models": {name: described[name] for name in names},
            "edges": [{"name": "edge-a", "models": names, **edge}],
        }
    )
    check_edges(config.edges, config.cards())


def test_what_fits_is_accepted():
    check({})
    check({"memory_gb": 3})
    check({"memory_gb": 5, "pinned": ["m", "n"]})


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        ({"memory_gb": 2.5}, "edge 'edge-a' has memory_gb 2.5, but the model 'n', which it may hold, takes 3 GB."),
        ({"memory_gb": 4, "pinned": ["m", "n"]}, "but its pinned models ('m', 'n') take 5 GB together."),
        ({"memory_gb": 4, "pinned": ["m"]}, "'n', which it may hold, takes 3 GB beside 2 GB that are pinned."),
        ({"engine": "emulated"}, "'edge-a' is emulated, but its model 'm' has no profile; measure one with"),
        ({"engine": "remote", "url": "http://x", "process": "edge-a"}, "process of 'edge-a' is 'edge-a', but that is"),
        ({"engine": "remote", "url": "ftp://x"}, "'ftp://x' is no URL of a service"),
        ({"engine": "remote", "url": "http://x", "api_key_env": "NO_SUCH_KEY"}, "api_key_env of 'edge-a' is NO_SUCH"),
        (
            {"memory_gb": 4, "models": ["x"]},
            "size_gb of 'x' is missing, and it has no profile; it is needed because edge 'edge-a' has memory_gb 4.",
        ),
    ],
)
def test_what_does_not_fit_is_refused(edge, message):
    with pytest.raises(InputError) as caught:
        check(edge, x={"cycles_per_step_gcycles": 0.1})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
