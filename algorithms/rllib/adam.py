# SPDX-License-Identifier: Apache-2.0
"""Adam with the same numbers as torch's, and nothing else around them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def _plain(name: str) -> Any:
    """A method of torch's optimizers, without the wrapper that imports torch's compiler when it is first called."""
    return getattr(torch.optim.Optimizer, name).__wrapped__


class Adam(torch.optim.Adam):
    """torch's Adam for parameters on one device that all get a gradient at every step.

    The arithmetic is that of ``foreach=True``, in the same order, so that weights are the same bit for bit. What is
    left out costs as much as small networks themselves: torch imports its compiler at the first step, which takes a
    second, and sorts tensors by device and type at every one.

    Args:
        parameters: What is optimized, of one type on one device.
        lr: Step size; :attr:`param_groups` holds it from then on.
    """

    add_param_group = _plain("add_param_group")
    state_dict = _plain("state_dict")
    load_state_dict = _plain("load_state_dict")
    zero_grad = _plain("zero_grad")

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(list(parameters), lr=lr, foreach=True)

    @torch.no_grad()
    def advance(self, gradients: Iterable[Tensor]) -> None:
        """Step.

        Args:
            gradients: Of every parameter, in order.
        """
        (group,) = self.param_groups
        parameters, given = group["params"], list(gradients)
        states = [self.state[parameter] or self._begun(parameter) for parameter in parameters]
        means = [state["exp_avg"] for state in states]
        squares = [state["exp_avg_sq"] for state in states]
        beta1, beta2 = group["betas"]
        for state in states:
            state["step"] += 1
        step = float(states[0]["step"])  # all have taken as many
        torch._foreach_lerp_(means, given, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, given, given, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, (1 - beta2**step) ** 0.5)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(parameters, means, roots, -(group["lr"] / (1 - beta1**step)))

    def _begun(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        state["step"] = torch.tensor(0.0)
        state["exp_avg"] = torch.zeros_like(parameter)
        state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state
