# SPDX-License-Identifier: Apache-2.0
import pytest

from edgegen.serve.zoo import UnknownModelError, load_pipeline, model_info
from edgegen.serve.zoo.catalogue import catalogue, entry_of
from edgegen.serve.zoo.loading import model_folder


def test_entries_are_whole_and_unique():
    entries = catalogue()
    assert {"sd-turbo", "sdxl-turbo", "sd-1.5", "ssd-1b", "pixart-alpha"} <= set(entries)
    assert len({entry.hub for entry in entries.values()}) == len(entries)
    for entry in entries.values():
        assert entry.native_size in (512, 1024)
        assert 1 <= entry.size_gb <= 20


def test_a_short_name_and_its_hub_id_tell_the_same_defaults():
    for name in ("sd-turbo", "stabilityai/sd-turbo"):
        info = model_info(name)
        assert (info.native_size, info.default_steps, info.default_guidance) == (512, 1, 0.0)
        assert info.subject is None
        assert model_folder(name) is None
    assert entry_of("somebody/some-model") is None


def test_without_weights_the_usual_sentence_is_said(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UnknownModelError, match='unknown model "sd-turbo"') as caught:
        load_pipeline("sd-turbo")
    assert "\n" not in str(caught.value)


def test_the_short_name_is_loaded_by_its_hub_id(monkeypatch):
    import diffusers

    asked = {}

    class Pipeline:
        def to(self, device):
            return self

        def set_progress_bar_config(self, disable):
            asked["silent"] = disable

    def from_pretrained(source, **given):
        asked.update(given, source=source)
        return Pipeline()

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", from_pretrained)
    load_pipeline("sd-turbo")
    assert asked["source"] == "stabilityai/sd-turbo"
    assert asked["use_safetensors"] is True
    assert asked["silent"] is True
