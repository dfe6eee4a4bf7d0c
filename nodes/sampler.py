"""Longreel Sampler: one sampler for a whole storyboard."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..engine.runs.folder import open_run
from ..engine.runs.name import check_run_name
from ..engine.runs.shot_states import shot_states
from ..engine.sampling.latent_blend import BLENDS
from ..hosts.cluster.takes import Takes
from ..hosts.sampling.experts import WAN_22_EXPERTS_MEET
from ..hosts.sampling.joint import sample_timeline
from ..hosts.sampling.pair import unlike
from ..hosts.sampling.rollout import sample_rollout
from ..hosts.sampling.rollout_locks import unkept_note
from ..hosts.sampling.settings import Sampling
from .choices import check_choice
from .sockets import ClusterSocket, TimelineSocket
from .validation import check_values

JOINT, ROLLOUT = "joint", "rollout"
RUNS = "longreel"  # folder of runs in ComfyUI's output folder
SHOT_STATES = "longreel_shots"  # of the node's ui output: what became of each shot, which web/js shows


def _second_expert(of_what: str) -> list[io.Input]:
    """Return the inputs of the second expert; optional, because graphs of mode joint were saved without them."""
    return [
        io.Model.Input(
            "low_noise_model",
            optional=True,
            tooltip=(
                f"The second expert of Wan 2.2 14B; it samples the noise levels below low_noise_from of {of_what}. Put "
                f"Longreel Pair in front to give both experts the same features."
            ),
        ),
        io.Float.Input(
            "low_noise_from",
            default=WAN_22_EXPERTS_MEET,
            min=0.0,
            max=1.0,
            step=0.005,
            optional=True,
            advanced=True,
            tooltip="Noise level at which low_noise_model takes over, 0 to 1; Wan 2.2 T2V's is 0.875, I2V's 0.9.",
        ),
    ]


class LongreelSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LongreelSampler",
            display_name="Longreel Sampler",
            category="Longreel/sampling",
            description="Samples a storyboard: all segments together, step by step, blended where they overlap; or in "
            "rollout, chunk after chunk without end, kept on disk as it goes.",
            search_aliases=[
                "storyboard sampler",
                "long video sampler",
                "multi shot",
                "endless video",
                "streamingt2v",
                "resume",
                "extend video",
                "infinite video",
                "looping sampler",
                "video extension",
                "wan",
                "hunyuanvideo",
                "cogvideox",
                "ltxv",
                "kandinsky",
                "loop",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A supported video model without Longreel Latent Blend; this node brings its own."
                ),
                TimelineSocket.Input("timeline", tooltip="From Longreel Plan."),
                io.Conditioning.Input("positive", tooltip="From Longreel Encode."),
                io.Conditioning.Input(
                    "negative", tooltip="From Longreel Encode; shapes the result when cfg is above 1."
                ),
                io.Latent.Input("latent", tooltip="From Longreel Plan, or a latent of the same size to start from."),
                io.Sampler.Input("sampler", tooltip="Any core sampler; Longreel Alpha Space Sampler for CogVideoX."),
                io.Sigmas.Input("sigmas", tooltip="From Basic Scheduler or any other."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip=(
                        "Noise of the shots that have no seed of their own, and the cuts of the randomized blend. In "
                        "rollout each chunk adds its number to it."
                    ),
                ),
                io.Float.Input(
                    "cfg",
                    default=5.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip=(
                        "Guidance scale; 1 leaves the negative prompts out and halves the time. What each model "
                        "usually wants: Longreel Plan's report, and the table on this node's help page."
                    ),
                ),
                io.Combo.Input(
                    "blend",
                    options=list(BLENDS),
                    default="triangle",
                    tooltip=(
                        "How overlapping segments meet: triangle (DiTCtrl), randomized (StreamingT2V), linear, or cut. "
                        "In mode joint alone; chunks of a rollout do not overlap."
                    ),
                ),
                io.Boolean.Input(
                    "add_noise",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Off when the latent comes noisy from an earlier sampler: the low-noise expert of Wan 2.2 14B."
                    ),
                ),
                io.DynamicCombo.Input(
                    "mode",
                    optional=True,
                    tooltip=(
                        "joint: all segments together. rollout: each chunk is finished, and the next one continues "
                        "from its last frames (StreamingT2V), so that length costs no memory and finished chunks can "
                        "be kept."
                    ),
                    options=[
                        io.DynamicCombo.Option(JOINT, _second_expert("all segments")),
                        io.DynamicCombo.Option(
                            ROLLOUT,
                            [
                                io.String.Input(
                                    "run_name",
                                    default="",
                                    tooltip=(
                                        "Folder in output/longreel where each chunk is saved once it is finished; the "
                                        "same name goes on from there, and makes again only what changed. Empty: "
                                        "nothing is saved."
                                    ),
                                ),
                                io.Boolean.Input(
                                    "remove_old",
                                    default=False,
                                    advanced=True,
                                    tooltip=(
                                        "Removes the run's chunk files that are not part of the video any more, once "
                                        "it is complete."
                                    ),
                                ),
                                *_second_expert("every chunk"),
                            ],
                        ),
                    ],
                ),
                ClusterSocket.Input(
                    "cluster",
                    optional=True,
                    tooltip=(
                        "From Longreel Cluster: in mode rollout with a run_name, the takes are made on its workers at "
                        "the same time."
                    ),
                ),
            ],
            outputs=[io.Latent.Output(), io.String.Output(display_name="report")],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, mode: dict | str | None = None, **inputs) -> bool:
        check_values(cls, {"mode": mode, **inputs})
        if isinstance(mode, dict) and (name := mode.get("run_name")):
            check_run_name(name)
        return True

    @classmethod
    def execute(cls, model, timeline, latent, blend, mode=None, cluster=None, **inputs):
        """Sample; the other inputs are those of Sampling, by its names."""
        chosen = check_choice("mode", mode or {"mode": JOINT}, (JOINT, ROLLOUT))
        sampling = Sampling(**inputs)
        experts = experts_of(chosen)
        low = experts["low_noise_model"]
        unalike = None if low is None else unlike(model, low)
        name = chosen.get("run_name", "")
        if cluster is not None and not name:
            raise ValueError(
                "a cluster makes the takes of a rollout and keeps them in a run folder; choose mode rollout and give "
                "a run_name, or unwire cluster"
            )
        if chosen["mode"] == JOINT:
            latent = sample_timeline(model, timeline, latent, sampling, blend=blend, **experts)
            note = unkept_note(timeline, "mode joint keeps nothing")
            report = f"{len(timeline.segments)} segments sampled together"
            shown = {SHOT_STATES: shot_states(len(timeline.shots), None)}
            return io.NodeOutput(latent, "\n".join(filter(None, (note, unalike, report))), ui=shown)
        folder = Path(folder_paths.get_output_directory()) / RUNS
        node_id = cls.hidden.unique_id if cls.hidden else ""
        elsewhere = None if cluster is None else Takes(cluster, cls.hidden.prompt if cls.hidden else {}, node_id)
        with open_run(folder / check_run_name(name)) if name else nullcontext() as run:
            latent, report = sample_rollout(
                model, timeline, latent, sampling, **experts, run=run, node_id=node_id, elsewhere=elsewhere
            )
            if run is not None:
                run.finish(chosen["remove_old"])
        shown = {SHOT_STATES: shot_states(len(timeline.shots), None if run is None else run.outcomes)}
        of_cluster = None if elsewhere is None else elsewhere.note
        return io.NodeOutput(latent, "\n".join(filter(None, (unalike, of_cluster, report))), ui=shown)


def experts_of(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The second expert that the inputs of a mode name, and where it begins, as the samplers take them."""
    level = chosen.get("low_noise_from")
    return {
        "low_noise_model": chosen.get("low_noise_model"),
        "low_noise_from": WAN_22_EXPERTS_MEET if level is None else level,
    }
