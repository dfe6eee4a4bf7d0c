"""The TTT maths stands here twice: readable (reference.py) and fast (triton_linear.py, triton_mlp.py), behind
one scan.
"""

from .dispatch import scan
from .state import State

__all__ = ["State", "scan"]
