"""ditctrl/g_tiny_dit: the recorded tiny transformer as a ComfyUI MODEL, sampled as a user's is.

The network is ComfyUI's own CogVideoX class at the file's sizes, with the published weights under ComfyUI's names. It
is driven by a CFGGuider over the pack's TimelineHandler and KV Share; the steps are engine/sampling/alpha_space's. Only
names, shapes and the recorded noise are handed over here.

A golden file's prompts stand for segments, so the timeline has one shot for each segment. Words are token numbers.
"""

import itertools
import math

import torch

from longreel.engine.attention import kv_share
from longreel.engine.attention.words import Word
from longreel.engine.plan.facts import ModelFacts
from longreel.engine.plan.timeline import PlannedShot, Segment, Timeline
from longreel.engine.published import zero_snr
from longreel.engine.sampling import alpha_space
from longreel.engine.storyboard.board import Shot, Storyboard
from tests.comfy_inprocess import import_comfyui

import_comfyui()

import comfy.model_base
import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import comfy.supported_models

from longreel.hosts import keys
from longreel.hosts.attention import patching
from longreel.hosts.families import cogvideox
from longreel.hosts.features.focus import Mask
from longreel.hosts.features.kv_share import PAPER, KVShare
from longreel.hosts.prompts import conditioning
from longreel.hosts.windows import latent_blend

Tensors = dict[str, torch.Tensor]

SHIFT, GUIDANCE = 3.0, 6.0  # CogVideoX-2B
PURE_NOISE = 1e8  # sigma of alpha 0, as near as float32 can tell
MODES = ("BaseAdaLNMixin", "KVSharingAdaLNMixin", "KVSharingMaskGuidedAdaLNMixin")


def run(tensors: Tensors, meta: dict) -> Tensors:
    """`final_<mode>` [1, T, C, H, W] of the three modes."""
    schedule = zero_snr.zero_snr_schedule(meta["N"], SHIFT)
    model = make_model(tensors, meta, schedule)
    return {f"final_{mode}": sample(model, mode, tensors, meta, schedule) for mode in MODES}


def make_model(tensors: Tensors, meta: dict, schedule: zero_snr.AlphaSchedule):
    """A ModelPatcher. Two settings of the recorded network are not ComfyUI's: the last norm's eps, and the schedule."""
    config = comfy.supported_models.CogVideoX_T2V({
        "image_model": "cogvideox", "num_attention_heads": meta["heads"],
        "attention_head_dim": meta["hid"] // meta["heads"], "in_channels": meta["in_channels"],
        "out_channels": meta["in_channels"], "num_layers": meta["nl"], "time_embed_dim": meta["te"],
        "text_embed_dim": meta["cd"], "max_text_seq_length": meta["tl"], "sample_width": meta["w"],
        "sample_height": meta["h"], "sample_frames": meta["nf"], "patch_size": meta["patch"],
        "use_rotary_positional_embeddings": True, "dtype": torch.float32})  # fmt: skip
    config.latent_format.scale_factor = 1.0  # the recorded latents are what the network sees
    model = config.get_model({}, device="cpu")
    network = model.diffusion_model
    # Positions are a stored table, as in CogVideoX-2B. Asked for one, ComfyUI first computes its own, which it can only
    # at some widths; so the network is built without and given the stored one.
    network.use_rotary_positional_embeddings = False
    network.patch_embed.use_learned_positional_embeddings = True
    network.patch_embed.register_buffer("pos_embedding", torch.empty_like(tensors["w.mixins.pos_embed.pos_embedding"]))
    network.load_state_dict(comfyui_weights(tensors, meta["nl"]))
    network.norm_out.norm.eps = meta["norm_final_eps"]
    model.model_sampling.set_sigmas(sigma_table(schedule))
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


def comfyui_weights(tensors: Tensors, layers: int) -> Tensors:
    """The published (SAT) weights `w.*` under the names of ComfyUI's class."""
    w = {name.removeprefix("w."): value for name, value in tensors.items() if name.startswith("w.")}
    out = {"patch_embed.pos_embedding": w["mixins.pos_embed.pos_embedding"]}
    names = {
        "patch_embed.proj": "mixins.patch_embed.proj", "patch_embed.text_proj": "mixins.patch_embed.text_proj",
        "time_embedding_linear_1": "time_embed.0", "time_embedding_linear_2": "time_embed.2",
        "norm_final": "transformer.final_layernorm", "norm_out.linear": "mixins.final_layer.adaLN_modulation.1",
        "norm_out.norm": "mixins.final_layer.norm_final", "proj_out": "mixins.final_layer.linear",
    }  # fmt: skip
    for i in range(layers):
        block, layer, mixin = f"blocks.{i}", f"transformer.layers.{i}", "mixins.adaln_layer"
        names |= {
            f"{block}.norm1.norm": f"{layer}.input_layernorm", f"{block}.attn_out": f"{layer}.attention.dense",
            f"{block}.norm2.norm": f"{layer}.post_attention_layernorm",
            f"{block}.norm_q": f"{mixin}.query_layernorm_list.{i}",
            f"{block}.norm_k": f"{mixin}.key_layernorm_list.{i}",
            f"{block}.ff_proj": f"{layer}.mlp.dense_h_to_4h", f"{block}.ff_out": f"{layer}.mlp.dense_4h_to_h",
        }  # fmt: skip
        for end in ("weight", "bias"):
            for name, part in zip("qkv", w[f"{layer}.attention.query_key_value.{end}"].chunk(3), strict=True):
                out[f"{block}.{name}.{end}"] = part
            # SAT: video's attention and MLP, then text's; ComfyUI: attention's video and text, then the MLP's.
            video_attn, video_mlp, text_attn, text_mlp = w[f"{mixin}.adaLN_modulations.{i}.1.{end}"].chunk(4)
            out[f"{block}.norm1.linear.{end}"] = torch.cat([video_attn, text_attn])
            out[f"{block}.norm2.linear.{end}"] = torch.cat([video_mlp, text_mlp])
    return out | {f"{new}.{end}": w[f"{old}.{end}"] for new, old in names.items() for end in ("weight", "bias")}


def sigma_table(schedule: zero_snr.AlphaSchedule) -> torch.Tensor:
    """[1000]: core's table of sigmas with the schedule's levels at its own timesteps, log-linear in between, so that
    the network is told the published timestep and a part of the schedule means the published step."""
    knots = sorted(zip(schedule.timesteps, (network_sigma(schedule, alpha) for alpha in schedule.alphas), strict=False))
    if knots[0][0] > 0:
        knots.insert(0, (0, knots[0][1] / 10))
    table = torch.empty(zero_snr.TRAINING_STEPS)
    for (low, below), (high, above) in itertools.pairwise(knots):
        table[low : high + 1] = torch.logspace(math.log10(below), math.log10(above), high - low + 1)
    return table


def network_sigma(schedule: zero_snr.AlphaSchedule, alpha: float) -> float:
    """The level at which the published loop turns the network's v into a video, as core writes it."""
    level = schedule.network_alpha(alpha)
    return alpha_space.noise_of(level) / level if level else PURE_NOISE


def sample(model, mode: str, tensors: Tensors, meta: dict, schedule: zero_snr.AlphaSchedule) -> torch.Tensor:
    """[1, T, C, H, W] after the last step."""
    timeline = make_timeline(meta, cogvideox.facts(model.model))
    model = latent_blend.attach(model, timeline, "triangle", lead_frame=False)
    guider = comfy.samplers.CFGGuider(patching.attach(model, kv_share_of(mode, meta)))
    words = tuple(Word(word, tuple(meta[word])) for word in ("ref", "cur"))
    positive = [[text[None], {keys.SHOT: shot, keys.ROLE: conditioning.POSITIVE,
                              keys.WORDS: (conditioning.Spoken(1.0, shot, words),)}]
                for shot, text in enumerate(tensors["cond"])]  # fmt: skip
    negative = [[torch.zeros_like(text), {**tag, keys.ROLE: conditioning.NEGATIVE}] for text, tag in positive]
    guider.set_conds(positive, negative)
    guider.set_cfg(GUIDANCE)
    noise = tensors["noise"].transpose(1, 2)  # [1, C, T, H, W]
    levels = torch.tensor([network_sigma(schedule, alpha) for alpha in schedule.alphas[:-1]] + [0.0])
    sampler = PublishedSampler(schedule, tensors["noise_draws"].transpose(2, 3))
    return guider.sample(noise, torch.zeros_like(noise), sampler, levels, disable_pbar=True, seed=0).transpose(1, 2)


def make_timeline(meta: dict, facts: ModelFacts) -> Timeline:
    """One shot for each segment; the first follows the source's words, later ones the target's (published: one
    setting)."""
    length, stride, count = meta["tile_size"], meta["tile_size"] - meta["ov"], meta["seg"]
    if count > 2 and meta["ref"] != meta["cur"]:
        raise ValueError(
            f"inner segments of {count} are source and target, with words {meta['ref']} and {meta['cur']}; "
            f"a shot has one list of words"
        )
    segments = tuple(Segment(k * stride, length, ((k, 1.0),), 0) for k in range(count))
    ends = [segment.start_frame for segment in segments[1:]] + [segments[-1].end_frame]
    shots = tuple(
        PlannedShot(k, Shot("ref cur", 1.0, focus=("cur" if k else "ref",)), segment.start_frame, end, 0)
        for k, (segment, end) in enumerate(zip(segments, ends, strict=True))
    )
    width, height = (facts.spatial_stride * meta[side] for side in "wh")  # pixels
    board = Storyboard(tuple(planned.shot for planned in shots))
    return Timeline(board, facts, facts.native_fps, width, height, length, meta["ov"], 0, shots, segments)


def kv_share_of(mode: str, meta: dict) -> KVShare:
    """Without sharing, inner segments are evaluated twice all the same, as in the published loop."""
    layers = frozenset(range(meta["sl"], meta["el"])) if mode != "BaseAdaLNMixin" else frozenset()
    mask = Mask(words=(), threshold=meta["thr"]) if mode == "KVSharingMaskGuidedAdaLNMixin" else None
    timesteps = zero_snr.zero_snr_schedule(meta["N"], SHIFT).timesteps
    percents = [1 - timestep / timesteps[0] for timestep in timesteps] + [1.0]
    return KVShare(
        mode=PAPER,
        source=kv_share.PREVIOUS,
        source_shot=1,
        shots=(),
        across_cuts=True,
        join=kv_share.REPLACE,
        placement=kv_share.ALIGNED,
        strength=1.0,
        share_text=True,
        layers=layers,
        start_percent=percents[meta["ss"]],
        end_percent=percents[meta["es"]],
        mask=mask,
    )


class PublishedSampler(comfy.samplers.Sampler):
    """engine/sampling/alpha_space with the recorded noise [draws, 1, C, T, H, W]; later steps take every second
    draw."""

    def __init__(self, schedule: zero_snr.AlphaSchedule, draws: torch.Tensor):
        self.schedule, self.draws = schedule, draws

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        steps = len(self.schedule.timesteps)

        def denoise(x: torch.Tensor, alpha: float, step: int) -> torch.Tensor:
            model_wrap.cfg = alpha_space.dynamic_guidance(GUIDANCE, self.schedule.timesteps[step], steps)
            return model_wrap(x, sigmas[step].expand(1), **extra_args)

        return alpha_space.sample(noise, self.schedule.alphas, range(steps), denoise, lambda step: self.draws[2 * step])
