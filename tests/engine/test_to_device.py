"""engine/to_device.py: numbers and dtype arrive, and what is there already is not copied."""

import torch

from longreel.engine.to_device import sent


def test_what_is_there_already_is_the_same_object():
    numbers = torch.tensor([0.1, 0.2])
    assert sent(numbers, torch.zeros(3)) is numbers


def test_numbers_come_in_the_dtype_of_the_other_or_one_that_is_named():
    numbers = torch.tensor([0.1, 0.2], dtype=torch.float64)
    like = torch.zeros(3, dtype=torch.bfloat16)
    assert torch.equal(sent(numbers, like), numbers.to(torch.bfloat16))
    assert torch.equal(sent(numbers, like, torch.float32), numbers.float())
