"""What the features keep of true models, and what a card of 16 or 24 GB makes of it.

    python dev.py memory                                  print the tables
    python dev.py memory --card-gib 12 --ram-gib 32       for a card and a machine of your own
    python dev.py memory --write                          write docs/memory.md anew
    python dev.py memory --measure                        run every feature at true width against what it says

Every figure comes from what the pack itself reckons with before sampling: each feature's `need`, and
engine/plan/card_memory.py. The networks are core's, at true width and depth, without weights, so it takes seconds.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from longreel import dev
from tests.bench_support import start_comfyui

PAGE = dev.ROOT / "docs" / "memory.md"
COMMAND = "python dev.py memory --write"
RESERVED_GIB = 1.0  # of a card: what ComfyUI leaves to others (0.4), and CUDA's own context
BUSY_RAM_GIB = 8  # of main memory: the system, ComfyUI, the text encoder
TTT_SECONDS = 63  # the longest stage of the paper
STREAMS = 2  # of core's weight offloading on a card from NVIDIA


@dataclass(frozen=True)
class Size:
    """A video that a model is used for. itemsize: bytes of a weight. pixel_frames: of a segment."""

    network: str
    weights: str
    width: int
    height: int
    pixel_frames: int

    @property
    def title(self) -> str:
        return f"{self.network} {self.weights}, {self.width}x{self.height}, {self.pixel_frames} frames"


ITEMSIZES = {"fp8": 1, "bf16": 2}
SIZES = (
    Size("Wan 1.3B", "bf16", 832, 480, 81),
    Size("Wan 14B", "fp8", 832, 480, 81),
    Size("Wan 14B", "fp8", 1280, 720, 81),
    Size("Wan 2.2 5B", "bf16", 1280, 704, 121),
    Size("HunyuanVideo", "fp8", 848, 480, 129),
    Size("HunyuanVideo", "fp8", 1280, 720, 129),
    Size("HunyuanVideo 1.5", "fp8", 848, 480, 121),
    Size("HunyuanVideo 1.5", "fp8", 1280, 720, 121),
    Size("CogVideoX 5B", "bf16", 720, 480, 49),
    Size("LTXV 2B", "bf16", 768, 512, 97),
    Size("LTXV 13B", "fp8", 1216, 704, 97),
    Size("Kandinsky 5 lite", "bf16", 768, 512, 121),
    Size("Kandinsky 5 pro", "fp8", 768, 512, 121),
)


@dataclass(frozen=True)
class Case:
    """Features that are used together, under a name for people."""

    name: str
    features: tuple[Any, ...]


def cases(blocks: int) -> list[Case]:
    """Every feature that keeps something, at the defaults of its node and at those that docs/measured.md finds best."""
    from longreel.engine.attention import kv_share as engine
    from longreel.hosts.features.kv_share import FAST, KVShare
    from longreel.hosts.features.prompt_edit import Layout, PromptEdit
    from longreel.hosts.memory.long_memory import BEFORE, VIDEO, LongMemory
    from longreel.hosts.memory.short_memory import KeysAndValues

    every, last = frozenset(range(blocks)), frozenset(range(blocks - max(1, round(blocks / 6)), blocks))
    share = KVShare(
        mode=FAST, source=engine.PREVIOUS, source_shot=1, shots=(), across_cuts=True, join=engine.REPLACE,
        placement=engine.ALIGNED, strength=1.0, share_text=True, layers=last, start_percent=0.0, end_percent=1.0,
        mask=None,
    )  # fmt: skip
    long_memory = LongMemory(VIDEO, 2, BEFORE, 1.0, every, 0.5)
    short_memory = KeysAndValues(2, 1.0, 0.0, every)
    return [
        Case("KV Share, previous, last 1/6 of the layers", (share,)),
        Case("KV Share, first, last 1/6", (replace(share, source=engine.FIRST),)),
        Case("KV Share, first, all layers", (replace(share, source=engine.FIRST, layers=every),)),
        Case("Prompt Edit, layout, last 1/6", (PromptEdit(last, layout=Layout(None, 0.0, 0.4)),)),
        Case("Prompt Edit, layout, all layers", (PromptEdit(every, layout=Layout(None, 0.0, 0.04)),)),
        Case("Long Memory, 2 frames, all layers", (long_memory,)),
        Case("Short Memory, 2 frames, all layers", (short_memory,)),
        Case("Long and Short Memory", (long_memory, short_memory)),
    ]


def trained_cases(blocks: int) -> list[Case]:
    """The trained memories, in every layer; what they keep lies on the card."""
    from longreel.hosts.memory.apm import OF_VIDEO, APMFeature
    from longreel.hosts.memory.cam import CAMFeature

    every = tuple(range(blocks))
    return [
        Case("CAM, trained, all layers", (CAMFeature(every, 1.0, ""),)),
        Case("APM, trained, all layers", (APMFeature(OF_VIDEO, every, 1.0, ""),)),
    ]


class Measured:
    """A model at one size: what the network needs, and what each case needs in every way to keep it."""

    def __init__(self, size: Size):
        from longreel.engine.plan.card_memory import WORKING_COPIES, CoreNeeds
        from longreel.hosts.attention.attention_size import attention_size
        from longreel.hosts.families import FAMILIES
        from longreel.hosts.ttt.forward import SEGMENTS
        from tests.bench._true_networks import COMPUTED_WITH, model_of, parameters_of

        model = model_of(size.network)
        family = next(family for family in FAMILIES if family.facts(model))
        facts, itemsize = family.facts(model), COMPUTED_WITH.itemsize
        frames = facts.latent_frames(size.pixel_frames) + 1  # and the lead frame
        rows, columns = size.height // facts.spatial_stride, size.width // facts.spatial_stride
        self.size, self.blocks = size, len(family.blocks(model.diffusion_model))
        self.attention = attention_size(
            family, model.diffusion_model, (1, facts.latent_channels, frames, rows, columns), rows=2,
            text_tokens=family.TEXT_TOKENS, itemsize=itemsize,
        )  # fmt: skip
        # As core reckons where attention is PyTorch's flash attention, comfy/model_base.memory_required.
        window = int(frames * rows * columns * itemsize * 0.01 * model.memory_usage_factor * 2**20)
        self.ttt = None
        if family.NAME in SEGMENTS:
            self.ttt = _bytes_of_ttt(family, model.diffusion_model, facts, rows, columns, itemsize)
        self.shorter = lambda frames: f"segment_frames {facts.pixel_frames(frames - 1)}"
        numbers, largest = parameters_of(model)
        stored = ITEMSIZES[size.weights]
        self.core = CoreNeeds(
            weights=numbers * stored,
            least_weights=largest * (stored * (1 + STREAMS) + itemsize),
            window=2 * window,
            least_window=window,
            latents=4 * frames * rows * columns * facts.latent_channels * WORKING_COPIES * 4,
        )

    def needs(self, case: Case, place: str, form: str) -> list[Any]:
        """The needs of a case's features where they keep so."""
        from longreel.engine.plan.needs import Keep
        from longreel.hosts.attention.remedies import keeping

        return [keeping(feature, Keep(place, form)).need(self.attention) for feature in case.features]

    def verdict(self, case: Case, card_gib: float, ram_gib: float) -> tuple[str, int]:
        """Where a card lets the case keep by itself, and the bytes of the features on it; or what does fit."""
        from longreel.engine.plan.card_memory import GIB, Card, choose_places
        from longreel.engine.plan.needs import MAIN_MEMORY
        from longreel.hosts.attention.remedies import remedies_for

        free = int((card_gib - RESERVED_GIB) * GIB)
        there = Card("card", int(card_gib * GIB), free, int((ram_gib - BUSY_RAM_GIB) * GIB))

        def plan_of(features: Sequence[Any], frames: int) -> Any:
            attention = replace(self.attention, frames=frames)
            share = frames / self.attention.frames
            core = replace(
                self.core,
                window=math.ceil(self.core.window * share),
                least_window=math.ceil(self.core.least_window * share),
            )
            return choose_places(there, core, [feature.need(attention) for feature in features])

        plan = plan_of(case.features, self.attention.frames)
        if plan.fits:
            kept = "main memory" if MAIN_MEMORY in plan.places.values() else "card"
            return kept + ("" if plan.beside_all_weights else ", weights streamed"), plan.features_on_card
        remedies = remedies_for(case.features, self.attention, plan_of, self.shorter)
        return (
            f"no; {remedies[0].words if remedies else 'the window alone is too large at any length'}",
            plan.features_on_card,
        )


def rows(measured: Measured, cards: Sequence[float], ram_gib: float) -> Iterator[list[str]]:
    """A row of the table for each case, in GiB."""
    from longreel.engine.plan.needs import CARD, EIGHT_BIT, FULL, MAIN_MEMORY

    for case in cases(measured.blocks):
        row = [case.name]
        for form in (FULL, EIGHT_BIT):
            on_card, in_main = measured.needs(case, CARD, form), measured.needs(case, MAIN_MEMORY, form)
            row.append(gib(sum(need.on_card(CARD) for need in on_card)))
            row.append(
                f"{gib(sum(need.on_card(MAIN_MEMORY) for need in in_main))} + {gib(sum(need.kept for need in in_main))}"
            )
        for card in cards:
            words, on_card = measured.verdict(case, card, ram_gib)
            row.append(words if words.startswith("no") else f"{words} ({gib(on_card)})")
        yield row
    for case in trained_cases(measured.blocks):
        on_card = [feature.need(measured.attention).on_card(CARD) for feature in case.features]
        verdicts = [measured.verdict(case, card, ram_gib) for card in cards]
        words = [words if words.startswith("no") else f"{words} ({gib(count)})" for words, count in verdicts]
        yield [case.name, gib(sum(on_card)), *["-"] * 3, *words]


def _bytes_of_ttt(family: Any, network: Any, facts: Any, rows: int, columns: int, itemsize: int) -> int:
    """What one forward over TTT_SECONDS keeps of two prompts, in segments of the family's own length."""
    from longreel.hosts.ttt.forward import bytes_of_forward

    step = facts.native_latent_frames
    frames = step * math.ceil(facts.nearest_latent_frames(TTT_SECONDS * facts.native_fps) / step)
    windows = tuple((start, start + step) for start in range(0, frames, step))
    return bytes_of_forward(family, network, (2, facts.latent_channels, frames, rows, columns), windows, itemsize, True)


def gib(count: int) -> str:
    return f"{count / 2**30:.2f}"


def tables(cards: Sequence[float], ram_gib: float) -> Iterator[str]:
    """The lines of all tables, as Markdown."""
    heads = ["", "card", "main memory", "card, 8-bit", "main memory, 8-bit", *(f"{card:g} GB" for card in cards)]
    for size in SIZES:
        measured = Measured(size)
        core = measured.core
        yield ""
        yield f"## {size.title}"
        yield ""
        ttt = "TTT layers have no place in this network."
        if measured.ttt is not None:
            ttt = (
                f"Longreel TTT Sampler keeps {gib(measured.ttt)} of {TTT_SECONDS} seconds in one forward, on the card, "
                f"beside the layers' weights."
            )
        yield (
            f"Weights {gib(core.weights)} (at least {gib(core.least_weights)} on the card), window {gib(core.window)} "
            f"with guidance, {gib(core.least_window)} for one prompt. {ttt}"
        )
        yield ""
        yield "| " + " | ".join(heads) + " |"
        yield "|" + "---|" * len(heads)
        for row in rows(measured, cards, ram_gib):
            yield "| " + " | ".join(row) + " |"


def page(cards: Sequence[float] = (24, 16), ram_gib: float = 64) -> str:
    """The text of docs/memory.md."""
    start_comfyui()
    return (
        "\n".join(
            [
                *INTRODUCTION.format(ram=ram_gib, reserved=RESERVED_GIB, busy=BUSY_RAM_GIB).splitlines(),
                *tables(cards, ram_gib),
            ]
        )
        + "\n"
    )


INTRODUCTION = """\
# What features keep, and what fits

Written by `python dev.py memory --write`, from the very arithmetic that looks at the card before sampling
(`engine/plan/card_memory.py`, each feature's `need`); `python dev.py memory --card-gib 12 --ram-gib 32` prints it for
another machine. All figures are GiB, with guidance (two prompts), beside the network's own weights and window. The
networks are ComfyUI's at true width and depth, without weights.

A column is a way to keep keys and values. `card`: what the feature needs of the card, copies while it reads included.
`main memory`: what it then needs of the card, + what lies in main memory. The last columns say what happens at the
defaults on a card of that size ({reserved:g} GiB of it taken by others) with {ram:g} GiB of main memory ({busy:g} of it
taken): where keys and values go by themselves, and the features' bytes on the card. `weights streamed`: ComfyUI brings
the weights in layer by layer in every step, because they do not fit beside the window. The trained
memories' own weights are not counted, and what reading needs of them is reckoned, not measured.
"""


def main(words: Sequence[str]) -> None:
    """Print the tables, or write the page."""
    parser = argparse.ArgumentParser(prog="python dev.py memory", description=__doc__.splitlines()[0])
    parser.add_argument("--card-gib", type=float, nargs="+", default=[24, 16], metavar="GIB", help="memory of the card")
    parser.add_argument("--ram-gib", type=float, default=64, metavar="GIB", help="main memory of the machine")
    parser.add_argument(
        "--write", action="store_true", help=f"write {PAGE.relative_to(dev.ROOT)}, at 24, 16 and 64 GiB"
    )
    parser.add_argument("--measure", nargs="*", metavar="NETWORK", help="run the features of all networks, or of some")
    options = parser.parse_args(words)
    if options.measure is not None:
        from tests.bench import memory_measured

        memory_measured.main(options.measure, options.write)
        return
    if options.write:
        Path(PAGE).write_text(page(), encoding="utf-8")
    else:
        print(page(options.card_gib, options.ram_gib))


if __name__ == "__main__":
    main(sys.argv[1:])
