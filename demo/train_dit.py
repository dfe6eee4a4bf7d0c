"""Trains the demo transformer together with its text encoder, by flow matching on encoded clips.

    python -m longreel.demo.train_dit LATENTS OUT_FOLDER [--minutes 80]
    python -m longreel.demo.train_dit LATENTS OUT_FOLDER --second-shots [--minutes 60]

The second form goes on from the weights in demo/weights with pairs of shots: two clips of one object, each with its own
prompt, the later one seeing the first in self-attention, as large video models have seen cuts and long takes. Later
shots mostly leave the colour unsaid. The first shots are ordinary clips, so what the model can do by itself is kept.

Clips of 1, 5 and 6 latent frames; attributes are left out of the prompt at random, so that an unnamed colour is
drawn at random (which is what makes recall measurable), and the whole text in one of ten. Muon on the blocks'
matrices, AdamW on the rest, learning rate constant, then linear to nearly nothing; exponential moving average of the
weights. A checkpoint every four minutes and when interrupted (Ctrl-C); the same command resumes. `--export` writes a
checkpoint's averaged weights to demo/weights.
"""

import argparse
import json
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from . import dit_net, text_encoder, twin, world
from .muon import Muon

SHAPE = {"width": 192, "ffn_width": 768, "heads": 6, "layers": 6}
SHIFT = 6.0  # of the timestep towards noise; sampling uses Wan's own 8 or less
BATCH = 64
MUON_RATE, ADAM_RATE = 0.02, 3e-3
EMA = 0.999
LENGTHS = ((5, 0.62), (6, 0.28), (1, 0.10))  # latent frames, share of the steps
ATTRIBUTES = ("color", "shape", "motion", "background")
LEFT_OUT = {"color": 0.2, "shape": 0.08, "motion": 0.08, "background": 0.12}
LEFT_OUT_LATER = {"color": 0.8, "shape": 0.15, "motion": 0.05, "background": 0.15}
OTHER_OBJECT = 0.15  # share of the pairs whose second shot shows and names something else
PAIRS = 32
HELD_OUT = 128  # clips for the validation loss; held-out combinations are not in the files at all
REPORT_SECONDS, SAVE_SECONDS = 60, 240
LONGEST_STEP_SECONDS = 5.0  # that count as training: compiling does not


def random_prompt(
    scene: world.Scene,
    rng: random.Random,
    left_out: Mapping[str, float] = LEFT_OUT,
    complete: float = 0.5,
    empty: float = 0.1,
) -> str:
    """A sentence about a scene. Half of them say everything; size is always optional; one in ten is empty."""
    if rng.random() < empty:
        return ""
    whole = rng.random() < complete
    naming = tuple(a for a in ATTRIBUTES if whole or rng.random() >= left_out[a])
    return world.prompt(scene, naming + (("size",) if rng.random() < 0.4 else ()))


class Pairs:
    """Which clips may follow each other: same shape, colour, background and size, another movement."""

    def __init__(self, scenes: list[world.Scene], allowed: list[int]) -> None:
        """Group the scenes whose numbers are allowed by their look."""
        self.scenes, self.allowed = scenes, allowed
        self.groups: dict[tuple[str, ...], list[int]] = {}
        for i in allowed:
            self.groups.setdefault(self.look(i), []).append(i)

    def look(self, i: int) -> tuple[str, ...]:
        """What a shot shares with those that may follow it: shape, colour, background, size."""
        s = self.scenes[i]
        return s.shape, s.color, s.background, s.size

    def draw(self, count: int, rng: random.Random) -> tuple[list[int], list[str]]:
        """Numbers and prompts of `count` first shots, then of the shots that follow them."""
        first, second, said_first, said_second = [], [], [], []
        for _ in range(count):
            a = rng.choice(self.allowed)
            other = rng.random() < OTHER_OBJECT
            b = rng.choice(self.allowed if other else self.groups[self.look(a)])
            left_out = {**LEFT_OUT_LATER, "color": 0.0, "shape": 0.0} if other else LEFT_OUT_LATER
            unconditional = rng.random() < 0.1
            said_first.append("" if unconditional else random_prompt(self.scenes[a], rng, empty=0))
            said_second.append(
                "" if unconditional else random_prompt(self.scenes[b], rng, left_out, complete=0, empty=0)
            )
            first.append(a)
            second.append(b)
        return first + second, said_first + said_second


def random_sigmas(count: int) -> torch.Tensor:
    """Share of noise, in (0, 1): mostly logit-normal, some uniform, shifted."""
    u = torch.where(torch.rand(count) < 0.3, torch.rand(count), torch.sigmoid(torch.randn(count)))
    return (SHIFT * u / (1 + (SHIFT - 1) * u)).clamp(1e-3, 1 - 1e-4)


def flow_loss(
    dit: dit_net.DiT,
    encoder: text_encoder.TextEncoder,
    latents: torch.Tensor,
    noise: torch.Tensor,
    sigmas: torch.Tensor,
    ids: torch.Tensor,
    second_shots: bool = False,
) -> torch.Tensor:
    """The squared error of the velocity [B] of clips [B, C, F, h, w] at sigmas [B], with prompts' token ids [B, L]."""
    s = sigmas.view(-1, 1, 1, 1, 1)
    velocity = dit(s * noise + (1 - s) * latents, sigmas * 1000, encoder(ids), second_shots)
    return ((velocity - (noise - latents)) ** 2).mean((1, 2, 3, 4))


def export(checkpoint: Path) -> None:
    """Write a checkpoint's averaged weights to demo/weights, in float16."""
    twin.write(twin.WEIGHTS, torch.load(checkpoint)["ema"], SHAPE["heads"])


class EncodedClips:
    """The clips of encode_clips' files.

    latents: [N, 16, F, 8, 8]. scenes: what each shows. long_enough: for each length of LENGTHS the numbers of the clips
    that have as many latent frames; the first HELD_OUT clips are validated on and in none of them.
    """

    def __init__(self, files: list[Path]) -> None:
        """Read all files into memory."""
        found = [torch.load(file, weights_only=False) for file in files]
        self.latents = torch.cat([one["latents"] for one in found])
        self.scenes: list[world.Scene] = [scene for one in found for scene in one["scenes"]]
        frames = torch.cat([one["latent_frames"] for one in found]).tolist()
        self.long_enough = {
            length: [i for i in range(HELD_OUT, len(self.scenes)) if frames[i] >= length] for length, _ in LENGTHS
        }

    def clean(self, numbers: list[int], frames: int) -> torch.Tensor:
        """[B, 16, frames, 8, 8] float32: the first latent frames of these clips."""
        return self.latents[numbers][:, :, :frames].float().contiguous()


class Learner:
    """Transformer and text encoder with their optimisers and the average of their weights.

    step: steps made. seconds: of training.
    """

    def __init__(self, networks: tuple[dit_net.DiT, text_encoder.TextEncoder] | None = None) -> None:
        """Take the networks given, or draw new weights from torch's generator."""
        self.dit, self.encoder = networks or (dit_net.DiT(**SHAPE), text_encoder.TextEncoder())
        self.both = torch.nn.ModuleDict({"dit": self.dit, "text": self.encoder})
        self.both.requires_grad_(True)
        self.parameters = dict(self.both.named_parameters())
        matrices = [
            p for n, p in self.parameters.items() if n.startswith("dit.blocks.") and p.ndim == 2 and "norm" not in n
        ]
        inner = set(map(id, matrices))
        self.others = [p for p in self.parameters.values() if id(p) not in inner]
        self.adam = torch.optim.AdamW(self.others, betas=(0.9, 0.98), weight_decay=0.01)
        self.muon = Muon(matrices)
        self.ema = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.step, self.seconds = 0, 0.0

    def update(self, loss: torch.Tensor, rate: float) -> None:
        """One step of both optimisers. rate: share of the highest learning rates."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = ADAM_RATE * rate
        self.adam.step()
        self.muon.step(MUON_RATE * rate)
        self.both.zero_grad(set_to_none=True)
        change = 1 - min(EMA, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), list(self.parameters.values()), change)
        self.step += 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The networks have the averaged weights meanwhile."""
        current = {n: p.detach().clone() for n, p in self.parameters.items()}
        self.both.load_state_dict(self.ema, strict=False)
        try:
            yield
        finally:
            self.both.load_state_dict(current, strict=False)

    def save(self, checkpoint: Path) -> None:
        """Write all that a resumed run needs; an older file stays until the new one is complete."""
        unfinished = checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "model": self.both.state_dict(),
                "ema": self.ema,
                "adam": self.adam.state_dict(),
                "muon": self.muon.state,
                "step": self.step,
                "seconds": self.seconds,
            },
            unfinished,
        )
        unfinished.replace(checkpoint)

    def load(self, checkpoint: Path) -> None:
        """Go on from what `save` wrote."""
        saved = torch.load(checkpoint, map_location=next(self.both.parameters()).device)
        self.both.load_state_dict(saved["model"])
        self.adam.load_state_dict(saved["adam"])
        self.muon.state, self.ema = saved["muon"], saved["ema"]
        self.step, self.seconds = saved["step"], saved["seconds"]


class Validation:
    """The held-out clips with their whole prompts, always at the same levels and with the same noise."""

    def __init__(self, clips: EncodedClips) -> None:
        """Take 5 latent frames of each clip."""
        self.clean = clips.clean(list(range(HELD_OUT)), 5)
        self.prompts = [world.prompt(scene) for scene in clips.scenes[:HELD_OUT]]
        self.noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(3))
        levels = torch.linspace(0.02, 0.99, HELD_OUT)
        self.sigmas = levels[random.Random(3).sample(range(HELD_OUT), HELD_OUT)]

    @torch.no_grad()
    def losses(self, learner: Learner) -> torch.Tensor:
        """[HELD_OUT]: of each clip, with the averaged weights."""
        ids = twin.token_ids(learner.encoder, self.prompts)
        parts = zip(*(t.split(32) for t in (self.clean, self.noise, self.sigmas, ids)), strict=True)
        with learner.averaged():
            return torch.cat([flow_loss(learner.dit, learner.encoder, *part) for part in parts])


def rate_at(progress: float, step: int, highest: float, hold: float) -> float:
    """Share of the learning rates at progress 0..1: 100 steps up, constant until `hold`, then a line down."""
    decay = 1.0 if progress < hold else max(0.02, (1 - progress) / (1 - hold))
    return highest * min(1.0, (step + 1) / 100) * decay


def draw_batch(
    clips: EncodedClips, pairs: dict[int, Pairs] | None, rng: random.Random
) -> tuple[list[int], int, list[str], torch.Tensor, bool]:
    """What a step is shown: numbers of clips, their latent frames, prompts, sigmas, and whether they are pairs of
    shots."""
    frames = rng.choices([t for t, _ in LENGTHS], [w for _, w in LENGTHS])[0]
    if pairs is not None and frames > 1:
        picked, prompts = pairs[frames].draw(PAIRS, rng)
        return (
            picked,
            frames,
            prompts,
            random_sigmas(PAIRS).repeat(2),
            True,
        )  # both shots stand at one step of the sampler
    batch = BATCH * (3 if frames == 1 else 1)
    picked = [rng.choice(clips.long_enough[frames]) for _ in range(batch)]
    prompts = [random_prompt(clips.scenes[i], rng) for i in picked]
    return picked, frames, prompts, random_sigmas(batch), False


def report(learner: Learner, validation: Validation, losses: list[float], rate: float) -> None:
    """Print a line of JSON; losses: of the steps since the last one."""
    error = validation.losses(learner)
    line = {
        "seconds": round(learner.seconds),
        "step": learner.step,
        "train": round(sum(losses) / max(1, len(losses)), 4),
        "validation": round(error.mean().item(), 4),
        "high_noise": round(error[validation.sigmas > 0.8].mean().item(), 4),
        "rate": round(rate, 3),
    }
    print(json.dumps(line), flush=True)


def train(options: argparse.Namespace, checkpoint: Path) -> None:
    """Train until the time is over or Ctrl-C is pressed, and leave a checkpoint."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    clips = EncodedClips([Path(name) for name in options.latents.split(",")])
    learner = Learner((twin.transformer(), twin.text()) if options.second_shots else None)
    pairs = None
    if options.second_shots:
        pairs = {t: Pairs(clips.scenes, clips.long_enough[t]) for t, _ in LENGTHS if t > 1}
    sizes = " + ".join(
        f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M" for network in (learner.dit, learner.encoder)
    )
    print(f"{sizes} parameters, {len(clips.scenes)} clips", flush=True)
    if checkpoint.exists():
        learner.load(checkpoint)
        rng.seed(options.seed + learner.step)
        torch.manual_seed(options.seed + learner.step)
    torch._dynamo.config.recompile_limit = 64
    dit_net.Block.forward = torch.compile(dit_net.Block.forward, dynamic=False)  # one small graph, shared by the blocks
    validation = Validation(clips)

    interrupted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: interrupted.append(number))
    end = options.minutes * 60
    last = reported_at = saved_at = time.time()
    losses: list[float] = []
    while learner.seconds < end and not interrupted:
        rate = rate_at(learner.seconds / end, learner.step, options.rate, options.hold)
        picked, frames, prompts, sigmas, in_pairs = draw_batch(clips, pairs, rng)
        clean = clips.clean(picked, frames)
        noise = torch.randn_like(clean)
        ids = twin.token_ids(learner.encoder, prompts)
        loss = flow_loss(learner.dit, learner.encoder, clean, noise, sigmas, ids, in_pairs).mean()
        learner.update(loss, rate)
        if frames > 1:
            losses.append(loss.item())
        now = time.time()
        learner.seconds, last = learner.seconds + min(now - last, LONGEST_STEP_SECONDS), now
        if now - reported_at > REPORT_SECONDS:
            report(learner, validation, losses, rate)
            losses, last, reported_at = [], time.time(), time.time()
        if now - saved_at > SAVE_SECONDS or learner.seconds >= end or interrupted:
            learner.save(checkpoint)
            last = saved_at = time.time()


def main() -> None:
    """Read the command line, and train or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("latents", help="files of encode_clips, separated by commas")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument(
        "--second-shots", action="store_true", help="go on from the bundled weights with pairs of shots"
    )
    parser.add_argument("--rate", type=float, default=1.0, help="of the learning rates")
    parser.add_argument("--hold", type=float, default=0.4, help="share of the time before the learning rate decays")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--export", action="store_true", help="write OUT_FOLDER/dit.pt to demo/weights and stop")
    options = parser.parse_args()
    checkpoint = options.out / "dit.pt"
    if options.export:
        return export(checkpoint)
    options.out.mkdir(parents=True, exist_ok=True)
    return train(options, checkpoint)


if __name__ == "__main__":
    main()
