# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch

from edgegen.serve.zoo import load_pipeline, model_info, networks
from edgegen.serve.zoo.autoencoder import tokenize
from edgegen.serve.zoo.distillation import Distillation, Levels, _guided, levels_of, main, record_ways, run
from edgegen.serve.zoo.evaluation import paint
from edgegen.serve.zoo.subjects import SUBJECTS

TINY = {"ways": 6, "steps": 2, "batch": 6, "width": 16, "inner_width": 16}
FLAGS = [word for name, value in TINY.items() for word in ("--" + name.replace("_", "-"), str(value))]


@pytest.fixture(autouse=True)
def keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def teacher():
    return load_pipeline("shapes-64")


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_levels_are_those_of_the_finished_sampler(steps):
    sampler = networks.build_scheduler(spacing="trailing")
    sampler.set_timesteps(steps)
    assert levels_of(steps) == sampler.timesteps.tolist()


def test_ways_lead_where_the_teacher_paints(teacher):
    """By hand, step by step, to the latents of the pipeline itself."""
    levels, visited = Levels(), levels_of(4)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text, points = "a large red circle in the top left", start
    for index, level in enumerate(visited):
        at = torch.tensor([level])
        ends = levels.end(points, at, _guided(teacher, points, at, tokenize(teacher.tokenizer, [text]), 2.0))
        points = levels.step(points, at, ends, torch.tensor([visited[min(index + 1, 3)]]))
    usual = teacher.scheduler
    teacher.scheduler = networks.build_scheduler(spacing="trailing")
    made = teacher(text, num_inference_steps=4, guidance_scale=2.0, latents=start, output_type="latent").images
    teacher.scheduler = usual
    assert torch.allclose(made, ends, atol=2e-3)


def test_every_recorded_point_lies_on_its_way(teacher, tmp_path):
    recipe = Distillation(ways=70)  # more than are recorded at once, in two numbers of steps
    ways = record_ways(recipe, SUBJECTS["shapes"], teacher, 2.0, tmp_path, lambda line: None)
    assert len(ways.points) == 64 * 6 + 6 * 8
    assert ways.way[ways.firsts].tolist() == list(range(70))
    assert (ways.levels[ways.firsts] == networks.TIMESTEPS - 1).all()
    # Near the end of a way there is little noise, so a point looks like the finished latents.
    last = ways.levels == ways.levels.min()
    signal, noise = Levels().of(ways.levels[last])
    miss = ways.points[last] - signal * ways.ends[ways.way[last]]
    assert (miss.std() / noise.mean()) == pytest.approx(1, abs=0.15)


def test_two_steps_write_a_student_that_loads(tmp_path):
    out = tmp_path / "tiny"
    assert main(["--out", str(out), "--work", str(tmp_path / "work"), *FLAGS]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "work"]
    card = json.loads((out / "edgegen.json").read_text())
    assert (card["teacher"], card["subject"], card["default_guidance"]) == ("shapes-64", "shapes", 1.0)
    assert str(tmp_path) not in "".join(path.read_text() for path in out.rglob("*.json"))
    assert "_name_or_path" not in (out / "vae" / "config.json").read_text()
    student = load_pipeline(str(out))
    assert model_info(str(out)).native_size == 64
    assert student.unet.num_parameters() < 0.2 * load_pipeline("shapes-64").unet.num_parameters()
    assert paint(student, ["a red circle"], steps=1, guidance=1.0, seed=0).shape == (1, 64, 64, 3)


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    out = tmp_path / "tiny"
    run(Distillation(**{**TINY, "steps": 1}), "shapes-64", out)
    recorded = (tmp_path / "tiny.work" / "ways.pt").stat().st_mtime_ns
    run(Distillation(**TINY), "shapes-64", out)
    assert torch.load(tmp_path / "tiny.work" / "student.pt")["step"] == 2
    assert (tmp_path / "tiny.work" / "ways.pt").stat().st_mtime_ns == recorded  # not painted again


def test_a_teacher_must_be_there_and_paint_a_subject(tmp_path, tiny_pipeline, capsys):
    assert main(["--teacher", str(tmp_path), "--out", str(tmp_path / "out"), *FLAGS]) == 1
    assert "unknown model" in capsys.readouterr().err
    assert main(["--teacher", tiny_pipeline, "--out", str(tmp_path / "out"), *FLAGS]) == 1
    assert "Subject '' is unknown" in capsys.readouterr().err
