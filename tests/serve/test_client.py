"""The demonstration client: prompts and contact sheets."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from edgegen.envs.errors import InputError
from edgegen.serve.client import Result, contact_sheet, demo_prompts, generate_burst
from edgegen.serve.zoo.shapes import parse_caption


def result(prompt="a red circle", side=64):
    encoded = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(encoded, format="PNG")
    return Result(
        prompt=prompt,
        server="edge-a",
        home="edge-b",
        queue_s=1.25,
        generation_s=0.5,
        decision_s=0.001,
        total_s=1.8,
        round_trip_s=1.9,
        steps=20,
        seed=1,
        fallback=None,
        png=encoded.getvalue(),
    )


def test_prompts_are_captions_and_reproducible():
    prompts = demo_prompts(12, seed=3)
    assert len(prompts) == 12
    assert prompts == demo_prompts(12, seed=3)
    assert prompts != demo_prompts(12, seed=4)
    for prompt in prompts:
        parse_caption(prompt)


@pytest.mark.parametrize(("count", "columns", "wide"), [(1, None, 1), (3, None, 2), (10, None, 4), (10, 3, 3)])
def test_contact_sheet_is_a_grid(tmp_path, count, columns, wide):
    prompts = ["a red circle", "a large purple triangle in the bottom right " * 3, "x" * 200, "", "é ✓"]
    results = [result(prompts[index % 5], side=(64, 80, 512)[index % 3]) for index in range(count)]
    path = contact_sheet(results, tmp_path / "sheet.png", columns)
    with Image.open(path) as sheet:
        assert sheet.width // 180 == wide
        assert sheet.height % (sheet.height // -(-count // wide)) == 0
        assert sheet.convert("RGB").getpixel((90, 90)) == (255, 0, 0)


def test_empty_contact_sheet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no results"):
        contact_sheet([], tmp_path / "sheet.png")


def test_unreachable_service_is_one_sentence():
    with pytest.raises(InputError, match="can not be reached"):
        generate_burst("http://127.0.0.1:9", ["a red circle"])
