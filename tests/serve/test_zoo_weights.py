# SPDX-License-Identifier: Apache-2.0
import json
import shutil

import pytest
import torch

from edgegen.serve.zoo import DamagedModelError, UnknownModelError, UnsafeModelError, embedded_models, load_pipeline
from edgegen.serve.zoo.weights import check_digests, check_safetensors, digest, pinned_files

MODEL = "shapes-64-fast"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def copy(tmp_path):
    """A folder with what the embedded model has, to be damaged."""
    return shutil.copytree(embedded_models()[MODEL], tmp_path / "copy")


def one_sentence(caught):
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_digest_is_that_of_the_standard(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # the example of FIPS 180-4
    assert digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("folder", embedded_models().values(), ids=list(embedded_models()))
def test_every_embedded_file_is_pinned(folder):
    pins = json.loads((folder / "edgegen.json").read_text())["sha256"]
    assert pins == pinned_files(folder)
    assert {"model_index.json", WEIGHTS, "tokenizer/tokenizer.json"} <= set(pins)


def test_a_changed_bit_is_damage(copy):
    check_digests(copy, "mine")
    data = bytearray((copy / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (copy / WEIGHTS).write_bytes(data)
    with pytest.raises(DamagedModelError) as caught:
        load_pipeline(str(copy))
    assert f"is damaged: the SHA-256 of its file {WEIGHTS} is" in one_sentence(caught)


def test_a_missing_file_is_damage(copy):
    (copy / "unet" / "config.json").unlink()
    with pytest.raises(DamagedModelError, match=r"its file unet/config\.json is missing") as caught:
        load_pipeline(str(copy))
    one_sentence(caught)


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256": 3}'])
def test_a_card_that_can_not_be_read_is_refused(copy, text):
    (copy / "edgegen.json").write_text(text)
    with pytest.raises(UnknownModelError, match="can not be read"):
        check_digests(copy, "mine")


def test_a_folder_without_a_card_is_loaded(copy):
    (copy / "edgegen.json").unlink()
    assert load_pipeline(str(copy)).unet.dtype == torch.float32


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "text_encoder/pytorch_model"])
def test_pickled_weights_are_refused(copy, part):
    (copy / "edgegen.json").unlink()
    pickled = copy / f"{part}.bin"
    for path in pickled.parent.glob("*.safetensors"):
        path.unlink()
    torch.save({}, pickled)
    with pytest.raises(UnsafeModelError) as caught:
        load_pipeline(str(copy))
    assert f"as safetensors: it has others ({part}.bin), and pickled ones can run any program" in one_sentence(caught)
    check_safetensors(copy, "mine", without=[pickled.parent.name])  # what is not loaded does no harm


def test_safetensors_are_taken_where_there_are_both(copy):
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"no pickle at all")
    assert load_pipeline(str(copy)).unet is not None


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_part_without_weights_is_one_sentence(copy, part):
    (copy / "edgegen.json").unlink()
    for path in (copy / part).glob("*.safetensors"):
        path.unlink()
    with pytest.raises(UnknownModelError) as caught:
        load_pipeline(str(copy))
    one_sentence(caught)
