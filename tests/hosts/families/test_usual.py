"""hosts/families/usual.py: the figures are those of core's templates, a model finds its row, and the help pages have
the table."""

import importlib.util
import json
from collections import defaultdict
from pathlib import Path

import pytest

import comfy.model_detection
from comfy.ldm.wan.model import WanModel

from longreel.engine.plan.report import plan_report
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts import facts_of
from longreel.hosts.families import usual
from longreel.hosts.families.usual import FOUR_STEPS, TABLE, usual_of
from tests.bench._true_networks import META, NETWORKS, model_of

TEMPLATES = Path(importlib.util.find_spec("comfyui_workflow_templates_json").origin).parent / "templates"
PAGES = Path(__file__).parents[3] / "web" / "docs"
WIDGETS = {  # of a node of core: what stands at which place
    "KSampler": {"steps": 2, "cfg": 3, "sampler": 4, "scheduler": 5},
    "KSamplerAdvanced": {"steps": 3, "cfg": 4, "sampler": 5, "scheduler": 6},
    "KSamplerSelect": {"sampler": 0},
    "BasicScheduler": {"scheduler": 0, "steps": 1},
    "SamplerCustom": {"cfg": 3},
    "CFGGuider": {"cfg": 0},
    "LTXVScheduler": {"steps": 0},
    "LTXVConditioning": {"fps": 0},
    "ModelSamplingSD3": {"shift": 0},
    "CreateVideo": {"fps": 0},
    "FluxGuidance": {"guidance": 0},
    "PrimitiveInt": {"steps": 0},  # of templates that switch between two sets
    "PrimitiveFloat": {"cfg": 0},
}
OFF = 4  # the mode of a node that is bypassed


def nodes_of(template: str) -> list[dict]:
    """Every node of a template and of its subgraphs; those that are bypassed only where a group is the choice."""
    workflow = json.loads((TEMPLATES / f"{template}.json").read_text("utf-8"))
    nodes = [
        *workflow["nodes"],
        *(node for one in workflow.get("definitions", {}).get("subgraphs", []) for node in one["nodes"]),
    ]
    return nodes if template == "video_wan2_2_14B_s2v" else [node for node in nodes if node.get("mode") != OFF]


def figures_of(template: str) -> dict[str, set]:
    """What a template's nodes set, by the names of UsualSettings' fields."""
    found = defaultdict(set)
    for node in nodes_of(template):
        for name, place in WIDGETS.get(node["type"], {}).items():
            value = node["widgets_values"][place]
            found[name].add(round(value, 6) if isinstance(value, float) else value)
        if node["type"] == "LTXVScheduler":
            found["scheduler"].add(node["type"])
        if node["type"] == "BasicGuider":  # it has one prompt
            found["cfg"].add(1)
    return found


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.model)
def test_every_figure_is_one_of_cores_template(row):
    found = figures_of(row.template)
    for name in ("steps", "cfg", "shift", "sampler", "scheduler", "fps"):
        value = getattr(row, name)
        assert value in found[name] if value is not None else not found[name], (name, dict(found))
    if row.besides == FOUR_STEPS:
        assert {4, 20} <= found["steps"] and {1, row.cfg} <= found["cfg"]
    if "FluxGuidance" in row.besides:
        assert row.besides.startswith(f"FluxGuidance {found['guidance'].pop():g} ")


def test_a_row_that_a_model_finds_is_in_the_table():
    rows = [value for value in vars(usual).values() if isinstance(value, usual.UsualSettings)]
    assert len(rows) == len(TABLE) and set(usual.OF_CLASS.values()) < set(TABLE) == set(rows)


def wan(kind: str, channels: int, dim: int):
    """A Wan model of true width with one block and without weights, recognised by core."""
    network = WanModel(
        model_type=kind,
        in_dim=channels,
        out_dim=16,
        text_dim=4096,
        dim=dim,
        ffn_dim=8960,
        num_heads=dim // 128,
        num_layers=1,
        **META,
    )
    state = network.state_dict()
    return comfy.model_detection.model_config_from_unet(state, "").get_model(state, "", device="meta")


@pytest.mark.parametrize(
    ("build", "rows"),
    [
        (lambda: wan("t2v", 16, 1536), ["WAN_21_TEXT"]),
        (lambda: wan("t2v", 16, 5120), ["WAN_21_TEXT", "WAN_22_TEXT"]),
        (lambda: wan("i2v", 36, 5120), ["WAN_21_IMAGE"]),
        (lambda: wan("t2v", 36, 5120), ["WAN_22_IMAGE"]),
        (lambda: wan("t2v", 48, 1536), []),  # Fun-Control: no template for that network
        (lambda: model_of("CogVideoX 5B"), []),
        (lambda: model_of("LTXV 2B"), ["LTXV"]),
        (lambda: model_of("HunyuanVideo"), ["HUNYUAN_VIDEO"]),
        (lambda: model_of("Wan 2.2 5B"), ["WAN_22_5B"]),
    ],
)
def test_a_model_finds_its_rows(build, rows):
    assert len(NETWORKS) and usual_of(build()) == tuple(getattr(usual, name) for name in rows)


def test_the_demo_model_and_other_small_networks_are_no_rows_of_the_table(tiny):
    assert usual_of(tiny("wan21").model.model) == ()


@pytest.mark.parametrize("page", ["LongreelPlan.md", "LongreelSampler.md"])
def test_help_pages_have_the_table(page):
    text = (PAGES / page).read_text("utf-8")
    for row in TABLE:
        shift = "-" if row.shift is None else f"{row.shift:g}"
        cells = (
            row.model,
            row.steps,
            f"{row.cfg:g}",
            shift,
            row.sampler,
            row.scheduler,
            f"{row.fps:g}",
            row.besides or "-",
            f"`{row.template}`",
        )
        assert f"| {' | '.join(map(str, cells))} |\n" in text, f"{page} lacks the row of {row.model}"


def test_the_report_says_what_the_model_usually_wants_and_another_frame_rate(tiny):
    facts = facts_of(tiny("wan21").model)

    def report(fps, rows, facts=facts):
        board = Storyboard((Shot("a", 2.0),), width=64, height=64, fps=fps)
        return plan_report(plan_timeline(board, facts), 20, True, usual=rows)

    said = report(24.0, (usual.WAN_22_TEXT,))
    assert (
        "Wan 2.2 14B text to video usually: 20 steps, cfg 3.5, shift 5, euler, simple, 16 fps; with the LoRAs of 4 "
        "steps: 4 steps, cfg 1 (core's template video_wan2_2_14B_t2v)\n" in said
    )
    assert "note: the storyboard has 24 fps and Wan makes frames for 16, so everything moves 1.5 times as fast" in said
    assert "note: the storyboard has" not in report(16.0, (usual.WAN_22_TEXT,))
    assert "usually" not in report(16.0, ()) and "makes frames for 16" in report(24.0, ())
    assert "note: the storyboard has" not in report(25.0, (usual.WAN_21_HUMO,))
    of_ltxv = report(50.0, (usual.LTXV,), facts_of(tiny("ltxv").model))  # which is told
    assert "LTXV usually: 30 steps, cfg 3, euler, LTXVScheduler" in of_ltxv and "note: the storyboard" not in of_ltxv
