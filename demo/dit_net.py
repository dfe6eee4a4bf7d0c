"""Wan 2.1's text-to-video transformer, small, in a form that trains fast on a CPU.

Module names and shapes are those of ComfyUI's `comfy.ldm.wan.model.WanModel`, so the state dict loads there as it
is (tests/demo/test_nets_match_comfyui.py compares the outputs). Matrix products run in bfloat16 while training; set
`HALF_PRECISION = False` to compare in float32.
"""

import torch
import torch.nn.functional as F
from torch import nn

HALF_PRECISION = True
PATCH = 2  # latent pixels per token side; time is not patched


class Linear(nn.Linear):
    """A linear layer whose product runs in bfloat16 while HALF_PRECISION is set."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if HALF_PRECISION:
            return F.linear(x.bfloat16(), self.weight.bfloat16(), self.bias.bfloat16())
        return F.linear(x, self.weight, self.bias)


class RMSNorm(nn.Module):
    """Root mean square normalisation of the last axis, with a learned scale."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), self.weight, 1e-6)


def rotary_table(frames: int, rows: int, columns: int, head_width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of the 3D rotary positions, [N, head_width / 2], axes split (time, row, column) as in Wan."""
    widths = [head_width - 4 * (head_width // 6), 2 * (head_width // 6), 2 * (head_width // 6)]
    grid = torch.meshgrid(torch.arange(frames), torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [
        axis.reshape(-1, 1).double() / 10000 ** (torch.arange(0, w, 2, dtype=torch.float64) / w)
        for axis, w in zip(grid, widths, strict=False)
    ]
    table = torch.cat(angles, 1)
    return table.cos().float(), table.sin().float()


def rotate(x: torch.Tensor, table: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """X [B, N, h, d], neighbouring pairs turn together; table [1 or B, N, d / 2]."""
    cos, sin = (t[:, :, None].to(x.dtype) for t in table)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """[B, h, N, d]. At a hundred tokens two plain bf16 products beat the CPU's fused attention."""
    if not (HALF_PRECISION and torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(q, k, v)
    B, h, N, d = q.shape
    q, k, v = (t.reshape(B * h, t.shape[2], d).bfloat16() for t in (q, k, v))
    weights = torch.softmax((q @ k.transpose(1, 2)).float() * d**-0.5, -1).bfloat16()
    return (weights @ v).float().view(B, h, N, d)


def attend_in_order(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The first half of the batch holds first shots, the second half the shots that follow them: a first shot sees
    itself, the next one sees both."""
    first, second = (torch.stack(halves) for halves in zip(*(t.chunk(2) for t in (q, k, v)), strict=False))
    both = [torch.cat([first[i], second[i]], dim=2) for i in (1, 2)]
    return torch.cat([attend(*first), attend(second[0], *both)])


class Attention(nn.Module):
    """Attention of several heads, with normalised queries and keys; `table` turns on rotary positions."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (Linear(width, width) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(width), RMSNorm(width)

    def forward(self, x: torch.Tensor, context: torch.Tensor, table=None, second_shots: bool = False) -> torch.Tensor:
        B, N, C = x.shape
        split = (B, -1, self.heads, C // self.heads)
        q, k = self.norm_q(self.q(x)).view(split), self.norm_k(self.k(context)).view(split)
        v = self.v(context).float().view(split)
        if table is not None:
            q, k = rotate(q, table), rotate(k, table)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # [B, h, N, d]
        y = attend_in_order(q, k, v) if second_shots else attend(q, k, v)
        return self.o(y.transpose(1, 2).reshape(B, N, C)).float()


def by_time(x: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
    """X [B, N, C] -> [B, F or 1, tokens, C], for a modulation [B, F or 1, 1, C]."""
    return x.unflatten(1, (modulation.shape[1], -1))


class Block(nn.Module):
    """Self-attention, cross attention to the text and a feed-forward network, modulated by the time."""

    def __init__(self, width: int, ffn_width: int, heads: int):
        super().__init__()
        self.width = width
        self.self_attn, self.cross_attn = Attention(width, heads), Attention(width, heads)
        self.norm3 = nn.LayerNorm(width, 1e-6)
        self.ffn = nn.Sequential(Linear(width, ffn_width), nn.GELU(approximate="tanh"), Linear(ffn_width, width))
        self.modulation = nn.Parameter(torch.zeros(1, 6, width))

    def forward(self, x, time, context, table, second_shots: bool = False):
        m = (self.modulation.unsqueeze(1) + time).unsqueeze(3).unbind(2)  # six of [B, F or 1, 1, C]
        y = F.layer_norm(x, (self.width,), eps=1e-6)
        y = (by_time(y, m[0]) * (1 + m[1]) + m[0]).flatten(1, 2)
        x = x + (by_time(self.self_attn(y, y, table, second_shots), m[2]) * m[2]).flatten(1, 2)
        x = x + self.cross_attn(self.norm3(x), context)
        y = F.layer_norm(x, (self.width,), eps=1e-6)
        y = (by_time(y, m[3]) * (1 + m[4]) + m[3]).flatten(1, 2)
        return x + (by_time(self.ffn(y).float(), m[5]) * m[5]).flatten(1, 2)


class Head(nn.Module):
    """The last layer: normalised, modulated by the time, and projected to the outputs of each token."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.width = width
        self.head = Linear(width, outputs)
        self.modulation = nn.Parameter(torch.zeros(1, 2, width))

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        m = self.modulation.unsqueeze(1) + time.unsqueeze(2)  # [B, F or 1, 2, C]
        y = by_time(F.layer_norm(x, (self.width,), eps=1e-6), m) * (1 + m[:, :, 1:]) + m[:, :, :1]
        return self.head(y.flatten(1, 2)).float()


class DiT(nn.Module):
    """Flow velocity (noise - clean) of latents [B, C, F, H, W] at `timestep` 0..1000, [B] or of each frame [B, F],
    given context [B, L, text]. With `second_shots` row B/2 + i is the shot after row i: it stands later in time and
    sees that row in self-attention."""

    def __init__(self, width: int, ffn_width: int, heads: int, layers: int, text_width: int = 64, channels: int = 16):
        super().__init__()
        self.width, self.heads, self.channels = width, heads, channels
        self.patch_embedding = nn.Conv3d(channels, width, (1, PATCH, PATCH), (1, PATCH, PATCH))
        gelu = nn.GELU(approximate="tanh")
        self.text_embedding = nn.Sequential(Linear(text_width, width), gelu, Linear(width, width))
        self.time_embedding = nn.Sequential(Linear(256, width), nn.SiLU(), Linear(width, width))
        self.time_projection = nn.Sequential(nn.SiLU(), Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(width, ffn_width, heads) for _ in range(layers))
        self.head = Head(width, channels * PATCH * PATCH)
        self.tables: dict[tuple[int, int, int], tuple[torch.Tensor, torch.Tensor]] = {}
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.data.view(self.width, -1))
        nn.init.zeros_(self.patch_embedding.bias)
        nn.init.normal_(self.time_projection[1].weight, std=0.01)
        nn.init.zeros_(self.head.head.weight)
        for block in self.blocks:
            block.modulation.data[:, 2] = 1  # gates start open, branches start quiet
            block.modulation.data[:, 5] = 1
            for out in (block.self_attn.o, block.cross_attn.o, block.ffn[2]):
                out.weight.data *= 0.3

    def table(self, frames: int, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """[1, N, head width / 2] cosines and sines, kept."""
        if (frames, rows, columns) not in self.tables:
            made = rotary_table(frames, rows, columns, self.width // self.heads)
            self.tables[frames, rows, columns] = tuple(t[None].to(self.patch_embedding.weight.device) for t in made)
        return self.tables[frames, rows, columns]

    def forward(
        self, x: torch.Tensor, timestep: torch.Tensor, context: torch.Tensor, second_shots: bool = False
    ) -> torch.Tensor:
        B, C, T, H, W = x.shape
        rows, columns = H // PATCH, W // PATCH
        table = self.table(T, rows, columns)
        if second_shots:
            table = tuple(
                t.unflatten(1, (2, -1))[0].repeat_interleave(B // 2, 0) for t in self.table(2 * T, rows, columns)
            )
        patches = x.view(B, C, T, rows, PATCH, columns, PATCH).permute(0, 2, 3, 5, 1, 4, 6).reshape(B, -1, C * PATCH**2)
        h = F.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)
        angles = timestep.float().view(B, -1, 1) * 10000 ** (
            -torch.arange(128, device=x.device) / 128.0
        )  # [B, F or 1, 128]
        time = self.time_embedding(torch.cat([angles.cos(), angles.sin()], 2)).float()
        modulation = self.time_projection(time).float().unflatten(2, (6, self.width))
        context = self.text_embedding(context).float()
        for block in self.blocks:
            h = block(h, modulation, context, table, second_shots)
        h = self.head(h, time)  # [B, N, PATCH * PATCH * C]
        h = h.view(B, T, rows, columns, PATCH, PATCH, C).permute(0, 6, 1, 2, 4, 3, 5)
        return h.reshape(B, C, T, H, W)
