# SPDX-License-Identifier: Apache-2.0
"""Three models with profiles, for emulated edges: small, middle and large."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgegen.serve.profile.model_profile import ModelProfile, QualityPoint, write_profile

MODELS = {"small": (2.0, 1.5, 0.1), "middle": (3.0, 2.5, 0.2), "large": (5.0, 5.0, 0.3)}
"""Size, GB; time to load, s; time of a step, s."""
STEPS, LEAST = 20, 5


def emulated_models(folder: Path, further_picture: float) -> dict[str, dict[str, Any]]:
    """The models of a service config; their profiles are written into a folder.

    A Gcycle is what a device of the profiles does in a second.
    """
    models = {}
    for name, (size_gb, load_s, step_s) in MODELS.items():
        profile = ModelProfile(
            model=name,
            device="cpu",
            machine="none",
            size_gb=size_gb,
            load_s=load_s,
            load_from_host_s=load_s / 4,
            step_s=step_s,
            fixed_s=step_s,
            further_picture=further_picture,
            quality=(QualityPoint(steps=LEAST, quality=0.5), QualityPoint(steps=STEPS, quality=1.0)),
            least_steps=LEAST,
            full_steps=STEPS,
        )
        write_profile(profile, folder / f"{name}.json")
        models[name] = {
            "cycles_per_step_gcycles": step_s,
            "sizes": ["64x64"],
            "default_steps": STEPS,
            "profile": str(folder / f"{name}.json"),
        }
    return models
