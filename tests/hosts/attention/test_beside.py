"""Layers and memories beside the network stand in core's own class of patcher, whichever that is."""

import pytest
import torch

import comfy.model_patcher

from longreel.hosts import keys
from tests.neighbours import FEATURES, loaded, made


class Other(comfy.model_patcher.ModelPatcher):
    """Stands for the dynamic loader's class, which core makes the ordinary one on a CPU."""


@pytest.mark.parametrize(("feature", "key"), [("Apply TTT", keys.TTT_LAYERS), ("CAM", keys.CAM), ("APM", keys.APM)])
def test_what_stands_beside_a_network_is_of_the_class_that_core_uses(monkeypatch, feature: str, key: str):
    expected = made(FEATURES[feature], None, True)
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", Other)
    with torch.inference_mode():
        model = FEATURES[feature].on(loaded().model)
    (beside,) = model.clone().get_additional_models_with_key(key)
    assert isinstance(beside, Other) and isinstance(beside.clone(), Other)
    assert beside.load_device == model.load_device and beside.offload_device == model.offload_device
    assert torch.equal(made(FEATURES[feature], None, True), expected)
