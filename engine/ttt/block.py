"""Put TTT around an attention: the whole video is read forwards, then backwards, and each is added through a learned
gate.

Source: One-Minute Video Generation with Test-Time Training (arXiv 2504.05298, section 3). With X what an
attention puts out,

    Y = X + tanh(a_forward) * TTT(X)        Z = Y + tanh(a_backward) * R(TTT(R(Y)))

where R reverses the video (engine/ttt/order.py) and both readings share one layer: TTT, LaCT (engine/ttt/lact.py), or
what they are compared with (engine/ttt/baselines.py). Text and video have gates of their own. Here a new block's gates
are 0, so it changes nothing until it is trained (published start: 0.1). What made X, and what happens to Z, is not
known here.
"""

import torch
from torch import nn

from .baselines import GatedDeltaLayer, SlidingWindowLayer
from .lact import LaCTLayer
from .layer import GATED_DELTA, LACT, LINEAR, MLP, SLIDING_WINDOW, TTTConfig, TTTLayer
from .order import Layout

LAYERS: dict[str, type[TTTLayer | GatedDeltaLayer | SlidingWindowLayer | LaCTLayer]] = {
    LINEAR: TTTLayer,
    MLP: TTTLayer,
    GATED_DELTA: GatedDeltaLayer,
    SLIDING_WINDOW: SlidingWindowLayer,
    LACT: LaCTLayer,
}


class TTTBlock(nn.Module):
    """This is TTT in one block: `ttt` is the layer, beside four gates [C] before their tanh. `operations`: see
    TTTLayer.
    """

    def __init__(
        self, config: TTTConfig, operations=nn, device: torch.device | None = None, dtype: torch.dtype | None = None
    ):
        super().__init__()
        self.ttt = LAYERS[config.kind](config, operations, device, dtype)

        def gate() -> nn.Parameter:
            return nn.Parameter(torch.zeros(config.width, device=device, dtype=dtype))

        self.forward_text, self.forward_video, self.backward_text, self.backward_video = (gate() for _ in range(4))

    def forward(
        self,
        x: torch.Tensor,
        layout: Layout,
        slab_tokens: int | None = None,
        in_place: bool = False,
        backend: str | None = None,
    ) -> torch.Tensor:
        """Return x with both readings added: x [B, L, C], all texts before all frames -> [B, L, C].

        slab_tokens, backend: see TTTLayer.read. in_place: x is overwritten by the result, and beyond one slab nothing
        of the video's length is held but 4 bytes for each token and head; not while gradients are recorded.

        Raises ValueError for in_place with gradients, and as TTTLayer.read does.
        """
        recording = torch.is_grad_enabled()
        if in_place and recording:
            raise ValueError("in_place overwrites what the gradients need; use it under torch.no_grad()")
        y = x if in_place else torch.empty_like(x)
        self._add(x, y, layout, False, slab_tokens, backend)
        z = torch.empty_like(y) if recording else y
        self._add(y, z, layout, True, slab_tokens, backend)
        return z

    def _add(
        self,
        x: torch.Tensor,
        out: torch.Tensor,
        layout: Layout,
        backwards: bool,
        slab_tokens: int | None,
        backend: str | None,
    ) -> None:
        """Set `out` to x + gate * (one reading of x), slab by slab; `out` may be x."""
        gates = (self.backward_text, self.backward_video) if backwards else (self.forward_text, self.forward_video)
        text_gate, video_gate = (gate.to(x.device).float().tanh().to(x.dtype) for gate in gates)  # [C], -1 .. 1
        border = layout.text_tokens
        for slab, y in self.ttt.read(x, layout, backwards, slab_tokens, backend):
            before = 0
            for start, stop in slab.ranges:
                text, video = (start, min(stop, border)), (max(start, border), stop)
                for (first, last), gate in ((text, text_gate), (video, video_gate)):
                    if first < last:
                        part = y[:, before : before + last - first]
                        if torch.is_grad_enabled():
                            out[:, first:last] = torch.addcmul(x[:, first:last], gate, part)
                        else:  # in one pass
                            torch.addcmul(x[:, first:last], gate, part, out=out[:, first:last])
                        before += last - first
