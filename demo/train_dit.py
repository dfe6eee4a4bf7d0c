"""Trains the demo transformer together with its text encoder, by flow matching on encoded clips.

    python -m longreel.demo.train_dit LATENTS OUT_FOLDER [--minutes 80]
    python -m longreel.demo.train_dit LATENTS OUT_FOLDER --second-shots [--minutes 60]

The second form goes on from the weights in demo/weights with pairs of shots: two clips of one object, each with its own
prompt, the later one seeing the first in self-attention, as large video models have seen cuts and long takes. Later
shots mostly leave the colour unsaid. The first shots are ordinary clips, so what the model can do by itself is kept.

Clips of 1, 5 and 6 latent frames; attributes are left out of the prompt at random, so that an unnamed colour is
drawn at random (which is what makes recall measurable), and the whole text in one of ten. Muon on the blocks'
matrices, AdamW on the rest, learning rate constant, then linear to nearly nothing; exponential moving average of the
weights. A checkpoint every four minutes and when interrupted (Ctrl-C); the same command resumes. `--export` writes a checkpoint's averaged weights
to demo/weights.
"""

import argparse
import json
import random
import signal
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from . import dit_net, text_encoder, world
from .muon import Muon

WEIGHTS = Path(__file__).parent / "weights"
SHAPE = dict(width=192, ffn_width=768, heads=6, layers=6)
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


def random_prompt(scene: world.Scene, rng: random.Random, left_out=LEFT_OUT, complete=0.5, empty=0.1) -> str:
    """Half of the sentences say everything; size is always optional; one in ten is empty."""
    if rng.random() < empty:
        return ""
    whole = rng.random() < complete
    naming = tuple(a for a in ATTRIBUTES if whole or rng.random() >= left_out[a])
    return world.prompt(scene, naming + (("size",) if rng.random() < 0.4 else ()))


class Pairs:
    """Which clips may follow each other: same shape, colour, background and size, another movement."""

    def __init__(self, scenes: list[world.Scene], allowed: list[int]):
        self.scenes, self.groups = scenes, {}
        for i in allowed:
            self.groups.setdefault(self.look(i), []).append(i)
        self.allowed = allowed

    def look(self, i: int) -> tuple:
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
            silent = rng.random() < 0.1
            said_first.append("" if silent else random_prompt(self.scenes[a], rng, empty=0))
            said_second.append("" if silent else random_prompt(self.scenes[b], rng, left_out, complete=0, empty=0))
            first.append(a)
            second.append(b)
        return first + second, said_first + said_second


def random_sigmas(count: int) -> torch.Tensor:
    """Share of noise, in (0, 1): mostly logit-normal, some uniform, shifted."""
    u = torch.where(torch.rand(count) < 0.3, torch.rand(count), torch.sigmoid(torch.randn(count)))
    return (SHIFT * u / (1 + (SHIFT - 1) * u)).clamp(1e-3, 1 - 1e-4)


def flow_loss(dit, encoder, latents, noise, sigmas, ids, second_shots: bool = False) -> torch.Tensor:
    """Squared error of the velocity per clip -> [B]"""
    s = sigmas.view(-1, 1, 1, 1, 1)
    velocity = dit(s * noise + (1 - s) * latents, sigmas * 1000, encoder(ids), second_shots)
    return ((velocity - (noise - latents)) ** 2).mean((1, 2, 3, 4))


def token_ids(prompts: list[str]) -> torch.Tensor:
    return torch.tensor([text_encoder.tokenize(p).padded() for p in prompts])


def bundled(name: str) -> dict[str, torch.Tensor]:
    return {k: w.float() for k, w in load_file(WEIGHTS / f"{name}.safetensors").items()}


def export(checkpoint: Path) -> None:
    saved = torch.load(checkpoint)["ema"]
    shape = {"transformer": {"num_heads": SHAPE["heads"], "text_dim": text_encoder.WIDTH}}
    for part, name, metadata in (
        ("dit.", "shapeworld_t2v", {"config": json.dumps(shape)}),
        ("text.", "shapeworld_text", None),
    ):
        state = {k.removeprefix(part): v.half().contiguous() for k, v in saved.items() if k.startswith(part)}
        save_file(state, WEIGHTS / f"{name}.safetensors", metadata=metadata)


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("latents", help="files of encode_clips, separated by commas")
    args.add_argument("out", type=Path)
    args.add_argument("--minutes", type=float, default=80)
    args.add_argument("--second-shots", action="store_true", help="go on from the bundled weights with pairs of shots")
    args.add_argument("--rate", type=float, default=1.0, help="of the learning rates")
    args.add_argument("--hold", type=float, default=0.4, help="share of the time before the learning rate decays")
    args.add_argument("--seed", type=int, default=0)
    args.add_argument("--threads", type=int, default=torch.get_num_threads())
    args.add_argument("--export", action="store_true", help="write OUT_FOLDER/dit.pt to demo/weights and stop")
    opts = args.parse_args()
    checkpoint = opts.out / "dit.pt"
    if opts.export:
        return export(checkpoint)
    opts.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(opts.threads)
    torch.manual_seed(opts.seed)
    rng = random.Random(opts.seed)
    files = [torch.load(name, weights_only=False) for name in opts.latents.split(",")]
    latents = torch.cat([f["latents"] for f in files])
    scenes, valid = [s for f in files for s in f["scenes"]], torch.cat([f["latent_frames"] for f in files]).tolist()
    held = 128  # clips for the validation loss; held-out combinations are not in the file at all
    long_enough = {t: [i for i in range(held, len(scenes)) if valid[i] >= t] for t, _ in LENGTHS}

    dit, encoder = dit_net.DiT(**SHAPE), text_encoder.TextEncoder()
    both = torch.nn.ModuleDict({"dit": dit, "text": encoder})
    if opts.second_shots:
        dit.load_state_dict(bundled("shapeworld_t2v"))
        encoder.load_state_dict(bundled("shapeworld_text"))
        pairs = {t: Pairs(scenes, long_enough[t]) for t, _ in LENGTHS if t > 1}
    parameters = dict(both.named_parameters())
    print(
        f"{sum(p.numel() for p in dit.parameters()) / 1e6:.2f} M + {sum(p.numel() for p in encoder.parameters()) / 1e6:.2f} M "
        f"parameters, {len(scenes)} clips",
        flush=True,
    )
    matrices = [p for n, p in parameters.items() if n.startswith("dit.blocks.") and p.ndim == 2 and "norm" not in n]
    inner = set(map(id, matrices))
    others = [p for p in parameters.values() if id(p) not in inner]
    adam = torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.01)
    muon = Muon(matrices)
    ema = {n: p.detach().clone() for n, p in parameters.items()}
    step, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        both.load_state_dict(saved["model"]), adam.load_state_dict(saved["adam"])
        muon.state, ema, step, spent = saved["muon"], saved["ema"], saved["step"], saved["seconds"]
        rng.seed(opts.seed + step)
        torch.manual_seed(opts.seed + step)
    torch._dynamo.config.recompile_limit = 64
    dit_net.Block.forward = torch.compile(dit_net.Block.forward, dynamic=False)  # one small graph, shared by the blocks

    test_rng = random.Random(3)
    test_ids = token_ids([world.prompt(s) for s in scenes[:held]])
    test = latents[:held, :, :5].float().contiguous()
    generator = torch.Generator().manual_seed(3)
    test_noise, test_sigmas = torch.randn(test.shape, generator=generator), torch.linspace(0.02, 0.99, held)
    test_sigmas = test_sigmas[test_rng.sample(range(held), held)]

    interrupted: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: interrupted.append(number))
    last = report = saved_at = time.time()
    losses: list[float] = []
    while spent < opts.minutes * 60 and not interrupted:
        progress = spent / (opts.minutes * 60)
        rate = (
            opts.rate
            * min(1.0, (step + 1) / 100)
            * (1 if progress < opts.hold else max(0.02, (1 - progress) / (1 - opts.hold)))
        )
        frames = rng.choices([t for t, _ in LENGTHS], [w for _, w in LENGTHS])[0]
        batch = BATCH * (3 if frames == 1 else 1)
        in_pairs = opts.second_shots and frames > 1
        if in_pairs:
            picked, prompts = pairs[frames].draw(PAIRS, rng)
            sigmas = random_sigmas(PAIRS).repeat(2)  # both shots stand at one step of the sampler
        else:
            picked = [rng.choice(long_enough[frames]) for _ in range(batch)]
            prompts, sigmas = [random_prompt(scenes[i], rng) for i in picked], random_sigmas(batch)
        clean = latents[picked][:, :, :frames].float().contiguous()
        loss = flow_loss(dit, encoder, clean, torch.randn_like(clean), sigmas, token_ids(prompts), in_pairs).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for group in adam.param_groups:
            group["lr"] = ADAM_RATE * rate
        adam.step()
        muon.step(MUON_RATE * rate)
        both.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.values()), list(parameters.values()), 1 - min(EMA, (step + 1) / (step + 10)))
        step += 1
        if frames > 1:
            losses.append(loss.item())
        now = time.time()
        spent, last = spent + min(now - last, 5.0), now  # compiling is not training
        if now - report > 60:
            with torch.no_grad():
                current = {n: p.detach().clone() for n, p in parameters.items()}
                both.load_state_dict(ema, strict=False)
                error = torch.cat(
                    [
                        flow_loss(dit, encoder, *part)
                        for part in zip(*(t.split(32) for t in (test, test_noise, test_sigmas, test_ids)))
                    ]
                )
                both.load_state_dict(current, strict=False)
            print(
                json.dumps(
                    dict(
                        seconds=round(spent),
                        step=step,
                        train=round(sum(losses) / max(1, len(losses)), 4),
                        validation=round(error.mean().item(), 4),
                        high_noise=round(error[test_sigmas > 0.8].mean().item(), 4),
                        rate=round(rate, 3),
                    )
                ),
                flush=True,
            )
            losses, last, report = [], time.time(), time.time()
        if now - saved_at > 240 or spent >= opts.minutes * 60 or interrupted:
            torch.save(
                dict(
                    model=both.state_dict(), ema=ema, adam=adam.state_dict(), muon=muon.state, step=step, seconds=spent
                ),
                checkpoint.with_suffix(".tmp"),
            )
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            last = saved_at = time.time()


if __name__ == "__main__":
    main()
