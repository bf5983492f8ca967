"""Training of the embedded model, from nothing to a diffusers folder.

    python -m edgegen.serve.zoo.training --out my-model --seed 0

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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from edgegen.serve.zoo import networks
from edgegen.serve.zoo.shapes import BACKGROUND, SIDE, caption, draw, sample_scenes

CROP = SIDE // 2
SAVE_EVERY = 500
INFO_FILE = "edgegen.json"


class TrainingError(RuntimeError):
    """A training run that cannot start."""


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes a training run."""

    seed: int = 0
    threads: int = 1
    crop_steps: int = 2500
    crop_batch: int = 32
    full_steps: int = 1000
    full_batch: int = 16
    latent_noise: float = 0.2
    autoencoder_rate: float = 2e-3
    divergence_weight: float = 2e-4
    pictures: int = 48_000
    pairs: float = 0.45
    open_facts: float = 0.1
    steps: int = 10_000
    batch: int = 32
    rate: float = 1.2e-3
    caption_dropout: float = 0.1
    average_decay: float = 0.999
    default_steps: int = 20
    default_guidance: float = 3.0


def to_tensor(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Turn RGB pictures `[n, h, w, 3]` into the range and layout of the autoencoder."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def crop_to_things(pictures: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Cut a window of half the side near a random painted pixel out of every picture."""
    painted = (pictures != np.array(BACKGROUND, dtype=np.uint8)).any(axis=-1).reshape(len(pictures), -1)
    pixel = (painted * rng.random(painted.shape, dtype=np.float32)).argmax(axis=1)
    jitter = rng.integers(-CROP // 4, CROP // 4 + 1, (2, len(pictures))) - CROP // 2
    top, left = np.clip(np.stack([pixel // SIDE, pixel % SIDE]) + jitter, 0, SIDE - CROP)
    span = np.arange(CROP)
    rows, columns = top[:, None, None] + span[None, :, None], left[:, None, None] + span[None, None, :]
    windows: NDArray[np.uint8] = pictures[np.arange(len(pictures))[:, None, None], rows, columns]
    return windows


def cosine_rate(step: int, steps: int, warm_up: int = 100) -> float:
    """Return the share of the full learning rate at a step: linear warm-up, then cosine decay towards zero."""
    return float(min(1.0, (step + 1) / warm_up) * 0.5 * (1 + np.cos(np.pi * step / max(steps, 1))))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def keep(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that a stop in the middle leaves the old one whole."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def train_autoencoder(recipe: Recipe, work: Path, say: Callable[[str], None]) -> Any:
    """Train (or finish, or load) the autoencoder: first on crops around things, then on whole pictures with noisy latents."""
    torch.manual_seed(recipe.seed)
    model = networks.build_autoencoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.autoencoder_rate, weight_decay=0.0)
    total, start, spent, path = recipe.crop_steps + recipe.full_steps, 0, 0.0, work / "autoencoder.pt"
    if path.exists():
        state = torch.load(path)
        model.load_state_dict(state["model"])
        start, spent = state["step"], state["seconds"]
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
    clock = time.process_time()
    for step in range(start, total):
        rng = np.random.default_rng([recipe.seed, 1, step])
        torch.manual_seed(int(rng.integers(2**62)))
        whole = step >= recipe.crop_steps
        count = recipe.full_batch if whole else recipe.crop_batch
        pictures = draw(sample_scenes(rng, count), rng)
        target = to_tensor(pictures if whole else crop_to_things(pictures, rng))
        if whole:
            pace = 0.5 * cosine_rate(step - recipe.crop_steps, recipe.full_steps)
        else:
            pace = cosine_rate(step, recipe.crop_steps * 6 // 5)
        set_rate(optimizer, recipe.autoencoder_rate * pace)
        posterior = model.encode(target).latent_dist
        latents = posterior.sample()
        if whole:  # the painter must forgive the small errors that a denoiser leaves
            spread = latents.detach().std((0, 2, 3), keepdim=True)
            latents = latents + recipe.latent_noise * torch.rand(count, 1, 1, 1) * spread * torch.randn_like(latents)
        painted = model.decode(latents).sample
        fidelity = F.l1_loss(painted, target) + F.mse_loss(painted, target)
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        loss = fidelity + recipe.divergence_weight * divergence
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == total:
            seconds = spent + time.process_time() - clock
            keep({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                  "seconds": seconds}, path)  # fmt: skip
        if step % 100 == 0:
            say(f"autoencoder {step}/{total}: fidelity {fidelity.item():.4f}, divergence {divergence.item():.2f}")
    return model.eval()


def cache_latents(
    recipe: Recipe, autoencoder: Any, tokenizer: Any, work: Path, say: Callable[[str], None]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw and encode the captioned pictures once, and scale the latents to mean 0 and spread 1 per channel.

    The scaling is folded into `autoencoder` itself, so the finished pipeline needs no other constant.

    Returns:
        Latents `[n, channels, 8, 8]` and caption tokens `[n, MAX_TOKENS]`.
    """
    path = work / "latents.pt"
    if not path.exists():
        latents, tokens, chunk = [], [], min(500, recipe.pictures)
        for part in range(-(-recipe.pictures // chunk)):
            rng = np.random.default_rng([recipe.seed, 2, part])
            scenes = sample_scenes(rng, chunk, pairs=recipe.pairs, open_facts=recipe.open_facts)
            texts = [caption(scene) for scene in scenes]
            texts = [text.replace("centre", "center") if rng.random() < 0.5 else text for text in texts]
            tokens.append(tokenize(tokenizer, texts))
            with torch.no_grad():
                latents.append(autoencoder.encode(to_tensor(draw(scenes, rng))).latent_dist.mean)
            if part % 20 == 0:
                say(f"pictures {part * chunk}/{recipe.pictures}")
        keep({"latents": torch.cat(latents), "tokens": torch.cat(tokens)}, path)
    state = torch.load(path)
    latents, tokens = state["latents"], state["tokens"]
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    with torch.no_grad():
        inward, outward, channels = autoencoder.quant_conv, autoencoder.post_quant_conv, len(mean)
        outward.bias += outward.weight[:, :, 0, 0] @ mean
        outward.weight *= spread[None, :, None, None]
        inward.bias[:channels] -= mean
        inward.bias[:channels] /= spread
        inward.weight[:channels] /= spread[:, None, None, None]
        inward.bias[channels:] -= 2 * spread.log()
    return (latents - mean[:, None, None]) / spread[:, None, None], tokens


def tokenize(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """Return the padded token numbers of captions, as the pipeline will feed them."""
    tokens = tokenizer(texts, padding="max_length", max_length=networks.MAX_TOKENS, truncation=True)
    return torch.tensor(tokens.input_ids)


def train_denoiser(
    recipe: Recipe, latents: torch.Tensor, tokens: torch.Tensor, tokenizer: Any, work: Path, say: Callable[[str], None]
) -> tuple[Any, Any]:
    """Train (or finish, or load) the denoiser and the text encoder together; return both with averaged weights."""
    torch.manual_seed(recipe.seed + 1)
    denoiser, text_encoder = networks.build_denoiser(), networks.build_text_encoder(tokenizer)
    both = torch.nn.ModuleDict({"denoiser": denoiser, "text_encoder": text_encoder}).train()
    parameters = list(both.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.rate, betas=(0.9, 0.99), weight_decay=0.0)
    scheduler, empty = networks.build_scheduler(), tokenize(tokenizer, [""])
    start, spent, path, recent = 0, 0.0, work / "denoiser.pt", 1.0
    if path.exists():
        state = torch.load(path)
        both.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, start, spent = state["average"], state["step"], state["seconds"]
    clock = time.process_time()
    for step in range(start, recipe.steps):
        rng = np.random.default_rng([recipe.seed, 3, step])
        noise_source = torch.Generator().manual_seed(int(rng.integers(2**62)))
        batch = torch.from_numpy(rng.integers(len(latents), size=recipe.batch))
        clean, words = latents[batch], tokens[batch]
        unsaid = torch.from_numpy(rng.random(recipe.batch) < recipe.caption_dropout)
        words = torch.where(unsaid[:, None], empty, words)
        noise = torch.randn(clean.shape, generator=noise_source)
        strata = (np.arange(recipe.batch) + rng.random(recipe.batch)) / recipe.batch
        times = torch.from_numpy((strata * networks.TIMESTEPS).astype(np.int64))
        noisy = scheduler.add_noise(clean, noise, times)
        velocity = scheduler.get_velocity(clean, noise, times)
        set_rate(optimizer, recipe.rate * cosine_rate(step, recipe.steps))
        loss = F.mse_loss(denoiser(noisy, times, text_encoder(words).last_hidden_state).sample, velocity)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            share = 1 - min(recipe.average_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(average, list[torch.Tensor](parameters), share)
        recent += (loss.item() - recent) * 0.02
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.steps:
            seconds = spent + time.process_time() - clock
            keep({"model": both.state_dict(), "optimizer": optimizer.state_dict(), "average": average,
                  "step": step + 1, "seconds": seconds}, path)  # fmt: skip
        if step % 100 == 0:
            say(f"denoiser {step}/{recipe.steps}: loss {recent:.4f}")
    with torch.no_grad():
        for parameter, mean in zip(parameters, average, strict=True):
            parameter.copy_(mean)
    both.eval()
    return denoiser, text_encoder


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
    """Write a pipeline folder whole or not at all: into a hidden neighbour first, then renamed."""
    part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        pipeline.save_pretrained(part, safe_serialization=True)
        (part / INFO_FILE).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
        part.chmod(0o755)
        if out.exists():
            old = part.with_suffix(".old")
            out.replace(old)
            part.replace(out)
            shutil.rmtree(old)
        else:
            part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def train(recipe: Recipe, out: Path, work: Path | None = None, say: Callable[[str], None] | None = None) -> Path:
    """Train a model and write it as a diffusers folder.

    Args:
        recipe: The numbers of the run.
        out: Target folder; an older pipeline there is replaced at the end.
        work: Folder of the checkpoints, `OUT.work` if not given. Finished steps found there are not repeated.
        say: Called with progress lines.

    Raises:
        TrainingError: The target cannot be written.
    """
    from diffusers import StableDiffusionPipeline

    check_target(out)
    say = say or (lambda _: None)
    work = work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    tokenizer = networks.build_tokenizer()
    autoencoder = train_autoencoder(recipe, work, say)
    latents, tokens = cache_latents(recipe, autoencoder, tokenizer, work, say)
    denoiser, text_encoder = train_denoiser(recipe, latents, tokens, tokenizer, work, say)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=denoiser,
        scheduler=networks.build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    info = {
        "name": out.name,
        "native_size": SIDE,
        "default_steps": recipe.default_steps,
        "default_guidance": recipe.default_guidance,
        "example_prompt": "a large red circle in the top left",
        "recipe": asdict(recipe),
    }
    write_pipeline(pipeline, info, out)
    return out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edgegen.serve.zoo.training", description="Train a shapes model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the pipeline to")
    parser.add_argument("--work", type=Path, help="folder for checkpoints (default: OUT.work)")
    for field in fields(Recipe):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=type(field.default), default=field.default, help=f"default {field.default}")
    chosen = vars(parser.parse_args(arguments))
    out, work = chosen.pop("out"), chosen.pop("work")
    begun = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - begun:8.1f} s  {line}\n")
        sys.stdout.flush()

    try:
        train(Recipe(**chosen), out, work, say)
    except TrainingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    say(f"wrote {os.fspath(out)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
