# SPDX-License-Identifier: Apache-2.0
"""Prompts that the embedded models can paint, each on its own subject."""

from __future__ import annotations

import numpy as np

from edgegen.serve.zoo.loading import model_info
from edgegen.serve.zoo.subjects import subject_of


def prompt_for(model: str, rng: np.random.Generator) -> str:
    """Draw a prompt for a model: a caption of its subject, or the example of its card where it has none."""
    known = model_info(model)
    if known.subject is None:
        return known.example_prompt
    subject = subject_of(known.subject)
    return subject.caption(subject.sample(rng, 1)[0])
