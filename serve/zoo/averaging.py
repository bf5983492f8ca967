# SPDX-License-Identifier: Apache-2.0
"""Training that ends with a running average of the weights, and goes on where a checkpoint stopped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from edgegen.serve.zoo.recipe import SAVE_EVERY, cosine_rate, keep, set_rate


def fit_averaged(
    model: torch.nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    *,
    steps: int,
    rate: float,
    decay: float,
    path: Path,
    report: Callable[[int, float], Any],
) -> None:
    """Train a model; it ends with averaged weights, ready to be used.

    Args:
        model: What is trained, in place.
        loss_of: From the number of a step to its loss; all that chance brings follows from the number.
        steps: Number of steps.
        rate: Highest learning rate.
        decay: Decay of the running average.
        path: Checkpoint; read if it is there.
        report: Is told the step and the recent loss, every hundred steps.
    """
    parameters = list(model.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    start, spent, recent = 0, 0.0, 1.0
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, start, spent = state["average"], state["step"], state["seconds"]
    clock = time.process_time()
    for step in range(start, steps):
        set_rate(optimizer, rate * cosine_rate(step, steps))
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            share = 1 - min(decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, list[torch.Tensor](parameters), share)
        recent += (loss.item() - recent) * 0.02
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            seconds = spent + time.process_time() - clock
            keep({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": average,
                  "step": step + 1, "seconds": seconds}, path)  # fmt: skip
        if step % 100 == 0:
            report(step, recent)
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    model.eval()
