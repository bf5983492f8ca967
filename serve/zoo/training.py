# SPDX-License-Identifier: Apache-2.0
"""Training of an embedded model, from nothing or from another model to a diffusers folder.

    python -m edgegen.serve.zoo.training --out shapes-64 --seed 0
    python -m edgegen.serve.zoo.training --subject digits --out digits-64 --seed 0

Three stages, each kept in the work folder so that a stopped run goes on where it was: the autoencoder learns to paint
procedural pictures back, the latents of a large set of captioned pictures are cached, and the denoiser and the text
encoder learn together on that cache. Only training captions are drawn; held-out combinations are never seen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from edgegen.serve.zoo import networks
from edgegen.serve.zoo.autoencoder import cache_latents, polish_painter, tokenize, train_autoencoder
from edgegen.serve.zoo.averaging import fit_averaged
from edgegen.serve.zoo.beginning import Parts, build_parts
from edgegen.serve.zoo.recipe import RECIPES, Recipe
from edgegen.serve.zoo.shapes import SIDE
from edgegen.serve.zoo.subjects import subject_of
from edgegen.serve.zoo.weights import INFO_FILE, PINS, UnknownModelError, pinned_files


class TrainingError(RuntimeError):
    """A training run that cannot start."""


def sample_times(recipe: Recipe, rng: np.random.Generator) -> torch.Tensor:
    """Draw the noise levels of a batch: evenly over all, with a share of the batch among the highest.

    A thing covers so many latents that its place shows through all but the strongest noise. Only there does the
    denoiser have to read the place from the caption, so these levels need more than their even share.
    """
    strata = (np.arange(recipe.batch) + rng.random(recipe.batch)) / recipe.batch
    lifted = recipe.noisy_from + (1 - recipe.noisy_from) * rng.random(recipe.batch)
    levels = np.where(rng.random(recipe.batch) < recipe.noisy_share, lifted, strata)
    return torch.from_numpy((levels * networks.TIMESTEPS).astype(np.int64))


def train_denoiser(
    recipe: Recipe,
    parts: Parts,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    tokenizer: Any,
    work: Path,
    say: Callable[[str], None],
) -> None:
    """Train (or finish, or load) the denoiser and the text encoder together; they end with averaged weights."""
    denoiser, text_encoder = parts.denoiser, parts.text_encoder
    both = torch.nn.ModuleDict({"denoiser": denoiser, "text_encoder": text_encoder}).train()
    schedule, empty = networks.build_noise_schedule(), tokenize(tokenizer, [""])

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng([recipe.seed, 3, step])
        noise_source = torch.Generator().manual_seed(int(rng.integers(2**62)))
        batch = torch.from_numpy(rng.integers(len(latents), size=recipe.batch))
        clean, words = latents[batch], tokens[batch]
        unsaid = torch.from_numpy(rng.random(recipe.batch) < recipe.caption_dropout)
        words = torch.where(unsaid[:, None], empty, words)
        noise = torch.randn(clean.shape, generator=noise_source)
        times = sample_times(recipe, rng)
        noisy = schedule.add_noise(clean, noise, times)
        velocity = schedule.get_velocity(clean, noise, times)
        return F.mse_loss(denoiser(noisy, times, text_encoder(words).last_hidden_state).sample, velocity)

    fit_averaged(
        both,
        loss_of,
        steps=recipe.steps,
        rate=recipe.rate,
        decay=recipe.average_decay,
        path=work / "denoiser.pt",
        report=lambda step, recent: say(f"denoiser {step}/{recipe.steps}: loss {recent:.4f}"),
    )


def check_target(out: Path) -> None:
    """Refuse a target that cannot be written, or that holds something other than a pipeline, before any work."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrainingError(f"cannot write the model to {out}: {reason}; choose a writable --out folder") from error
    if out.exists() and not out.is_dir():
        raise TrainingError(f"cannot write the model to {out}: it is a file; choose a folder for --out")
    if out.is_dir() and any(out.iterdir()) and not (out / "model_index.json").exists():
        raise TrainingError(f"will not replace {out}: it holds files that are not a pipeline; choose another --out")


def write_pipeline(pipeline: Any, info: dict[str, Any], out: Path) -> None:
    """Write a pipeline folder whole or not at all: into a hidden neighbour first, then renamed.

    Args:
        pipeline: A diffusers pipeline.
        info: What the card says; the digests of all files are added.
        out: Target folder.
    """
    part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        pipeline.save_pretrained(part, safe_serialization=True)
        for path in part.rglob("*.json"):
            _forget_place(path)
        card = {**info, PINS: pinned_files(part)}
        (part / INFO_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        for path in (part, *part.rglob("*")):  # weights are written for their owner alone
            path.chmod(0o755 if path.is_dir() else 0o644)
        if out.exists():
            old = part.with_suffix(".old")
            out.replace(old)
            part.replace(out)
            shutil.rmtree(old)
        else:
            part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _forget_place(path: Path) -> None:
    """Take the folder that a part was loaded from out of its config: it means nothing elsewhere."""
    config = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(config, dict) and config.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def train(recipe: Recipe, out: Path, work: Path | None = None, say: Callable[[str], None] | None = None) -> Path:
    """Train a model and write it as a diffusers folder.

    Args:
        recipe: The numbers of the run.
        out: Target folder; an older pipeline there is replaced at the end.
        work: Folder of the checkpoints, `OUT.work` if not given. Finished steps found there are not repeated.
        say: Called with progress lines.

    Raises:
        TrainingError: The target cannot be written.
        UnknownModelError: There is no model to begin with.
        InputError: There is no such subject.
    """
    from diffusers import StableDiffusionPipeline

    check_target(out)
    say = say or (lambda _: None)
    work = work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    subject = subject_of(recipe.subject)
    tokenizer = networks.build_tokenizer(subject.words)
    parts = build_parts(recipe, tokenizer)
    train_autoencoder(recipe, subject, parts.autoencoder, work, say)
    polish_painter(recipe, subject, parts.autoencoder, work, say)
    latents, tokens = cache_latents(recipe, subject, parts.autoencoder, tokenizer, work, say)
    train_denoiser(recipe, parts, latents, tokens, tokenizer, work, say)
    pipeline = StableDiffusionPipeline(
        vae=parts.autoencoder,
        text_encoder=parts.text_encoder,
        tokenizer=tokenizer,
        unet=parts.denoiser,
        scheduler=networks.build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    info = {
        "name": out.name,
        "subject": subject.name,
        "native_size": SIDE,
        "default_steps": recipe.default_steps,
        "default_guidance": recipe.default_guidance,
        "example_prompt": subject.example,
        "training_cpu_seconds": round(sum(torch.load(path)["seconds"] for path in sorted(work.glob("*.pt")))),
        "recipe": asdict(recipe),
    }
    write_pipeline(pipeline, info, out)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgegen.serve.zoo.training", description="Train a model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the pipeline to")
    parser.add_argument("--work", type=Path, help="folder for checkpoints (default: OUT.work)")
    for field in fields(Recipe):
        flag = "--" + field.name.replace("_", "-")
        usual = ", ".join(f"{getattr(recipe, field.name)!r} for {name}" for name, recipe in RECIPES.items())
        allowed = tuple(RECIPES) if field.name == "subject" else None
        parser.add_argument(flag, type=type(field.default), choices=allowed, help=f"default {usual}")
    chosen = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    out, work, recipe = chosen.pop("out"), chosen.pop("work", None), RECIPES[chosen.get("subject", "shapes")]
    begun = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - begun:8.1f} s  {line}\n")
        sys.stdout.flush()

    try:
        train(replace(recipe, **chosen), out, work, say)
    except (TrainingError, UnknownModelError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    say(f"wrote {os.fspath(out)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
