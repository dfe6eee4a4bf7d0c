"""The counter of training/live_bytes.py, for all tests of memory."""

from longreel.training.live_bytes import LiveBytes

__all__ = ["LiveBytes"]
