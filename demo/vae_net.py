"""Wan 2.1's causal video autoencoder, narrow, in a form that trains fast.

Module names and shapes are those of ComfyUI's `comfy.ldm.wan.vae.WanVAE`, so the state dict loads there as it is.
ComfyUI encodes and decodes chunk by chunk with cached frames; here all frames go through in one call, which gives
the same numbers (tests/demo/test_nets_match_comfyui.py). Norms keep an epsilon under the root: a mid-grey input is
an exact zero vector and would otherwise give NaN gradients.
"""

import torch
import torch.nn.functional as F
from torch import nn

CHANNELS = (1, 2, 4, 4)  # width per resolution, in multiples of `dim`
TEMPORAL = (False, True, True)  # which downsamplings also halve time


def _rms(x: torch.Tensor, gamma: torch.Tensor, scale: float) -> torch.Tensor:
    y = x.float()
    return (y * torch.rsqrt((y * y).sum(1, keepdim=True) + 1e-6) * (gamma * scale)).to(x.dtype)


def _rms_silu(x: torch.Tensor, gamma: torch.Tensor, scale: float) -> torch.Tensor:
    y = x.float()
    y = y * torch.rsqrt((y * y).sum(1, keepdim=True) + 1e-6) * (gamma * scale)
    return (y * torch.sigmoid(y)).to(x.dtype)


def compile_norms() -> None:
    """Fuse norm and SiLU, which are most of the time outside the convolutions; compiling more costs minutes."""
    torch._dynamo.config.recompile_limit = 64  # one graph per width and clip length
    RMSNorm.norm_silu = staticmethod(torch.compile(_rms_silu, dynamic=True))


class RMSNorm(nn.Module):
    """Root mean square normalisation over the channels. images: [B, C, H, W] instead of [B, C, F, H, W]."""

    norm_silu = staticmethod(_rms_silu)

    def __init__(self, channels: int, images: bool):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *([1] * (2 if images else 3))))
        self.scale = channels**0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _rms(x, self.gamma, self.scale)

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm_silu(x, self.gamma, self.scale)


class CausalConv3d(nn.Conv3d):
    """Sees the present and the past only; before the first frame there are zeros."""

    def forward(self, x: torch.Tensor, causal: bool = True, stride: int | tuple[int, int, int] = 1) -> torch.Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        kernel_t, kernel_h = weight.shape[2], weight.shape[3]
        if causal and kernel_t > 1:
            if x.shape[2] == 1:
                weight = weight[:, :, -1:]
            else:
                x = F.pad(x, (0, 0, 0, 0, kernel_t - 1, 0))
        return F.conv3d(x, weight, bias, stride=stride, padding=(0, kernel_h // 2, kernel_h // 2))


class ResidualBlock(nn.Module):
    """Two causal convolutions beside a shortcut."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.residual = nn.Sequential(
            RMSNorm(i, False),
            nn.SiLU(),
            CausalConv3d(i, o, 3),
            RMSNorm(o, False),
            nn.SiLU(),
            nn.Identity(),
            CausalConv3d(o, o, 3),
        )
        self.shortcut = CausalConv3d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm1, _, conv1, norm2, _, _, conv2 = self.residual
        return self.shortcut(x) + conv2(norm2.silu(conv1(norm1.silu(x))))


class Attention(nn.Module):
    """One head over the pixels of each frame."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = RMSNorm(channels, True)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, C, T, H, W = x.shape
        y = self.norm(x.transpose(1, 2).reshape(B * T, C, H, W))
        qkv = F.conv2d(y, self.to_qkv.weight.to(y.dtype), self.to_qkv.bias.to(y.dtype))
        q, k, v = qkv.reshape(B * T, 3, C, H * W).transpose(2, 3).unbind(1)  # [B*T, H*W, C]
        weights = torch.softmax((q @ k.transpose(1, 2)).float() * C**-0.5, -1).to(v.dtype)
        y = (weights @ v).transpose(1, 2).reshape(B * T, C, H, W)
        y = F.conv2d(y, self.proj.weight.to(y.dtype), self.proj.bias.to(y.dtype))
        return x + y.reshape(B, T, C, H, W).transpose(1, 2)


def _spatial_conv(conv: nn.Conv2d, x: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
    weight, bias = conv.weight.to(x.dtype)[:, :, None], conv.bias.to(x.dtype)
    return F.conv3d(x, weight, bias, stride=(1, stride, stride), padding=(0, padding, padding))


class Downsample(nn.Module):
    """Half the height and width, and where `temporal` half the later frames."""

    def __init__(self, channels: int, temporal: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(channels, channels, 3, stride=2))
        if temporal:
            self.time_conv = CausalConv3d(channels, channels, (3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = _spatial_conv(self.resample[1], F.pad(x, (0, 1, 0, 1)), stride=2)
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], self.time_conv(x, causal=False, stride=(2, 1, 1))], 2)
        return x


class Upsample(nn.Module):
    """Twice the height and width at half the channels, and where `temporal` twice the later frames."""

    def __init__(self, channels: int, temporal: bool):
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(channels, channels // 2, 3, padding=1))
        if temporal:
            self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if hasattr(self, "time_conv") and x.shape[2] > 1:
            later = F.pad(x[:, :, 1:], (0, 0, 0, 0, 2, 0))  # the first latent frame is one pixel frame, others are four
            later = self.time_conv(later, causal=False)
            B, C2, T, H, W = later.shape
            later = later.reshape(B, 2, C2 // 2, T, H, W).permute(0, 2, 3, 1, 4, 5).reshape(B, C2 // 2, 2 * T, H, W)
            x = torch.cat([x[:, :, :1], later], 2)
        x = F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")
        return _spatial_conv(self.resample[1], x, padding=1)


class Encoder(nn.Module):
    """Video [B, 3, 1+4k, H, W] -> [B, outputs, 1+k, H/8, W/8]."""

    def __init__(self, dim: int, outputs: int):
        super().__init__()
        widths = [dim] + [dim * m for m in CHANNELS]
        self.conv1 = CausalConv3d(3, dim, 3)
        layers: list[nn.Module] = []
        for level in range(4):
            i, o = widths[level], widths[level + 1]
            layers += [ResidualBlock(i, o), ResidualBlock(o, o)]
            if level < 3:
                layers.append(Downsample(o, TEMPORAL[level]))
        self.downsamples = nn.Sequential(*layers)
        self.middle = nn.Sequential(ResidualBlock(o, o), Attention(o), ResidualBlock(o, o))
        self.head = nn.Sequential(RMSNorm(o, False), nn.SiLU(), CausalConv3d(o, outputs, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.middle(self.downsamples(self.conv1(x)))
        return self.head[2](self.head[0].silu(x))


class Decoder(nn.Module):
    """Latent [B, inputs, 1+k, h, w] -> video [B, 3, 1+4k, 8h, 8w]."""

    def __init__(self, dim: int, inputs: int):
        super().__init__()
        widths = [dim * m for m in (CHANNELS[-1], *CHANNELS[::-1])]
        c = widths[0]
        self.conv1 = CausalConv3d(inputs, c, 3)
        self.middle = nn.Sequential(ResidualBlock(c, c), Attention(c), ResidualBlock(c, c))
        layers: list[nn.Module] = []
        for level in range(4):
            i, o = widths[level] // (2 if level else 1), widths[level + 1]
            layers += [ResidualBlock(i, o), ResidualBlock(o, o), ResidualBlock(o, o)]
            if level < 3:
                layers.append(Upsample(o, TEMPORAL[2 - level]))
        self.upsamples = nn.Sequential(*layers)
        self.head = nn.Sequential(RMSNorm(dim, False), nn.SiLU(), CausalConv3d(dim, 3, 3))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = self.upsamples(self.middle(self.conv1(z)))
        return self.head[2](self.head[0].silu(x))


class VAE(nn.Module):
    """Video [B, 3, 1+4k, H, W] in -1..1 <-> latent [B, 16, 1+k, H/8, W/8]."""

    def __init__(self, dim: int = 8, latent_channels: int = 16):
        super().__init__()
        self.encoder = Encoder(dim, 2 * latent_channels)
        self.conv1 = CausalConv3d(2 * latent_channels, 2 * latent_channels, 1)
        self.conv2 = CausalConv3d(latent_channels, latent_channels, 1)
        self.decoder = Decoder(dim, latent_channels)
        self._initialise()

    def _initialise(self) -> None:
        """Start as an image model: convolutions look at the present frame, residual branches whisper."""
        for name, module in self.named_modules():
            if isinstance(module, CausalConv3d) and module.weight.shape[2:] == (3, 3, 3):
                nn.init.kaiming_normal_(module.weight.data[:, :, -1], nonlinearity="linear")
                module.weight.data[:, :, :-1] *= 0.1
                module.bias.data.normal_(0, 0.05)
            if isinstance(module, ResidualBlock):
                module.residual[6].weight.data *= 0.2
            if isinstance(module, Attention):
                module.proj.weight.data *= 0.1
            if name.endswith("time_conv"):
                o, i = module.weight.shape[:2]
                module.weight.data.normal_(0, 0.3 / i**0.5)
                module.weight.data[:, :, 2, 0, 0] += torch.eye(i).repeat(o // i, 1)

    def moments(self, video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the latent."""
        mean, log_variance = self.conv1(self.encoder(video)).chunk(2, 1)
        return mean, log_variance

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.conv2(latent))
