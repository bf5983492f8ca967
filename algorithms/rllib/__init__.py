# SPDX-License-Identifier: Apache-2.0
"""What edgegen's RLlib algorithms share: config, env runner, learner and algorithm over batched simulators in torch.

RLlib's own multi-agent path keeps one Python object per agent and step and is about a hundred times slower than the
simulators here. These classes play E copies with all agents in one forward pass and move tensors, while config,
weights, metrics, checkpoints, evaluation, Tune and restarts stay RLlib's.
"""
