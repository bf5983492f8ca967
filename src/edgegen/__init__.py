# SPDX-License-Identifier: Apache-2.0
"""edgegen: multi-agent reinforcement learning for generative AI on unequal edge servers.

What a script or a notebook needs is here, and is loaded when it is asked for:

* :func:`load_world`, :func:`make_policy`, :func:`play`, :func:`compare` - honest comparisons on identical arrivals;
* :func:`train`, :func:`tune` - policies, learned and tuned;
* :func:`load_study` - what ``edgegen reproduce`` has measured, as pandas frames;
* :mod:`figures <edgegen.platform.figures.api>` - matplotlib figures of all that.

The rooms of the house are sub-packages, each a folder at the top of the repository:

* :mod:`edgegen.envs` - the simulated worlds: scenarios, batched simulators, PettingZoo facades.
* :mod:`edgegen.algorithms` - the deciders: simple rules, trained policies, RLlib algorithms.
* :mod:`edgegen.platform` - running things: the command line, training, comparison, tracking.
* :mod:`edgegen.serve` - the live service: scheduler and diffusion pipelines on Ray Serve.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from edgegen.envs.core.errors import InputError
    from edgegen.platform.api import compare, load_world, make_policy, play, train, tune
    from edgegen.platform.figures import api as figures
    from edgegen.platform.studies.exports import load_study

__all__ = ["InputError", "compare", "figures", "load_study", "load_world", "make_policy", "play", "train", "tune"]

_HOMES = {"InputError": "edgegen.envs.core.errors", "load_study": "edgegen.platform.studies.exports"}


def __getattr__(name: str) -> Any:
    """Load a part of the interface; torch and what is behind it are not imported before that."""
    if name == "__version__":
        from importlib.metadata import version

        return version("edgegen")
    if name not in __all__:
        raise AttributeError(f"module 'edgegen' has no attribute {name!r}")
    if name == "figures":
        found: Any = import_module("edgegen.platform.figures.api")
    else:
        found = getattr(import_module(_HOMES.get(name, "edgegen.platform.api")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Names of the interface."""
    return sorted({*globals(), *__all__})
