# SPDX-License-Identifier: Apache-2.0
"""A client for demonstrations: bursts of requests, and a contact sheet of what came back."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from edgegen.envs.core.errors import InputError, first_line
from edgegen.envs.core.seeds import MAX_SEED
from edgegen.serve.connection import Connection, connect
from edgegen.serve.http.errors import short
from edgegen.serve.zoo.shapes import caption, sample_scenes

KEY_VARIABLE = "EDGEGEN_API_KEY"
"""Environment variable with the API key; on a command line others could see it."""
TILE = 160
"""Side of a picture on the contact sheet, pixels."""
MARGIN = 10
LINE = 17
CAPTION_LINES = 3
MOST_TRIES = 20
"""How often a request is sent again when the service says when to come back: its queues are full, or it restarts."""
MOST_WAIT_S = 60.0
"""Longest wait between two tries, s."""
MOST_OF_ANSWER = 200
"""Characters of an answer in a message."""


@dataclass(frozen=True)
class Result:
    """One picture that came back.

    Attributes:
        prompt: What was asked for.
        server: The edge that made it.
        home: The edge the request arrived at.
        queue_s: Time it waited on the edge, s.
        generation_s: Time of generation, s.
        decision_s: Time of the scheduling decision, s.
        total_s: Time in the gateway, s.
        round_trip_s: Time seen by the client, s, of the try that succeeded.
        steps: Denoising steps.
        seed: Seed of the picture.
        fallback: Why the policy's own choice was not taken, or None.
        png: The picture.
        model: The model that painted it; not shown if empty.
        load_s: Time that its edge took to load that, s.
    """

    prompt: str
    server: str
    home: str
    queue_s: float
    generation_s: float
    decision_s: float
    total_s: float
    round_trip_s: float
    steps: int
    seed: int
    fallback: str | None
    png: bytes
    model: str = ""
    load_s: float = 0.0


def demo_prompts(n: int, seed: int = 0) -> list[str]:
    """Draw prompts from the caption grammar of the embedded model."""
    return [caption(scene) for scene in sample_scenes(np.random.default_rng(seed), n)]


def generate_burst(
    base_url: str,
    prompts: Sequence[str],
    *,
    model: str | None = None,
    steps: int | None = None,
    concurrency: int = 8,
    seed: int | None = None,
    timeout_s: float = 600.0,
) -> list[Result]:
    """Send all prompts, at most ``concurrency`` at a time, and return the results in the order of the prompts.

    Args:
        base_url: The service, with or without ``/v1`` behind it.
        prompts: What to paint, one picture each.
        model: Model; the service's first if None.
        steps: Denoising steps; the model's default if None.
        concurrency: Most requests under way.
        seed: Seed of the first picture, counting up; the service's choice if None.
        timeout_s: Longest time to an answer, s.

    Raises:
        InputError: If the service can not be reached or refuses a request.
    """
    fields = {"model": model, "num_inference_steps": steps}
    bodies = [
        {"prompt": prompt, **{key: value for key, value in fields.items() if value is not None}}
        | ({} if seed is None else {"seed": (seed + index) % (MAX_SEED + 1)})
        for index, prompt in enumerate(prompts)
    ]
    return asyncio.run(_burst(base_url, bodies, concurrency, timeout_s))


async def _burst(base_url: str, bodies: list[dict[str, Any]], concurrency: int, timeout_s: float) -> list[Result]:
    places = asyncio.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=concurrency)
    connection = connect(base_url)
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with connection.async_client(timeout=timeout_s, limits=limits, headers=headers) as client:

        async def one(body: dict[str, Any]) -> Result:
            async with places:
                return await _generate(client, connection, body)

        return list(await asyncio.gather(*(one(body) for body in bodies)))


async def _generate(client: httpx.AsyncClient, connection: Connection, body: dict[str, Any]) -> Result:
    for _ in range(MOST_TRIES):
        sent = time.perf_counter()
        try:
            response = await client.post("/v1/images/generations", json=body)
        except (httpx.HTTPError, UnicodeError) as error:  # the latter of names that can not be looked up
            reason = first_line(error)
            raise InputError(f"The service at {connection.where()} can not be reached: {reason}.") from None
        if response.status_code != 429 and not (response.status_code == 503 and "Retry-After" in response.headers):
            break
        await asyncio.sleep(_wait_s(response))
    round_trip_s = time.perf_counter() - sent
    if response.status_code != 200:
        raise InputError(f"The service at {connection.where()} answered {response.status_code}: {_message(response)}")
    try:
        return _result(body["prompt"], response.json(), round_trip_s)
    except (ValueError, KeyError, TypeError, IndexError):
        raise InputError(f"What answers at {connection.where()} is no service of edgegen.") from None


def _wait_s(response: httpx.Response) -> float:
    """How long to wait before the next try, s; proxies may say a date instead, which is not worth reading."""
    try:
        return min(max(float(response.headers.get("Retry-After", "1")), 0.0), MOST_WAIT_S)
    except ValueError:
        return 1.0


def _result(prompt: str, answer: Any, round_trip_s: float) -> Result:
    served = answer["edgegen"]
    png = base64.b64decode(answer["data"][0]["b64_json"])
    _check_picture(png)
    return Result(
        prompt=prompt,
        server=served["server"],
        home=served["home"],
        queue_s=float(served["queue_s"]),
        generation_s=float(served["generation_s"]),
        decision_s=float(served["decision_s"]),
        total_s=float(served["total_s"]),
        round_trip_s=round_trip_s,
        steps=served["steps"],
        seed=served["seed"],
        fallback=served["fallback"],
        png=png,
    )


def _check_picture(png: bytes) -> None:
    """Refuse what is no picture.

    Raises:
        ValueError: If it is none.
    """
    try:
        with Image.open(io.BytesIO(png)) as picture:
            picture.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error)) from None


def _message(response: httpx.Response) -> str:
    """What an error answer says, as one line that ends like a sentence."""
    try:
        text = str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = short(" ".join(response.text.split()), MOST_OF_ANSWER) or response.reason_phrase
    return text if text.endswith((".", "?")) else f"{text}."


def contact_sheet(results: Sequence[Result], path: str | Path, columns: int | None = None) -> Path:
    """Write all pictures of a burst on one PNG, each with its prompt, server and times.

    Args:
        results: The pictures.
        path: Where to.
        columns: Pictures per row; nearly square if None.

    Raises:
        ValueError: If there is nothing to show.
    """
    if not results:
        raise ValueError("there are no results to show")
    columns = min(columns or max(1, round((1.6 * len(results)) ** 0.5)), len(results))
    rows = -(-len(results) // columns)
    cell_width, cell_height = TILE + 2 * MARGIN, TILE + 2 * MARGIN + (CAPTION_LINES + 2) * LINE
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    text_font, small_font = ImageFont.load_default(13), ImageFont.load_default(12)
    for index, result in enumerate(results):
        left = index % columns * cell_width + MARGIN
        top = index // columns * cell_height + MARGIN
        sheet.paste(_tile(result.png), (left, top))
        draw.rectangle((left - 1, top - 1, left + TILE, top + TILE), outline="#cccccc")
        lines = _wrap(result.prompt, text_font, TILE)
        for number, line in enumerate(lines):
            draw.text((left, top + TILE + 5 + number * LINE), line, fill="#111111", font=text_font)
        below = top + TILE + 5 + len(lines) * LINE
        steps = f"{result.steps} step{'s' if result.steps != 1 else ''}"
        made = f"{result.model}, {steps}" if result.model else f"{result.server}, {steps}"
        draw.text((left, below), _cut(made, small_font, TILE), fill="#1f4e99", font=small_font)
        times = f"queue {result.queue_s:.2f} s, gen. {result.generation_s:.2f} s"
        if result.model:
            waited = f"{result.queue_s:.1f}" + (f"+{result.load_s:.1f}" if result.load_s else "")
            times = f"{result.server}, {waited}+{result.generation_s:.1f} s"
        draw.text((left, below + LINE), times, fill="#555555", font=small_font)
    path = Path(path)
    sheet.save(path, format="PNG")
    return path


def _tile(png: bytes) -> Image.Image:
    """Fit a picture to the tile."""
    with Image.open(io.BytesIO(png)) as picture:
        scale = TILE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        # Whole factors keep pixels crisp; others would make them visibly uneven.
        whole = size[0] % picture.width == 0 and size[1] % picture.height == 0
        kernel = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
        fitted = picture.convert("RGB").resize(size, kernel)
    tile = Image.new("RGB", (TILE, TILE), "white")
    tile.paste(fitted, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break a text into at most ``CAPTION_LINES`` lines that fit the width; what is too long ends in dots."""
    lines = [""]
    for word in text.split():
        candidate = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(candidate) <= width:
            lines[-1] = candidate
        else:
            lines.append(word)
    fitted = [_cut(line, font, width) for line in lines[:CAPTION_LINES]]
    if len(lines) > CAPTION_LINES:
        fitted[-1] = _cut(fitted[-1] + " …", font, width)
    return fitted


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"
