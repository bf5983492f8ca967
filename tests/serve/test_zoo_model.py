# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest
import torch
from PIL import Image

from edgegen.envs.core.errors import InputError
from edgegen.serve.app import build
from edgegen.serve.config import build_config
from edgegen.serve.zoo import UnknownModelError, embedded_models, load_pipeline, model_info
from edgegen.serve.zoo.evaluation import main, measure, paint
from edgegen.serve.zoo.networks import build_tokenizer
from edgegen.serve.zoo.shapes import WORDS, caption, held_out_scenes
from edgegen.serve.zoo.subjects import SUBJECTS

MODEL = "shapes-64"
MODELS = ("shapes-64", "shapes-64-fast", "digits-64")


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(MODEL)


def test_the_embedded_models_are_small_diffusers_folders():
    assert set(embedded_models()) == set(MODELS)
    total = 0
    for folder in embedded_models().values():
        assert (folder / "README.md").is_file()
        weights = list(folder.rglob("*.safetensors"))
        assert len(weights) == 3
        total += sum(path.stat().st_size for path in weights)
    assert total <= 40e6


def test_the_models_tell_their_defaults():
    for name in MODELS:
        info = model_info(name)
        assert (info.name, info.native_size) == (name, 64)
        assert info.subject in SUBJECTS
        assert SUBJECTS[info.subject].parse(info.example_prompt)
    # The distilled model answers with guidance built in; the others need it.
    assert model_info("shapes-64").default_guidance > 1 == model_info("shapes-64-fast").default_guidance
    assert model_info("shapes-64-fast").default_steps < model_info("shapes-64").default_steps
    assert model_info("somebody/some-model").native_size is None


@pytest.mark.parametrize("name", MODELS)
def test_plain_diffusers_loads_the_folder(name):
    from diffusers import AutoPipelineForText2Image, StableDiffusionPipeline

    loaded = AutoPipelineForText2Image.from_pretrained(embedded_models()[name])
    assert type(loaded) is StableDiffusionPipeline
    assert loaded.safety_checker is None
    assert loaded.unet.dtype == torch.float32


def test_every_word_of_the_grammar_is_one_token(pipeline):
    tokenizer = pipeline.tokenizer
    assert all(len(tokenizer(word).input_ids) == 3 for word in WORDS)
    text = "an orange cross right of a small blue square"
    assert tokenizer(text).input_ids == build_tokenizer()(text).input_ids
    assert len(tokenizer("something unheard of").input_ids) > 5


def test_the_seed_decides_the_picture(pipeline):
    def one(seed):
        return paint(pipeline, ["a large red circle in the top left"], steps=3, guidance=3.0, seed=seed)

    np.testing.assert_array_equal(one(7), one(7))
    assert (one(7) != one(8)).any()


def test_held_out_prompts_are_met_and_more_steps_are_better(pipeline):
    info, subject, scenes = model_info(MODEL), SUBJECTS["shapes"], held_out_scenes(30, seed=11)
    (few, _), (usual, pictures) = (
        measure(pipeline, subject, scenes, steps=steps, guidance=info.default_guidance, seed=3)
        for steps in (1, info.default_steps)
    )
    assert usual.accuracy >= 0.8
    assert few.accuracy < usual.accuracy
    assert usual.low < usual.accuracy <= usual.high
    assert set(usual.groups) == {"one thing", "two things"}
    assert set(usual.parts) == {"count", "colour", "shape", "size", "place"}
    assert pictures.shape == (30, 64, 64, 3)


@pytest.mark.parametrize(("name", "floor"), [("shapes-64-fast", 0.8), ("digits-64", 0.9)])
def test_the_other_models_meet_held_out_prompts_in_their_own_steps(name, floor):
    info = model_info(name)
    assert info.subject is not None
    subject = SUBJECTS[info.subject]
    facts = subject.held_out(20, 11)
    row, _ = measure(
        load_pipeline(name), subject, facts, steps=info.default_steps, guidance=info.default_guidance, seed=3
    )
    assert row.accuracy >= floor


def test_pictures_do_not_depend_on_their_batch(pipeline):
    texts = [caption(scene) for scene in held_out_scenes(3, seed=1)]
    together = paint(pipeline, texts, steps=2, guidance=3.0, seed=0)
    apart = paint(pipeline, texts, steps=2, guidance=3.0, seed=0, batch=1)
    assert np.abs(together.astype(int) - apart.astype(int)).max() <= 2


def test_the_evaluation_command_writes_its_figures(tmp_path, capsys):
    path, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    assert main(["--steps", "1,2", "--prompts", "2", "--json", str(path), "--sheet", str(sheet)]) == 0
    with Image.open(sheet) as drawn:
        assert drawn.size == (2 * 64, 2 * 64)  # two prompts across, two step counts down
    report = json.loads(path.read_text())
    assert [row["steps"] for row in report["rows"]] == [1, 2]
    assert {"accuracy", "low", "high", "seconds"} <= set(report["rows"][0])
    assert "95 % interval" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["no-such-model", "not a name"])
def test_an_unknown_model_is_one_clear_sentence(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownModelError, match=MODEL) as caught:
        load_pipeline(name)
    text = str(caught.value)
    assert name in text
    assert "folder" in text
    assert "hub" in text
    assert "\n" not in text


def test_a_folder_that_is_no_pipeline_is_an_unknown_model(tmp_path):
    with pytest.raises(UnknownModelError, match=r"model_index\.json"):
        load_pipeline(str(tmp_path))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a pipeline in ``mine`` and none in ``empty``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").symlink_to(embedded_models()[MODEL])
    (tmp_path / "empty").mkdir()
    return tmp_path


def service_of(model):
    """A service with one edge that holds a model."""
    return build_config(
        {"models": {model: {"cycles_per_step_gcycles": 0.1}}, "edges": [{"name": "edge-a", "model": model}]}
    )


def test_a_home_folder_means_the_same_when_it_is_checked_read_and_loaded(home):
    config = service_of("~/mine")
    assert config.cards()["~/mine"].sizes == ("64x64",)  # from the folder's own card
    build(config)
    pipeline = load_pipeline("~/mine")
    assert paint(pipeline, ["a red circle"], steps=1, guidance=2.0, seed=0).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("model", ["~/empty", "~/nothing", "~nobody-of-this-name/mine", "./nothing"])
def test_a_path_without_a_pipeline_is_refused_by_the_check_and_by_the_loader(model, home):
    with pytest.raises(InputError, match=r"is not the folder of a diffusers pipeline: it has no model_index\.json"):
        build(service_of(model))
    with pytest.raises(UnknownModelError, match=r"model_index\.json") as caught:
        load_pipeline(model)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_the_evaluation_command_reports_an_unknown_model(tmp_path, capsys):
    assert main(["--model", str(tmp_path)]) == 1
    assert "unknown model" in capsys.readouterr().err
