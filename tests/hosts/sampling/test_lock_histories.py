"""Storyboards that are edited at random with random locks: no locked frame changes, and nothing is made needlessly.

`python dev.py bench kill` plays 5,000 histories.
"""

import random

from tests.lock_histories import Histories


def test_no_edit_of_anything_else_reaches_a_locked_shot(tiny, tmp_path):
    histories = Histories(tiny("wan21"), tmp_path)
    for seed in range(40):
        assert histories.play(random.Random(seed)) == [], f"history {seed}"
    assert histories.counts["locked shots kept"] > 15 and histories.counts["queues cut short"] > 15
    assert histories.counts["queues refused"] < histories.counts["queues to the end"] / 4
