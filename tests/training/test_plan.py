"""training/plan.py: what a run will cost, measured on one step and told before it starts."""

import time

import pytest
import torch

from longreel.training.plan import NOTHING_MEASURED, Measured, Plan, PlannedStage, measure
from longreel.training.stages import Stage

SHORT = PlannedStage(Stage("3s", 1, 100, batch=8), 40, 12, 13, 1000, 2_000_000)
LONG = PlannedStage(Stage("9s", 3, 10, batch=8), 10, 4, 37, 3000, 2_000_000)


def plan(**changes) -> Plan:
    return Plan(
        **{
            "stages": (SHORT, LONG),
            "measured": Measured(2.0, 2**30),
            "micro_batch": 2,
            "processes": 2,
            "state_bytes": 2**20,
            "device": "cuda:0",
            **changes,
        }
    )


def test_a_batch_is_shown_in_micro_batches_by_all_processes():
    assert plan().seconds_of_step(0) == 2 * 2.0  # 8 videos, 2 at once in each of 2 processes
    assert plan(micro_batch=4, processes=1).seconds_of_step(0) == 2 * 2.0


def test_a_stage_of_small_batches_shows_fewer_videos_at_once():
    few = PlannedStage(Stage("9s", 3, 10, batch=2), 10, 4, 37, 3000, 2_000_000)
    found = plan(stages=(SHORT, few), micro_batch=8, processes=1)
    assert found.seconds_of_step(1) == 2.0 * 2 / 8 * 3 and found.bytes_of_step(1) == 2**30 * 2 / 8 * 3


def test_longer_stages_are_estimated_by_their_tokens():
    assert plan().seconds_of_step(1) == 3 * plan().seconds_of_step(0)
    assert plan().bytes_of_step(1) == 3 * 2**30
    assert plan().seconds == 40 * 4.0 + 10 * 12.0


def test_the_table_shows_what_will_be_done():
    text = plan(done=60).text()
    for shown in (
        "3s",
        "9s",
        "1,000",
        "~3.0 GiB",
        "4.0 s",
        "~12.0 s",
        "2.00 M",
        "peak memory",
        "on cuda:0",
        "goes on after 60 steps",
        "micro-batch 2, processes 2",
        "1.0 MiB, as much for each checkpoint",
        "each of 2 processes keeps its part",
    ):
        assert shown in text, shown
    lines = text.splitlines()
    assert len({len(line) for line in lines[:3]}) == 1
    assert "its part" not in plan(processes=1).text()


def test_a_run_at_its_end_has_nothing_to_plan():
    assert plan(stages=(), measured=NOTHING_MEASURED, done=110).text() == "all 110 steps are made"


def test_the_second_of_two_steps_is_timed_and_the_peak_is_that_of_one():
    made = []

    def step() -> None:
        made.append(torch.ones(1000) + torch.ones(1000))  # three tensors, of which one stays
        time.sleep(0.1 if len(made) == 1 else 0.01)

    found = measure(step, torch.device("cpu"))
    assert len(made) == 2 and found.seconds < 0.1 and found.bytes == 12000


@pytest.mark.gpu
def test_on_a_gpu_the_allocators_peak_is_measured():
    device = torch.device("cuda")
    found = measure(lambda: torch.zeros(2**20, device=device), device)
    assert 4 * 2**20 <= found.bytes < 5 * 2**20
