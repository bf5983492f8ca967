"""edgegen: multi-agent reinforcement learning for generative AI on unequal edge servers.

The rooms of the house are sub-packages, each a folder at the top of the repository:

* :mod:`edgegen.envs` - the simulated world: scenarios, batched simulators, PettingZoo facades.
* :mod:`edgegen.algorithms` - the deciders: simple rules, trained policies, RLlib algorithms.
* :mod:`edgegen.platform` - running things: the command line, training, comparison, tracking.
* :mod:`edgegen.serve` - the live service: scheduler and diffusion pipelines on Ray Serve.
"""

from importlib.metadata import version

__version__ = version("edgegen")
