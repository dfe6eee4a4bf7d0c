"""Does a long video remember what only its first prompt said? TTT layers and what they are compared with.

    python dev.py bench ttt [--seeds 40] [--segments 20] [--kinds color shape returns] [--ways ...] [--offset 0]
                            [--layers NAME=FILE ...] [--leads 1] [--images FOLDER] [--json FILE]
    python dev.py bench ttt --join FILE ... [--images FOLDER]

Stories on the demo model (demo/stories.py), sampled whole by Longreel TTT Sampler. `color` and `shape`: one object,
whose colour or shape the first prompt alone names. `returns`: the object leaves, another one stands in its place and
is named in full, and the first one comes back without its colour. Recall is the share of segments in which the
detector reads what was named once; by chance one in six, and for shapes one in four. `far` counts segments 11 and
later (in shorter stories the last quarter), `end` the last one that is asked about. `said` is the share of all
attributes that prompts do name and that are shown, in the first segment and in the later ones: what layers must not
cost. `size` is the share of segments that have the first one's size. `seam` is engine/measure/metrics.seam where
segments 2 and 3 meet. The second table is what a person sees, at all joints, as in `bench blend`. Intervals are by
bootstrap over stories.

`local attention` is the demo model without layers: neighbours share one latent frame and know nothing else of each
other. The bundled layers were trained on stories of at most 8 segments, all with the same data and steps; --layers
measures other files beside them, --leads every way with each number of lead frames (the node's default is 1; 0 is the
paper's way, and what the bundled layers were trained with). The whole takes hours on a CPU: parts that differ in
--kinds, --ways or --offset (a multiple of ten, the number of stories that share their noise) may run at the same time,
and --join reads their --json into one table and chart.
"""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from tests.bench_support import call, line_chart, measuring, parser, start_comfyui, story_median, story_percent, table

nodes = start_comfyui()

from comfy_extras.nodes_custom_sampler import BasicScheduler, KSamplerSelect

from longreel.demo import detector, stories
from longreel.demo.export_ttt import COMPARED, SHOWN
from longreel.engine.measure.metrics import seam_score
from longreel.engine.plan.transition_reach import transition_reaches
from longreel.engine.ttt.files import load_ttt
from longreel.nodes.demo_model import LongreelDemoModel
from longreel.nodes.encode import LongreelEncode
from longreel.nodes.plan import LongreelPlan
from longreel.nodes.ttt import LongreelApplyTTT, LongreelTTTSampler
from tests.bench import _look

STEPS, CFG = 16, 4.0
ROWS = 10  # stories that are sampled at once
FAR = 10  # segments, counted from 0, from which on memory is far
SPREAD_FRAMES = 4  # pixel frames on each side of a border that also belong to the joint
EDGE_FRAMES = 2  # pixel frames at both ends of a segment that are not read: they are its neighbours' too
LOCAL = "local attention"
WAYS = {
    LOCAL: None,
    "sliding window": COMPARED / "shapeworld_sliding_window.safetensors",
    "gated delta rule": COMPARED / "shapeworld_gated_delta.safetensors",
    "TTT-Linear": SHOWN / "shapeworld_ttt_linear.safetensors",
    "TTT-MLP": SHOWN / "shapeworld_ttt_mlp.safetensors",
}


class Bench:
    def __init__(self):
        self.model, self.clip, self.vae = call(LongreelDemoModel)
        (self.sampler,) = call(KSamplerSelect, sampler_name="euler")
        (self.sigmas,) = call(BasicScheduler, model=self.model, scheduler="simple", steps=STEPS, denoise=1.0)

    def with_layers(self, path):
        if path is None:
            return self.model
        weights = {"weights": "trained", "ttt": load_ttt(path), "strength": 1.0}
        return call(LongreelApplyTTT, model=self.model, weights=weights, layers="all")[0]

    def plan(self, told: list[stories.Story]):
        """Timeline, latent and conditioning of equally long stories, one row for each."""
        planned = []
        for story in told:
            timeline, latent = call(
                LongreelPlan,
                model=self.model,
                storyboard=story.storyboard(),
                width=0,
                height=0,
                segment_frames=stories.SEGMENT_FRAMES,
                overlap_frames=4,
                transition_prompts=0,
                steps=STEPS,
                guidance=True,
            )[:2]
            planned.append((timeline, latent, call(LongreelEncode, clip=self.clip, timeline=timeline)))
        conditioning = [
            [
                [torch.cat([entries[side][shot][0] for _, _, entries in planned]), planned[0][2][side][shot][1]]
                for shot in range(len(told[0].scenes))
            ]
            for side in (0, 1)
        ]
        timeline, latent, _ = planned[0]
        return timeline, {**latent, "samples": latent["samples"].repeat(len(told), 1, 1, 1, 1)}, conditioning

    def videos(self, model, told: list[stories.Story], seed: int, lead_frames: int = 1) -> list[torch.Tensor]:
        """[F, 64, 64, 3] of each story."""
        timeline, latent, (positive, negative) = self.plan(told)
        self.reaches = [(r.start, r.stop) for r in transition_reaches(timeline)]
        (sampled,) = call(
            LongreelTTTSampler,
            model=model,
            timeline=timeline,
            positive=positive,
            negative=negative,
            latent=latent,
            sampler=self.sampler,
            sigmas=self.sigmas,
            seed=seed,
            cfg=CFG,
            lead_frames=lead_frames,
        )
        return [
            call(nodes.VAEDecode, vae=self.vae, samples={"samples": row})[0].reshape(-1, 64, 64, 3).clamp(0, 1)
            for row in sampled["samples"].split(1)
        ]


def judge(story: stories.Story, video: torch.Tensor, reaches: Sequence[tuple[int, int]]) -> dict:
    """recall: per segment, None where nothing is asked; said: per segment, of each attribute that its prompt names."""
    edges = [0, *(1 + stories.STEP_FRAMES * n for n in range(1, len(story.scenes))), len(video)]
    found = {"recall": [], "said": [], "seam": [], "size": []}
    found["look"] = vars(_look.look(video, edges, story.scenes, reaches))
    for number, (scene, said) in enumerate(zip(story.scenes, story.said, strict=False)):
        start = 1 + stories.STEP_FRAMES * number if number else 0
        stop = stories.STEP_FRAMES * (number + 1) + 1
        seen = detector.read_clip(video[start + EDGE_FRAMES : stop - EDGE_FRAMES])
        asked = number in story.asked
        found["recall"].append(getattr(seen, story.unsaid) == getattr(story.scenes[0], story.unsaid) if asked else None)
        found["size"].append(seen.size == scene.size)
        found["said"].append([getattr(seen, name) == getattr(scene, name) for name in said if name != "size"])
    if len(story.scenes) > 2:
        found["seam"].append(seam_score(video, 2 * stories.STEP_FRAMES + 1, SPREAD_FRAMES))
    return found


def recalled(cases: list[dict], segment: int) -> list[bool]:
    return [case["recall"][segment] for case in cases if case["recall"][segment] is not None]


def row(name: str, cases: list[dict]) -> list:
    segments = len(cases[0]["recall"])
    start = min(FAR, segments * 3 // 4)
    asked = [[x for x in case["recall"] if x is not None] for case in cases]
    far = [[x for x in case["recall"][start:] if x is not None] for case in cases]
    first, later = ([[x for part in case["said"][a:b] for x in part] for case in cases] for a, b in ((0, 1), (1, None)))
    kinds = (far, [some[-1:] for some in asked], asked, first, later, [case.get("size", []) for case in cases])
    return [name, *map(story_percent, kinds), story_median([case["seam"] for case in cases])]


def curve(cases: list[dict]) -> list[float]:
    """Recall in % of segment 2, 3, ...; where none is asked, that of the one before."""
    shares: list[float] = []
    for segment in range(1, len(cases[0]["recall"])):
        asked = recalled(cases, segment)
        shares.append(100 * sum(asked) / len(asked) if asked else (shares[-1] if shares else 100.0))
    return shares


def show(kind: str, found: Mapping[str, Sequence[dict]], images: Path | None) -> None:
    """Table and chart of one kind of story; found: way -> cases."""
    stories_, segments = len(next(iter(found.values()))), len(next(iter(found.values()))[0]["recall"])
    print(
        table(
            [
                f"{kind}, {stories_} stories of {segments} segments",
                "far",
                "end",
                "all asked",
                "said, segment 1",
                "said, later",
                "size",
                "seam",
            ],
            [row(name, cases) for name, cases in found.items()],
        )
        + "\n"
    )
    looks = {n: [_look.Look(**c["look"]) for c in cases] for n, cases in found.items() if "look" in cases[0]}
    print(table([f"{kind}, {stories_} stories", *_look.TITLES], _look.rows(looks)) + "\n", flush=True)
    if images:
        line_chart(
            {name: curve(cases) for name, cases in found.items()},
            images / f"ttt_{kind}.png",
            f"{kind}: what was named once is right, % over segments (grey: chance)",
            100.0,
            100 / 4 if kind == stories.SHAPE else 100 / 6,
            first=2,
        )


def joined(files: Sequence[Path]) -> dict[str, dict[str, list[dict]]]:
    """Kind -> way -> cases, of several --json files.

    Raises ValueError where the same story was measured twice, or ways were measured on other stories.
    """
    parts: dict[str, dict[str, dict[int, list[dict]]]] = {}  # kind -> way -> first story -> cases
    for file in files:
        report = json.loads(file.read_text(encoding="utf-8"))
        offset = report["arguments"]["offset"]
        for kind, found in report["figures"].items():
            for name, cases in found.items():
                of_way = parts.setdefault(kind, {}).setdefault(name, {})
                if offset in of_way:
                    raise ValueError(
                        f"story {offset} of {kind} with {name} is in 2 of {len(files)} files; leave {file} out"
                    )
                of_way[offset] = cases
    for kind, ways in parts.items():
        measured = {
            name: [offset + n for offset, cases in sorted(of_way.items()) for n in range(len(cases))]
            for name, of_way in ways.items()
        }
        longest = max(measured, key=lambda name: len(measured[name]))
        for name, numbers in measured.items():
            if numbers != measured[longest]:
                raise ValueError(
                    f"{kind}: {len(numbers)} stories with {name} and {len(measured[longest])} with "
                    f"{longest} are not the same ones; give the files of all parts"
                )
    order = list(WAYS)
    return {
        kind: {
            name: [case for _, cases in sorted(parts[kind][name].items()) for case in cases]
            for name in sorted(parts[kind], key=lambda name: order.index(name) if name in order else len(order))
        }
        for kind in stories.KINDS
        if kind in parts
    }


def main() -> None:
    arguments = parser(__doc__.splitlines()[0], seeds=40)
    arguments.add_argument("--segments", type=int, default=20, help="segments of a story, 2 or more")
    arguments.add_argument("--kinds", nargs="+", choices=stories.KINDS, default=list(stories.KINDS))
    arguments.add_argument(
        "--ways", nargs="*", choices=list(WAYS), default=list(WAYS), help="which of the bundled ones"
    )
    arguments.add_argument("--layers", nargs="*", default=[], metavar="NAME=FILE", help="other layers to measure")
    arguments.add_argument("--leads", nargs="+", type=int, default=[1], help="lead_frames of Longreel TTT Sampler")
    arguments.add_argument("--join", nargs="+", type=Path, metavar="FILE", help="measure nothing: show these --json")
    options = arguments.parse_args()
    files = {name: WAYS[name] for name in options.ways} | dict(given.split("=", 1) for given in options.layers)
    with measuring(options) as figures:
        if options.join:
            for kind, found in joined(options.join).items():
                show(kind, found, options.images)
                figures[kind] = found
            return
        bench = Bench()
        models = {
            name if lead == 1 else f"{name}, lead {lead}": (bench.with_layers(file), lead)
            for name, file in files.items()
            for lead in options.leads
        }
        for kind in options.kinds:
            numbers = range(options.offset, options.offset + options.seeds)
            told = [
                stories.random_story(kind, options.segments, random.Random(f"{kind} {88_000 + n}")) for n in numbers
            ]
            found: dict[str, list[dict]] = {name: [] for name in models}
            sheets: dict[str, list[tuple]] = {}
            for first in range(0, len(told), ROWS):
                part = told[first : first + ROWS]
                for name, (model, lead) in models.items():
                    videos = bench.videos(model, part, numbers[first], lead)
                    cases = [judge(story, video, bench.reaches) for story, video in zip(part, videos, strict=True)]
                    found[name] += cases
                    sheets.setdefault(name, []).extend(
                        (video, f"{name}: {story.prompts[0]}", case["look"]["broken"], bench.reaches)
                        for story, video, case in zip(part, videos, cases, strict=True)
                        if len(sheets.get(name, [])) < ROWS
                    )
            show(kind, found, options.images)
            figures[kind] = found
            if options.images:
                _look.sheets(sheets, options.images, f"ttt_{kind}")


if __name__ == "__main__":
    main()
