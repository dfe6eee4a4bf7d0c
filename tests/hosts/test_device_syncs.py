"""In the step loop the host waits for the device where it must: as often as docs/performance.md says, feature by
feature, and for the reasons that stand here."""

import re
from pathlib import Path

import pytest
import torch

from tests.device_syncs import Calls, Device, OnDevice, Report, Wait, watching
from tests.hosts.sync_cases import CASES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
MUST = {  # file: why it waits in every evaluation or step
    "hosts/attention/noise_level.py": "which level an evaluation is at is known to the sampler alone",
    "hosts/windows/finite.py": "sampling stops at the first step whose prediction is not finite",
    "hosts/windows/latent_blend.py": "at one level twice, numbers alone tell an evaluation from a guider asking again",
    "engine/attention/kv_share.py": "how many tokens a focus mask leaves is known to the device alone",
}


def told() -> dict[str, tuple[float, float]]:
    """The page's table: name -> waits of each evaluation before and now."""
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return {name: (float(before), float(now)) for name, before, now in rows}


def test_the_page_has_every_case():
    assert list(told()) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_host_waits_as_often_as_the_page_says(tiny, name):
    model, sample = CASES[name]
    with watching() as report:
        sample(tiny(model))
    assert set(report.later()) <= set(MUST), report.told()
    assert round(report.per_evaluation(), 1) == told()[name][1], report.told()


@pytest.mark.parametrize("name", ["joint, blend randomized", "Prompt Edit, reweight and layout", "Anchor Frame, clean"])
def test_what_is_watched_comes_out_as_it_does_unwatched(tiny, name):
    model, sample = CASES[name]
    with watching():
        watched = sample(tiny(model))
    assert torch.equal(watched, sample(tiny(model)))


# What the watcher sees


def waits_of(operate) -> list[str]:
    """Why the host waited in `operate(x, other)`, x [2, 3] on the device, other [2] on the host."""
    report = Report(evaluations=[2])
    mode = Device(report, weights=set())
    with torch.inference_mode(), Calls(mode), mode:
        operate(OnDevice(torch.arange(6.0).view(2, 3)), torch.tensor([1, 0]))
    assert all(isinstance(wait, Wait) and wait.place.startswith("tests/") and not wait.ours for wait in report.waits)
    return [wait.why for wait in report.waits]


@pytest.mark.parametrize(
    ("why", "operate"),
    [
        ("number read", lambda x, other: float(x[0, 0])),
        ("number read", lambda x, other: bool((x > 2).any())),
        ("number read", lambda x, other: x.tolist()),
        ("number read", lambda x, other: x[0].numpy()),
        ("number read", lambda x, other: torch.equal(x, x)),
        ("size from content", lambda x, other: x.nonzero()),
        ("size from content", lambda x, other: torch.masked_select(x, x > 2)),
        ("size from content", lambda x, other: x.unique()),
        ("index of booleans", lambda x, other: x[x > 2]),
        ("index of booleans", lambda x, other: x.index_put_((x > 2,), x[0, 0])),
        ("index from the host", lambda x, other: x[other]),
        ("index from the host", lambda x, other: x[:, [0, 2]]),
        ("copy to the device", lambda x, other: other.to(x)),
        ("copy to the device", lambda x, other: torch.tensor([1.0, 2.0], device=x.device)),
        ("copy to the device", lambda x, other: x.new_tensor([1.0, 2.0])),
        ("copy to the device", lambda x, other: x[:, 0].copy_(other)),
        ("copy to the host", lambda x, other: x.cpu()),
        ("copy to the host", lambda x, other: torch.zeros(2, 3).copy_(x)),
        ("copy to the host", lambda x, other: torch.zeros(2, 3).copy_(x, non_blocking=True)),  # not pinned
    ],
)
def test_each_kind_of_wait_is_seen(why, operate):
    assert waits_of(operate) == [why]


@pytest.mark.parametrize(
    "operate",
    [
        lambda x, other: (x * 2 + x.sum()).clamp(min=1).to(torch.float64),
        lambda x, other: x.new_zeros(3).add_(torch.ones(3, device=x.device)),
        lambda x, other: x[:, 1:].copy_(x[:, :2]),
        lambda x, other: x.fill_(2.0),
        lambda x, other: other.to(x, non_blocking=True),
        lambda x, other: torch.zeros(2, 3, pin_memory=True).copy_(x, non_blocking=True),
        lambda x, other: other.tolist(),
    ],
)
def test_what_runs_ahead_is_no_wait(operate):
    assert waits_of(operate) == []
