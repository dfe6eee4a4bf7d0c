"""training/shards.py with a torch whose fully_shard is missing or older than what is asked of it."""

import pytest
import torch.distributed.fsdp

from longreel.training.shards import TAKEN, _of_torch


def test_this_torch_has_all_that_is_asked():
    policy, shard = _of_torch(2)
    assert shard is torch.distributed.fsdp.fully_shard and policy is torch.distributed.fsdp.MixedPrecisionPolicy


def test_a_torch_without_ignored_params_is_named(monkeypatch):
    """As torch 2.6 has it."""

    def fully_shard(module, *, mesh=None, reshard_after_forward=True, shard_placement_fn=None, mp_policy=None):
        raise AssertionError("called")

    monkeypatch.setattr(torch.distributed.fsdp, "fully_shard", fully_shard)
    assert "ignored_params" in TAKEN
    with pytest.raises(ValueError, match=r"torch .* has no fully_shard with ignored_params.* 2 proc.*update torch"):
        _of_torch(2)


def test_a_torch_without_fully_shard_is_named(monkeypatch):
    monkeypatch.delattr(torch.distributed.fsdp, "fully_shard")
    with pytest.raises(ValueError, match=r"torch .* has no fully_shard, with which 2 processes.*update torch"):
        _of_torch(2)
