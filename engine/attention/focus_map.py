"""Find where in the picture words are: attention maps of chosen words, normalised per frame and thresholded.

Source: DiTCtrl (arXiv 2412.18597, section 3.3) and its public code: the probability with which a video token reads the
words' text tokens, averaged over heads and over the layers seen so far in one evaluation of the network.

The probabilities come out of an ordinary attention call whose values are the words' weights, so the matrix of queries
by keys never exists: beside the layer's own q and k this needs one more v and one more output.
"""

import torch

from .kv_share import Attend


def word_probability(
    attend: Attend, q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, weight: torch.Tensor
) -> torch.Tensor:
    """Return [B, Sq], the attention probability that queries give to the words' keys, as a mean over heads. q [B, H,
    Sq, D], k [B, H, Sk, D]; weight [B, Sk] or [Sk]: 1 at the words' keys, 0 elsewhere, or shares of them.
    """
    v = torch.zeros_like(k)
    v[..., 0] = weight.to(v)[..., None, :] if weight.ndim > 1 else weight.to(v)
    return attend(q, k, v, mask)[..., 0].mean(dim=1)


class FocusMap:
    """Keep the running mean over layers of [N, video tokens] probabilities; it may go on from a sum over `layers`
    layers.
    """

    def __init__(self, total: torch.Tensor | None = None, layers: int = 0) -> None:
        self.total, self.layers = total, layers

    def add(self, probability: torch.Tensor) -> None:
        probability = probability.float()
        self.total = probability if self.total is None else self.total + probability
        self.layers += 1

    def normalised(self, frames: int) -> torch.Tensor:
        """Return the map as [N, frames, tokens of a frame], stretched to 0..1 within every frame."""
        if self.total is None:
            raise ValueError("no layer has added its probabilities to the focus map; add those of one at least")
        mean = (self.total / self.layers).unflatten(1, (frames, -1))
        low, high = mean.amin(dim=2, keepdim=True), mean.amax(dim=2, keepdim=True)
        return (mean - low) / (high - low + 1e-6)

    def foreground(self, frames: int, threshold: float) -> torch.Tensor:
        """Return [N, video tokens], True where the normalised map reaches `threshold` (0..1)."""
        return (self.normalised(frames) >= threshold).flatten(1)
