"""The demo model as a student of longreel.training: its network in the fast form, with TTT layers in some blocks.

What it computes is what hosts/ttt/student.py's student computes of the demo model in ComfyUI, which trains any family;
this one is several times faster on a CPU, because all segments of all stories go through a block at once, in bfloat16
(tests/demo/test_ttt_student.py compares the two). Source of the arrangement: One-Minute Video Generation with Test-Time
Training (arXiv 2504.05298, section 3): attention within each segment, neighbours share one latent frame and take the
mean there, the layer behind attention and before the block's gate. Text comes in by cross attention alone, where a
frame hears the prompt of the first segment that it belongs to.

The network is frozen. A config file names `build`:

    [model]
    builder = "longreel.demo.ttt_student:build"
    kind = "mlp"

Which stories, steps and rates there are is not known here (demo/ttt_*.toml).
"""

import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from ..engine.plan.facts import ModelFacts
from ..engine.sampling.denoising import FlowMatching
from ..engine.settings import check_settings
from ..engine.ttt.block import TTTBlock
from ..engine.ttt.files import LoadedTTT, load_ttt, save_ttt
from ..engine.ttt.layer import MLP, OWN, TTTConfig
from ..engine.ttt.order import Layout
from . import dit_net, stories, twin
from .encode_stories import decode, encode, stories_for

FACTS = ModelFacts(
    "Wan",
    latent_channels=16,
    temporal_stride=4,
    spatial_stride=8,
    size_multiple=16,
    native_latent_frames=21,
    native_fps=16.0,
)  # as hosts/families/wan.py says of the demo model
TTT, TEXT = "ttt", "text"  # as in training/student.py
SHIFT = 8.0  # of the levels towards noise: Wan's own
SHARED_FRAMES = 1
SAMPLE_STEPS, SAMPLE_CFG = 16, 4.0


@dataclass(frozen=True)
class Settings:
    """kind, heads, chunk, base_rate: see engine/ttt/layer.TTTConfig. blocks: those that get a layer, from 0. gate: what
    the gates open to at the start, before their tanh. start_scale: deviation of the small networks' first weights (mlp,
    linear). start: a file of layers to go on from, "" for new ones. samples: stories shown at every validation, 0 for
    none, of sample_segments segments. compile: blocks are compiled while gradients are recorded (torch.compile, which
    needs a C++ compiler): minutes once for each length of story, and two thirds of the time of a step from then on.
    lead_frames: latent frames in front of each segment that its attention looks at too, 0 as published. weights: a
    folder with the networks, "" for the bundled ones."""

    kind: str = MLP
    heads: int = 6
    chunk: int = 64
    base_rate: float = 4.0
    blocks: list = (1, 2, 3, 4)
    gate: float = 0.1
    start_scale: float = 0.02
    start: str = ""
    samples: int = 0
    sample_segments: int = 6
    seed: int = 0
    compile: bool = False
    lead_frames: int = 0
    weights: str = ""


def weights_of(settings: Settings) -> Path:
    """Return the folder that holds the networks."""
    return Path(settings.weights) if settings.weights else twin.WEIGHTS


def build(settings: Mapping) -> tuple["DemoStudent", "DemoEncoder", object]:
    """training/student.Builder: (student, encoder, sampler or None). Raises ValueError, naming the key, for settings
    that are none."""
    check_settings(Settings, settings, "model")
    chosen = Settings(**settings)
    student = DemoStudent(chosen)
    encoder = DemoEncoder(weights_of(chosen))
    return student, encoder, (lambda: sample_page(student, encoder, chosen)) if chosen.samples else None


class DemoStudent:
    """training/student.Student, on the CPU.

    Raises ValueError for blocks that the network does not have, and a file of layers of another shape.
    """

    facts, device = FACTS, torch.device("cpu")
    objective = FlowMatching(SHIFT)

    def __init__(self, settings: Settings = Settings()):
        self.network = twin.transformer(weights_of(settings))
        count = len(self.network.blocks)
        wrong = [number for number in settings.blocks if not 0 <= number < count]
        if wrong or not settings.blocks:
            raise ValueError(
                f"model.blocks is {list(settings.blocks)} and the network has {count} blocks; use some of 0 to "
                f"{count - 1}"
            )
        config = TTTConfig(
            settings.kind, self.network.width, settings.heads, settings.chunk, settings.base_rate, rates=OWN
        )
        self.layers = _loaded(settings, config) if settings.start else _new(settings, config)
        self.config = config
        self.compiled = torch.compile(_block, dynamic=False) if settings.compile else _block
        weights = {
            **self.network.state_dict(),
            **{
                f"{number}.{name}": value
                for number, layer in self.layers.items()
                for name, value in layer.state_dict().items()
            },
        }
        self.lead_frames = settings.lead_frames
        self.identity = f"shape world {_digest(weights)}" + (f" lead {self.lead_frames}" if self.lead_frames else "")

    def parameters_of(self, adapter: str) -> dict[str, dict[str, nn.Parameter]]:
        """See training/student.Student; "ttt" is all that there is to train."""
        if adapter != TTT:
            raise ValueError(f'adapter {adapter!r} trains the network, and this student\'s is frozen; use "{TTT}"')
        return {
            TTT: {
                f"blocks.{number}.{name}": parameter
                for number, layer in self.layers.items()
                for name, parameter in layer.named_parameters()
                if not name.endswith("_text")
            }
        }

    def checkpoint(self, scan_chunks: int, blocks: bool) -> None:
        """See training/student.Student; a story of twenty segments is small, so blocks keep what they need."""
        if blocks:
            raise ValueError(
                "checkpoint_blocks is true, and this student's 6 blocks are never recomputed; set it "
                "to false in every stage"
            )
        for layer in self.layers.values():
            layer.ttt.checkpoint_every = scan_chunks

    def layout(
        self,
        latent_shape: tuple[int, int, int, int],
        conditioning: Mapping[str, torch.Tensor],
        windows: tuple[tuple[int, int], ...],
    ) -> Layout:
        """See training/student.Student."""
        side = dit_net.PATCH
        leads = tuple(tuple(range(max(0, start - self.lead_frames), start)) for start, _ in windows)
        return Layout((0,) * len(windows), windows, latent_shape[2] // side, latent_shape[3] // side, leads)

    def predict(
        self,
        noised: torch.Tensor,
        levels: torch.Tensor,
        conditioning: Mapping[str, torch.Tensor],
        windows: tuple[tuple[int, int], ...],
    ) -> torch.Tensor:
        """Noised [B, 16, F, h, w], levels [B] sigmas, conditioning text [B, n, 20, 64] -> velocity like noised.

        Raises ValueError for segments of several lengths, or that do not share one frame.
        """
        net, (B, C, T, H, W), side = self.network, noised.shape, dit_net.PATCH
        layout = self.layout((C, T, H, W), conditioning, windows)
        _check_even(windows)
        rows, columns = layout.height, layout.width
        patches = noised.view(B, C, T, rows, side, columns, side).permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)
        x = F.linear(patches, net.patch_embedding.weight.flatten(1), net.patch_embedding.bias)  # [B, L, width]
        angles = torch.outer(levels.float() * 1000, 10000 ** (-torch.arange(128) / 128.0))
        time = net.time_embedding(torch.cat([angles.cos(), angles.sin()], 1)).float()
        modulation = net.time_projection(time).float().unflatten(1, (6, net.width))
        heard = net.text_embedding(conditioning[TEXT].flatten(0, 1)).float()  # [B * n, 20, width]
        table = net.table(windows[0][1] + self.lead_frames, rows, columns)
        evaluate = self.compiled if torch.is_grad_enabled() else _block
        for number, block in enumerate(net.blocks):
            x = evaluate(block, self.layers.get(number), x, modulation, heard, table, layout)
        x = net.head(x, time[:, None]).view(B, T, rows, columns, side, side, C).permute(0, 6, 1, 2, 4, 3, 5)
        return x.reshape(B, C, T, H, W)

    def save(self, path: Path, segment_latent_frames: int, title: str) -> None:
        """See training/student.Student."""
        held = {
            number: {name: value.detach().clone() for name, value in layer.state_dict().items()}
            for number, layer in self.layers.items()
        }
        save_ttt(
            path,
            LoadedTTT(
                held,
                self.config,
                FACTS.family,
                segment_latent_frames,
                len(self.network.blocks),
                title,
                self.lead_frames,
            ),
        )


class DemoEncoder:
    """training/student.Encoder: the text encoder and VAE of a folder of weights."""

    def __init__(self, folder: Path = twin.WEIGHTS):
        self.text = twin.text(folder)
        self.vae = twin.vae(folder / twin.VAE)
        self.text_identity = f"shape world {_digest(self.text.state_dict())}"
        self.video_identity = f"shape world {_digest(self.vae.state_dict())}"

    def encode_text(self, prompt: str) -> dict[str, torch.Tensor]:
        """{"text": [20, 64], or as wide as the encoder}"""
        with torch.no_grad():
            return {TEXT: self.text(twin.token_ids(self.text, [prompt]))[0]}

    def encode_video(self, pixels: torch.Tensor) -> torch.Tensor:
        """[F, H, W, 3] in 0..1 -> [16, 1 + (F - 1) / 4, H / 8, W / 8] float32"""
        return encode(self.vae, pixels.permute(0, 3, 1, 2))


@torch.no_grad()
def sample(
    student: DemoStudent,
    text: torch.Tensor,
    empty: torch.Tensor,
    noise: torch.Tensor,
    windows: tuple[tuple[int, int], ...],
) -> torch.Tensor:
    """Euler's method with guidance: text [B, n, 20, 64], empty [20, 64], noise [B, 16, F, h, w] -> latents."""
    u = torch.linspace(1, 0, SAMPLE_STEPS + 1)
    sigmas = SHIFT * u / (1 + (SHIFT - 1) * u)
    both = {TEXT: torch.cat([text, empty.expand_as(text)])}
    x = noise
    for now, then in itertools.pairwise(sigmas):
        said, unconditional = student.predict(torch.cat([x, x]), now.expand(2 * len(x)), both, windows).chunk(2)
        x = x + (then - now) * (unconditional + SAMPLE_CFG * (said - unconditional))
    return x


def sample_page(student: DemoStudent, encoder: DemoEncoder, settings: Settings) -> list[torch.Tensor]:
    """Videos [F, H, W, 3] of stories whose colour or coat is named once, always the same ones."""
    shown, rng = [], random.Random(settings.seed)
    count = settings.sample_segments
    frames = count * (stories.STEP_FRAMES // FACTS.temporal_stride) + SHARED_FRAMES
    windows = tuple((4 * number, 4 * number + 5) for number in range(count))
    empty, told = encoder.encode_text("")[TEXT], stories_for(encoder.text)
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in range(settings.samples):
        story = told.random_story(told.KINDS[0], count, rng)
        side = story.storyboard().width // FACTS.spatial_stride
        text = torch.stack([encoder.encode_text(prompt)[TEXT] for prompt in story.prompts])[None]
        noise = torch.randn(1, FACTS.latent_channels, frames, side, side, generator=generator)
        shown.append(decode(encoder.vae, sample(student, text, empty, noise, windows)[0]))
    return shown


def _block(
    block: dit_net.Block,
    layer: TTTBlock | None,
    x: torch.Tensor,
    time: torch.Tensor,
    heard: torch.Tensor,
    table: tuple[torch.Tensor, torch.Tensor],
    layout: Layout,
) -> torch.Tensor:
    """dit_net.Block on all segments: x [B, L, C], time [B, 6, C], heard [B * n, 20, C], table of a segment and its
    lead."""
    m = (block.modulation + time).unsqueeze(2).unbind(1)  # six of [B, 1, C]
    y = F.layer_norm(x, (block.width,), eps=1e-6) * (1 + m[1]) + m[0]
    y = _attend_locally(block.self_attn, y, table, layout)
    if layer is not None:
        y = layer(y, layout)
    x = x + y * m[2]
    x = x + _hear(block.cross_attn, block.norm3(x), heard, layout)
    y = F.layer_norm(x, (block.width,), eps=1e-6) * (1 + m[4]) + m[3]
    return x + block.ffn(y).float() * m[5]


def _attend_locally(attention: dit_net.Attention, x: torch.Tensor, table, layout: Layout) -> torch.Tensor:
    """X [B, L, C] -> [B, L, C]; a frame that two segments share is given the mean of both."""
    B, _, C = x.shape
    P, n, length = layout.frame_tokens, layout.segments, layout.windows[0][1]  # the first window starts at 0
    step = length - SHARED_FRAMES
    frames, lead = x.view(B, -1, P, C), len(layout.leads[-1])

    def attend(windows: torch.Tensor) -> torch.Tensor:
        """[B, n, P, C, F] -> [B, n, F, P, C]."""
        count, seen = windows.shape[1], windows.shape[-1]
        rows = windows.permute(0, 1, 4, 2, 3).reshape(B * count, seen * P, C)
        return attention(rows, rows, tuple(t[:, : seen * P] for t in table)).view(B, count, seen, P, C)

    if lead and n > 1:  # the first segment has none
        later = frames[:, step - lead :].unfold(1, length + lead, step)
        out = torch.cat([attend(frames[:, :length].unfold(1, length, step)), attend(later)[:, :, lead:]], 1)
    else:
        out = attend(frames.unfold(1, length, step))
    own = torch.cat([out[:, :1, 0], out[:, :, 1:].flatten(1, 2)], 1)  # [B, F, P, C], shared frames as the earlier has
    if n > 1:
        later = F.pad(out[:, 1:, :1], (0, 0, 0, 0, step - 1, 0)).flatten(1, 2)  # [B, (n - 1) * step, P, C]
        later = F.pad(later, (0, 0, 0, 0, 1, step))
        weight = torch.ones(layout.frames, 1, 1)
        weight[step:-1:step] = 0.5
        own = (own + later) * weight
    return own.reshape(B, -1, C)


def _hear(attention: dit_net.Attention, x: torch.Tensor, heard: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Cross attention of x [B, L, C] to heard [B * n, T, C]: each segment's own frames to its own prompt."""
    B, _, C = x.shape
    h, P, n = attention.heads, layout.frame_tokens, layout.segments
    q = attention.norm_q(attention.q(x)).view(B, -1, h, C // h).transpose(1, 2)  # [B, h, L, d]
    k = attention.norm_k(attention.k(heard)).view(B, n, -1, h, C // h).transpose(2, 3)  # [B, n, h, T, d]
    v = attention.v(heard).float().view(B, n, -1, h, C // h).transpose(2, 3)
    first = dit_net.attend(q[:, :, :P], k[:, 0], v[:, 0])  # the first segment has a frame more than the others
    rest = q[:, :, P:].unflatten(2, (n, -1)).transpose(1, 2).flatten(0, 1)  # [B * n, h, L / n, d]
    rest = dit_net.attend(rest, k.flatten(0, 1), v.flatten(0, 1)).unflatten(0, (B, n)).transpose(1, 2).flatten(2, 3)
    return attention.o(torch.cat([first, rest], 2).transpose(1, 2).reshape(B, -1, C)).float()


def _check_even(windows: Sequence[tuple[int, int]]) -> None:
    length = windows[0][1]
    for number, (start, stop) in enumerate(windows):
        wanted = number * (length - SHARED_FRAMES)
        if (start, stop) != (wanted, wanted + length):
            raise ValueError(
                f"segment {number + 1} sees latent frames {start} to {stop}, not {wanted} to "
                f"{wanted + length}; this student takes segments of one length that share "
                f"{SHARED_FRAMES} frame"
            )


class _Operations:
    """Products in bfloat16, as the network's own while it trains."""

    LayerNorm = nn.LayerNorm

    class Linear(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not dit_net.HALF_PRECISION:
                return F.linear(x, self.weight, self.bias)
            return F.linear(x.bfloat16(), self.weight.bfloat16(), self.bias.bfloat16()).float()


def _new(settings: Settings, config: TTTConfig) -> dict[int, TTTBlock]:
    """Layers with open gates, drawn from the settings' seed."""
    layers = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for number in sorted(settings.blocks):
            layers[number] = layer = TTTBlock(config, _Operations)
            with torch.no_grad():
                for gate in (layer.forward_video, layer.backward_video):
                    gate.fill_(settings.gate)
                for name in ("W1", "W2"):
                    if hasattr(layer.ttt, name):
                        nn.init.normal_(getattr(layer.ttt, name), std=settings.start_scale)
    return layers


def _loaded(settings: Settings, config: TTTConfig) -> dict[int, TTTBlock]:
    found = load_ttt(settings.start)
    if found.config != config or sorted(found.layers) != sorted(settings.blocks):
        raise ValueError(
            f"{settings.start} holds {found.config} in blocks {sorted(found.layers)}, and the settings say "
            f"{config} in {sorted(settings.blocks)}; correct [model], or start new layers"
        )
    layers = {number: TTTBlock(config, _Operations) for number in sorted(found.layers)}
    for number, layer in layers.items():
        layer.load_state_dict({name: value.float() for name, value in found.layers[number].items()})
    return layers


def _digest(weights: Mapping[str, torch.Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(name.encode())
        found.update(weights[name].detach().float().contiguous().numpy().tobytes())
    return found.hexdigest()
