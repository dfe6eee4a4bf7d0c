"""tests/traffic.py: what an operation is charged."""

import torch

from tests.traffic import Traffic


def test_each_operation_is_charged_what_it_reads_and_writes():
    x, y = torch.ones(8, 4), torch.ones(8, 4).half()
    for work, bytes_moved in (
        (lambda: x + x, 3 * 128),
        (lambda: x.mul_(y), 2 * 128 + 64),
        (y.float, 64 + 128),
        (lambda: torch.add(x, x, out=x), 3 * 128),
        (lambda: x.copy_(y), 64 + 128),
        (lambda: x.view(4, 8).transpose(0, 1)[1:], 0),
        (lambda: x[:1].expand(8, 4) + x, 16 + 2 * 128),
        (lambda: torch.empty(5), 0),
        (lambda: x @ x.mT, 0),
    ):
        with Traffic() as traffic:
            work()
        assert traffic.total == bytes_moved, traffic.bytes
    assert traffic.products == 2 * 128 + 8 * 8 * 4
