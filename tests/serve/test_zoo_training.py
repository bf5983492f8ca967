# SPDX-License-Identifier: Apache-2.0
import json
from typing import Any

import pytest
import torch

from edgegen.serve.zoo import load_pipeline, model_info
from edgegen.serve.zoo.evaluation import paint
from edgegen.serve.zoo.networks import learn_merges
from edgegen.serve.zoo.recipe import RECIPES, Recipe
from edgegen.serve.zoo.training import TrainingError, main, train
from edgegen.serve.zoo.weights import pinned_files

TINY: dict[str, Any] = {
    "crop_steps": 2,
    "full_steps": 1,
    "polish_steps": 1,
    "pictures": 16,
    "steps": 2,
    "batch": 4,
    "crop_batch": 4,
}
FLAGS = [word for name, value in TINY.items() for word in ("--" + name.replace("_", "-"), str(value))]


@pytest.fixture(autouse=True)
def keep_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_two_steps_write_a_pipeline_that_loads(tmp_path):
    out = tmp_path / "tiny"
    assert main(["--out", str(out), "--work", str(tmp_path / "work"), *FLAGS]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny", "work"]  # nothing half-written is left
    assert model_info(str(out)).native_size == 64
    picture = paint(load_pipeline(str(out)), ["a red circle"], steps=1, guidance=2.0, seed=0)
    assert picture.shape == (1, 64, 64, 3)


def test_another_subject_begins_with_what_a_model_knows(tmp_path):
    out = tmp_path / "tiny"
    assert main(["--subject", "digits", "--out", str(out), *FLAGS, "--crop-steps", "0", "--full-steps", "0"]) == 0
    card = json.loads((out / "edgegen.json").read_text())
    assert (card["subject"], card["example_prompt"]) == ("digits", "a red 7 in the top left")
    assert card["recipe"]["begin"] == RECIPES["digits"].begin == "shapes-64"
    assert card["recipe"]["average_decay"] == RECIPES["digits"].average_decay
    tiny, older = load_pipeline(str(out)), load_pipeline("shapes-64")
    # Two steps change little; what is said of a word came along, although its number is another one.
    for word in ("red", "left"):
        ours, theirs = (
            pipeline.text_encoder.get_input_embeddings().weight[pipeline.tokenizer(word).input_ids[1]]
            for pipeline in (tiny, older)
        )
        assert torch.allclose(ours, theirs, atol=0.01)
    assert "circle</w>" not in tiny.tokenizer.get_vocab()


def test_a_model_to_begin_with_must_be_there(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "tiny"), "--begin", str(tmp_path), *FLAGS]) == 1
    assert "unknown model" in capsys.readouterr().err


def test_the_card_pins_every_file_that_is_loaded(tmp_path):
    out = train(Recipe(**TINY), tmp_path / "tiny")
    card = json.loads((out / "edgegen.json").read_text())
    assert card["sha256"] == pinned_files(out)
    assert "unet/diffusion_pytorch_model.safetensors" in card["sha256"]


def test_a_stopped_run_goes_on_and_replaces_the_older_pipeline(tmp_path):
    out = tmp_path / "tiny"
    train(Recipe(**TINY), out)
    assert train(Recipe(**{**TINY, "steps": 3}), out) == out
    state = torch.load(tmp_path / "tiny.work" / "denoiser.pt")
    assert state["step"] == 3
    assert (out / "model_index.json").is_file()


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert main(["--out", str(tmp_path / "file" / "model"), *FLAGS]) == 1
    message = capsys.readouterr().err
    assert "cannot write the model to" in message
    assert "choose" in message


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(TrainingError, match="not a pipeline"):
        train(Recipe(**TINY), tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "keep me"


def test_merges_join_every_word_into_one_token():
    merges = learn_merges(["left", "right", "light"])
    assert {"".join(pair) for pair in merges} >= {"left</w>", "right</w>", "light</w>"}
