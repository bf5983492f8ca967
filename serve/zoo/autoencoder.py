# SPDX-License-Identifier: Apache-2.0
"""Training of the autoencoder between pictures and latents, and the cache of latents that the denoiser learns from."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from edgegen.serve.zoo import networks
from edgegen.serve.zoo.recipe import SAVE_EVERY, Recipe, cosine_rate, keep, set_rate
from edgegen.serve.zoo.shapes import BACKGROUND, SIDE
from edgegen.serve.zoo.subjects import Subject

CROP = SIDE // 2


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


def disturb(latents: torch.Tensor, most: float) -> torch.Tensor:
    """Add noise of up to `most` spreads, so that the painter forgives the small errors that a denoiser leaves."""
    spread = latents.detach().std((0, 2, 3), keepdim=True)
    return latents + most * torch.rand(len(latents), 1, 1, 1) * spread * torch.randn_like(latents)


def unlikeness(painted: torch.Tensor, target: torch.Tensor, emphasis: float = 1.0) -> torch.Tensor:
    """Return how far painted pictures are from their targets; pixels in and near things count `emphasis` times."""
    ground = torch.tensor(BACKGROUND)[:, None, None] / 127.5 - 1
    near = F.max_pool2d((target - ground).abs().amax(1, keepdim=True), 5, stride=1, padding=2) > 0.05
    miss = (painted - target).abs() + (painted - target).square()
    return (miss * torch.where(near, emphasis, 1.0)).mean()


def train_autoencoder(recipe: Recipe, subject: Subject, model: Any, work: Path, say: Callable[[str], None]) -> Any:
    """Train (or load) the autoencoder: on crops around things, then on whole pictures with noisy latents."""
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
        pictures = subject.draw(subject.sample(rng, count), rng)
        target = to_tensor(pictures if whole else crop_to_things(pictures, rng))
        if whole:
            pace = cosine_rate(step - recipe.crop_steps, recipe.full_steps)
        else:
            pace = cosine_rate(step, recipe.crop_steps * 15 // 13)
        set_rate(optimizer, recipe.autoencoder_rate * pace)
        posterior = model.encode(target).latent_dist
        latents = posterior.sample()
        if whole:
            latents = disturb(latents, recipe.latent_noise)
        painted = model.decode(latents).sample
        miss = unlikeness(painted, target)
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        loss = miss + recipe.divergence_weight * divergence
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == total:
            seconds = spent + time.process_time() - clock
            keep({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                  "seconds": seconds}, path)  # fmt: skip
        if step % 100 == 0:
            say(f"autoencoder {step}/{total}: unlikeness {miss.item():.4f}, divergence {divergence.item():.2f}")
    return model.eval()


def polish_painter(recipe: Recipe, subject: Subject, model: Any, work: Path, say: Callable[[str], None]) -> None:
    """Train the painting half of the autoencoder further, on whole pictures, while the latents stay as they are."""
    painter = torch.nn.ModuleList([model.post_quant_conv, model.decoder])
    optimizer = torch.optim.AdamW(painter.parameters(), lr=recipe.autoencoder_rate, weight_decay=0.0)
    start, spent, path = 0, 0.0, work / "painter.pt"
    if path.exists():
        state = torch.load(path)
        painter.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start, spent = state["step"], state["seconds"]
    clock = time.process_time()
    for step in range(start, recipe.polish_steps):
        rng = np.random.default_rng([recipe.seed, 5, step])
        torch.manual_seed(int(rng.integers(2**62)))
        target = to_tensor(subject.draw(subject.sample(rng, recipe.full_batch), rng))
        set_rate(optimizer, recipe.autoencoder_rate * cosine_rate(step, recipe.polish_steps))
        with torch.no_grad():
            latents = disturb(model.encode(target).latent_dist.mean, recipe.latent_noise)
        loss = unlikeness(model.decode(latents).sample, target, recipe.polish_emphasis)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(painter.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == recipe.polish_steps:
            seconds = spent + time.process_time() - clock
            keep({"model": painter.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                  "seconds": seconds}, path)  # fmt: skip
        if step % 100 == 0:
            say(f"painter {step}/{recipe.polish_steps}: unlikeness {loss.item():.4f}")


def cache_latents(
    recipe: Recipe, subject: Subject, autoencoder: Any, tokenizer: Any, work: Path, say: Callable[[str], None]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw and encode the captioned pictures once, and scale the latents to mean 0 and spread 1 per channel.

    The scaling is folded into `autoencoder` itself, so the finished pipeline needs no other constant.

    Returns:
        Latents `[n, channels, 8, 8]` and caption tokens `[n, MAX_TOKENS]`.
    """
    path = work / "latents.pt"
    if not path.exists():
        clock, latents, tokens, chunk = time.process_time(), [], [], min(500, recipe.pictures)
        for part in range(-(-recipe.pictures // chunk)):
            rng = np.random.default_rng([recipe.seed, 2, part])
            facts = subject.sample(rng, chunk, pairs=recipe.pairs, open_facts=recipe.open_facts)
            texts = [subject.caption(fact) for fact in facts]
            texts = [text.replace("centre", "center") if rng.random() < 0.5 else text for text in texts]
            tokens.append(tokenize(tokenizer, texts))
            with torch.no_grad():
                latents.append(autoencoder.encode(to_tensor(subject.draw(facts, rng))).latent_dist.mean)
            if part % 20 == 0:
                say(f"pictures {part * chunk}/{recipe.pictures}")
        seconds = time.process_time() - clock
        keep({"latents": torch.cat(latents), "tokens": torch.cat(tokens), "seconds": seconds}, path)
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
