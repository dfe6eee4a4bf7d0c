"""Answers the golden tensors (../shared/golden/CONTRACT.md): names and shapes are translated here, numbers come
from the kernels, the engine and, where a whole network is asked, from the hosts.

`run` is the one public function. A kind that the project does not build yet raises NotImplementedError naming it.
"""

from collections.abc import Callable

import torch

from longreel.engine.attention import focus_map, kv_share, prompt_edit, prompt_mix
from longreel.engine.measure import mawe, metrics
from longreel.engine.memory import apm, cam
from longreel.engine.plan import spans
from longreel.engine.published import ditctrl_pairs as pair_blend
from longreel.engine.published import streamingt2v_ddim as refine_ddim
from longreel.engine.published import streamingt2v_guidance, zero_snr
from longreel.engine.sampling import alpha_space, latent_blend, refine
from longreel.engine.ttt import layer as ttt_layer
from longreel.engine.ttt import order as ttt_order
from longreel.engine.ttt import weights as ttt_weights
from longreel.kernels import State, scan
from tests.golden import toy_networks

Tensors = dict[str, torch.Tensor]

_TTT_EPS, _TTT_KERNEL_EPS = 1e-8, 1e-6  # of the published PyTorch code, and of its GPU kernels
_DITCTRL_SHIFT = 3.0  # CogVideoX-2B
_TTT_SHIFT = 1.0  # CogVideoX-5B
_DITCTRL_GUIDANCE, _DITCTRL_EXPONENT = 6.0, 5.0
_LAYOUT_STEPS = 2  # the published reweighting reads the source's keys and values in the first two
_STREAMING_NEGATIVE, _STREAMING_POSITIVE = -0.15, 0.25  # the toy network's two conditions


def run(family: str, name: str, tensors: Tensors, meta: dict) -> Tensors:
    """Golden outputs of one file, computed. family: folder; name: file stem; tensors: inputs; meta: metadata."""
    for prefix, answer in _ANSWERS.get(family, {}).items():
        if name.startswith(prefix):
            return answer(tensors, meta)
    raise NotImplementedError(f"golden kind {family}/{_kind_of(name)} is not built yet (file {name})")


def _kind_of(name: str) -> str:
    """The part of a file's stem before its sizes and counters, e.g. op_mlp of op_mlp_B1H2NC4K8D16."""
    words = name.split("_")
    kept = [words[0]] + [word for word in words[1:] if word.isalpha() and word.islower()]
    return "_".join(kept)


def _ttt_op(tensors: Tensors, meta: dict) -> Tensors:
    wants_grad = "grad_out" in tensors
    inputs = {
        name: x.detach().clone().requires_grad_(wants_grad)
        for name, x in tensors.items()
        if name in ("XQ", "XK", "XV", "ln_weight", "ln_bias") or name.endswith("_init")
    }
    q, k, v = (inputs[name].flatten(2, 3).transpose(1, 2) for name in ("XQ", "XK", "XV"))  # [B, L, H, D]
    eta = tensors["eta"][..., -1, :].flatten(2).transpose(1, 2)  # [B, L, H], the last row of every chunk
    state = State(*(inputs[name] for name in ("W1_init", "b1_init", "W2_init", "b2_init") if name in inputs))
    chunk = meta["K"]

    def run_scan(eps: float) -> tuple[torch.Tensor, State]:
        out, final = scan(q, k, v, eta, inputs["ln_weight"], inputs["ln_bias"], state, chunk, eps=eps)
        return out.unflatten(1, (-1, chunk)), final  # [B, NC, K, H, D]

    out, final = run_scan(_TTT_EPS)
    with torch.no_grad():
        answers = {"out_kernel_emul": run_scan(_TTT_KERNEL_EPS)[0]}
    answers["out" if meta["eta_rows_identical"] else "out_last_eta"] = out.detach()
    answers |= {f"{name}_final": x.detach() for name, x in zip(("W1", "b1", "W2", "b2"), final.tensors(), strict=False)}
    if wants_grad:
        gradients = torch.autograd.grad((out * tensors["grad_out"]).sum(), list(inputs.values()))
        answers |= {f"grad_{name}": gradient for name, gradient in zip(inputs, gradients, strict=True)}
    return answers


def _ttt_layer(tensors: Tensors, meta: dict) -> Tensors:
    weights = {name.removeprefix("sd."): value for name, value in tensors.items() if name.startswith("sd.")}
    layout = ttt_order.even_layout(meta["text_length"], meta["num_chunks"], meta["frames"],
                                   meta["latent_height_tokens"], meta["latent_width_tokens"])  # fmt: skip

    @torch.no_grad()
    def read(eps: float) -> torch.Tensor:
        layer = ttt_layer.TTTLayer(ttt_weights.config_of(weights, meta["mini_batch_size"], meta["ttt_base_lr"], eps))
        layer.load_state_dict({name.removeprefix("ttt."): value for name, value in weights.items()})
        return layer(tensors["x"], layout)

    answers = {"out_last_eta": read(_TTT_EPS), "out_kernel_emul": read(_TTT_KERNEL_EPS)}
    return answers | ({"out": answers["out_last_eta"]} if meta["aligned"] else {})


def _ttt_block(tensors: Tensors, meta: dict) -> Tensors:
    from tests.golden import ttt_networks  # imports ComfyUI

    return ttt_networks.block(tensors, meta)


def _ttt_transformer_layer(tensors: Tensors, meta: dict) -> Tensors:
    from tests.golden import ttt_networks

    return ttt_networks.layer(tensors, meta)


def _ttt_network(tensors: Tensors, meta: dict) -> Tensors:
    from tests.golden import ttt_networks

    return ttt_networks.network(tensors, meta)


def _ttt_sampler(tensors: Tensors, meta: dict) -> Tensors:
    steps, scale, exponent = meta["steps"], meta["guider_scale"], meta["guider_exp"]
    schedule = zero_snr.zero_snr_schedule(steps, _TTT_SHIFT)

    def predict(x: torch.Tensor, alpha: float, timestep: int, text: torch.Tensor) -> torch.Tensor:
        v = toy_networks.ttt_velocity(x, text, timestep, tensors["toy_matrix"])
        return alpha_space.video_from_v(x, v, schedule.network_alpha(alpha))

    def denoise(x: torch.Tensor, alpha: float, timestep: int) -> torch.Tensor:
        negative = predict(x, alpha, timestep, tensors["uncond"])
        positive = predict(x, alpha, timestep, tensors["cond"])
        guidance = alpha_space.dynamic_guidance(scale, timestep, steps, exponent)
        return alpha_space.guide(negative, positive, guidance)

    out, after_step = _sample(tensors["x_init"], schedule, denoise, _second_of_each_pair(tensors["noises"]))
    return {"out": out, "x_after_step": after_step}


def _ditctrl_layout(tensors: Tensors, meta: dict) -> Tensors:
    layout = latent_blend.ditctrl_layout(
        meta["num_prompts"],
        meta["tile_size"],
        meta["overlap"],
        meta["num_transition_blocks"],
        meta["longer_mid_segment"],
    )
    prompts = tensors["prompt_emb"]  # [P, tokens, width]
    segments = [prompt_mix.mix_texts([(prompts[i : i + 1], share) for i, share in mix]) for mix in layout.mixes]
    return {
        "starts": torch.tensor(layout.starts),
        "segment_emb": torch.cat(segments),
        "base_starts": torch.tensor(layout.base_starts),
    }


def _ditctrl_blend(tensors: Tensors, meta: dict) -> Tensors:
    length, total = meta["tile_size"], meta["total_latent_frames"]
    starts = _segment_starts(meta)
    predictions = tensors["preds"].flatten(0, 1)  # [pairs * 2, L, C, H, W]
    blended = pair_blend.blend_pairs(predictions.unbind(), starts, total, dim=0)
    # Blending is linear, so blending the identity gives its matrix.
    count = predictions.shape[0]
    identity = torch.eye(count * length).view(count, length, count * length)
    matrix = pair_blend.blend_pairs(identity.unbind(), starts, total, dim=0)  # [T, pairs * 2 * L]
    coef = matrix.T.reshape(count // 2, 2, length, total)
    return {"blended": blended, "weight": latent_blend.triangle_weights(length), "coef": coef}


def _ditctrl_multiprompt(tensors: Tensors, meta: dict) -> Tensors:
    steps, length = meta["num_steps"], meta["tile_size"]
    starts = _segment_starts(meta)
    schedule = zero_snr.zero_snr_schedule(steps, _DITCTRL_SHIFT)

    def denoise(x: torch.Tensor, alpha: float, timestep: int) -> torch.Tensor:
        def predict(source: torch.Tensor, target: torch.Tensor, pair: int) -> tuple[torch.Tensor, ...]:
            text = tensors["cond"][pair : pair + 2]  # [2, tokens, width]
            rows = _ditctrl_predict(torch.cat([source, target]), text, alpha, timestep, schedule, meta["toy"])
            return rows.split(1)

        return pair_blend.denoise_in_pairs(x, starts, length, predict, dim=1)

    final, after_step = _sample(tensors["noise"], schedule, denoise, _second_of_each_pair(tensors["noise_draws"]))
    return {"latent_after_step": after_step, "final": final}


def _ditctrl_edit(tensors: Tensors, meta: dict) -> Tensors:
    schedule = zero_snr.zero_snr_schedule(meta["num_steps"], _DITCTRL_SHIFT)
    draws = tensors["noise_draws"]  # [N - 1, T, C, H, W], one row for both videos

    def denoise(x: torch.Tensor, alpha: float, timestep: int) -> torch.Tensor:
        return _ditctrl_predict(x, tensors["cond"], alpha, timestep, schedule, meta["toy"])

    start = tensors["noise"].expand(2, *tensors["noise"].shape[1:])
    final, after_step = _sample(start, schedule, denoise, lambda step: draws[step].expand_as(start))
    return {"latent_after_step": after_step, "final": final}


def _ditctrl_mask(tensors: Tensors, meta: dict) -> Tensors:
    out = {}
    for number, words in enumerate(meta["token_lists"]):
        seen, maps = focus_map.FocusMap(), []
        for q, k in zip(tensors["q"], tensors["k"], strict=True):  # [4, H, S, D], layer by layer
            seen.add(_probability_of(words, q, k, meta["text_len"]))
            maps.append(_picture(seen, meta))
        out[f"norm_map_{number}"] = torch.stack(maps)
        given = focus_map.FocusMap(tensors["given_prob_sum"][..., words].sum(-1), meta["given_count"])
        out[f"given_norm_map_{number}"] = _picture(given, meta)
    return out


def _ditctrl_kv_share(tensors: Tensors, meta: dict) -> Tensors:
    text, threshold = meta["text_len"], meta["thres"]
    rows = tensors["q"], tensors["k"], tensors["v"]
    source, target = (tensors[name].flatten()[None] >= threshold for name in ("mask_src_soft", "mask_tgt_soft"))
    everything = torch.ones_like(source)
    focus = {
        "rand": kv_share.Focus(source, target),
        "src_all_fg": kv_share.Focus(everything, target),
        "src_all_bg": kv_share.Focus(~everything, target),
        "tgt_all_fg": kv_share.Focus(source, everything),
        "plain_kvshare": None,
    }
    out = {f"out_{name}": _share_pair(*rows, text, where) for name, where in focus.items()}
    return {**out, "out_inactive": _attend(*rows)}


def _ditctrl_pass(tensors: Tensors, meta: dict) -> Tensors:
    text, threshold = meta["text_len"], meta["thres"]
    layers = spans.parse_layers(f"{meta['start_layer']}-{meta['end_layer'] - 1}", meta["layers"])
    out, source_maps, target_maps = torch.empty_like(tensors["v"]), [], []
    for number, step in enumerate(meta["steps_run"]):
        source, target = focus_map.FocusMap(), focus_map.FocusMap()  # of the positive prompt
        for layer in range(meta["layers"]):
            q, k, v = (tensors[name][number, layer] for name in "qkv")  # [4, H, S, D]
            source.add(_probability_of(meta["ref_token_idx"], q[2:3], k[2:3], text))
            target.add(_probability_of(meta["cur_token_idx"], q[3:4], k[3:4], text))
            if layer in layers and meta["start_step"] <= step < meta["end_step"]:
                where = kv_share.Focus(*(seen.foreground(meta["frames"], threshold) for seen in (source, target)))
                out[number, layer] = _share_pair(q, k, v, text, where)
                source_maps.append(_picture(source, meta)[0])
                target_maps.append(_picture(target, meta)[0])
            else:
                out[number, layer] = _attend(q, k, v)
    return {"out": out, "src_maps": torch.stack(source_maps), "tgt_maps": torch.stack(target_maps)}


def _ditctrl_reweight(tensors: Tensors, meta: dict) -> Tensors:
    q, k, v, text = tensors["q"], tensors["k"], tensors["v"], meta["text_len"]
    words = torch.zeros(text)
    words[meta["token_idx"]] = 1
    factors = prompt_edit.word_factors(words, meta["scale"]).expand(2, -1)
    out = {}
    for step in (0, 1, 2, 7):
        rows = slice(0, 4, 2) if step < _LAYOUT_STEPS else slice(1, 4, 2)
        read = kv_share.KeysValues(k[rows], v[rows], text_tokens=text)
        out[f"out_step{step}"] = _attend(q, k, v)
        out[f"out_step{step}"][1::2] = prompt_edit.reweight(_attend, q[1::2], read, factors, factors)
    return out


def _share_pair(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, text: int, focus: kv_share.Focus | None
) -> torch.Tensor:
    """Rows u_source, u_target, c_source, c_target [4, H, S, D]: the targets read their sources' keys and values."""
    out = _attend(q, k, v)
    sources, targets = (
        kv_share.KeysValues(k[rows], v[rows], text_tokens=text) for rows in (slice(0, 4, 2), slice(1, 4, 2))
    )
    out[1::2] = kv_share.attend_shared(_attend, q[1::2], targets, sources, focus=focus)
    return out


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """The network's own attention, scale 1 / sqrt(D)."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _probability_of(words: list[int], q: torch.Tensor, k: torch.Tensor, text: int) -> torch.Tensor:
    """[B, video tokens]: how much the video reads the text tokens `words`. q, k [B, H, S, D], text in front."""
    weight = torch.zeros(k.shape[2])
    weight[words] = 1
    return focus_map.word_probability(_attend, q[:, :, text:], k, None, weight)


def _picture(seen: focus_map.FocusMap, meta: dict) -> torch.Tensor:
    """[B, F, h, w], 0..1."""
    return seen.normalised(meta["frames"]).unflatten(2, (meta["h"], meta["w"]))


def _ditctrl_tiny_dit(tensors: Tensors, meta: dict) -> Tensors:
    from tests.golden import tiny_dit  # imports ComfyUI, which takes seconds and which no other kind needs

    return tiny_dit.run(tensors, meta)


def _ditctrl_cscv(tensors: Tensors, meta: dict) -> Tensors:
    numbers = sorted(int(name.removeprefix("features_")) for name in tensors if name.startswith("features_"))
    scores = {number: metrics.cscv(tensors[f"features_{number}"].double()) for number in numbers}
    return {f"score64_{number}": torch.tensor(score, dtype=torch.float64) for number, score in scores.items()}


def _ditctrl_predict(
    x: torch.Tensor, text: torch.Tensor, alpha: float, timestep: int, schedule: zero_snr.AlphaSchedule, toy: dict
) -> torch.Tensor:
    """Guided clean video of a pair: x [2, L, C, H, W], text [2, tokens, width] -> like x."""
    doubled = torch.cat([x, x])  # u_source, u_target, c_source, c_target
    v = toy_networks.ditctrl_velocity(doubled, torch.cat([torch.zeros_like(text), text]), timestep, toy)
    video = alpha_space.video_from_v(doubled, v, schedule.network_alpha(alpha))
    steps = len(schedule.timesteps)
    guidance = alpha_space.dynamic_guidance(_DITCTRL_GUIDANCE, timestep, steps, _DITCTRL_EXPONENT)
    return alpha_space.guide(video[:2], video[2:], guidance)


def _segment_starts(meta: dict) -> list[int]:
    """Starts of `num_segments` segments: those of as many prompts without transitions."""
    return list(latent_blend.ditctrl_layout(meta["num_segments"], meta["tile_size"], meta["overlap"], 0).starts)


def _streaming_blend_x0(tensors: Tensors, meta: dict) -> Tensors:
    schedule = refine.refine_schedule(meta["steps"], meta["total_noise_levels"])
    blended: list[torch.Tensor] = []

    def predict(x_chunk: torch.Tensor, timestep: int, index: int) -> torch.Tensor:
        negative = toy_networks.streaming_velocity(x_chunk, _STREAMING_NEGATIVE)
        positive = toy_networks.streaming_velocity(x_chunk, _STREAMING_POSITIVE)
        return streamingt2v_guidance.rescaled_guidance(negative, positive, meta["guide_scale"], meta["guide_rescale"])

    final = refine.refine(
        tensors["z0"],
        tensors["eps"],
        schedule,
        meta["chunk_size"],
        meta["overlap_size"],
        predict,
        cuts=lambda step: tensors["random_offsets"][step].tolist(),
        fresh_noise=lambda step: tensors["brownian_noise"][step],
        dim=2,
        callback=lambda step, video, x: blended.append(video),
    )
    return {"blended_x0": torch.stack(blended), "final_latents": final}


def _streaming_paper_formula(tensors: Tensors, meta: dict) -> Tensors:
    chunks = tensors["chunk_latents"]  # [chunks, F, C, H, W]
    length = chunks.shape[1]
    total = meta["chunks"] * (length - meta["O"]) + meta["O"]
    starts = refine.chunk_starts(total, length, meta["O"])
    return {"blended": latent_blend.randomized_blend(list(chunks), starts, tensors["f_thr"].tolist(), dim=0)}


def _streaming_blend_x_before(tensors: Tensors, meta: dict) -> Tensors:
    timesteps, alphas = tensors["timesteps"].tolist(), tensors["alphas_cumprod"].double().sqrt().tolist()
    stride = len(alphas) // meta["steps"]
    levels = [*timesteps, max(0, timesteps[-1] - stride)]  # the published scheduler ends at timestep 0

    def predict(x_chunk: torch.Tensor, step: int, index: int) -> torch.Tensor:
        rows = (toy_networks.enhancer_noise(x_chunk, value.item(), timesteps[step])
                for value in tensors["image_cond"][index])  # fmt: skip
        return alpha_space.guide(*rows, meta["guidance_scale"])

    final = refine_ddim.refine_ddim(
        tensors["z0"],
        tensors["eps"],
        [alphas[level] for level in levels],
        meta["chunk_size"],
        meta["overlap_size"],
        predict,
        cuts=lambda step: tensors["random_offsets"][step].tolist(),
    )
    return {"final_latents": final}


def _streaming_frame_encoder(tensors: Tensors, meta: dict) -> Tensors:
    weights = _parameters(tensors)
    first, last = weights["conv_in.weight"], weights["conv_out.weight"]
    normalised = any(name.startswith("norms.") for name in weights)
    encoder = cam.FrameEncoder(first.shape[1], tuple(meta["block_out_channels"]), last.shape[0], normalised)
    encoder.load_state_dict(weights)
    return {"out.embedding": _evaluate(encoder, tensors["in.frames"])}


def _streaming_frame_injector(tensors: Tensors, meta: dict) -> Tensors:
    return {"out.sample": _inject(tensors["in.sample"], tensors["in.conditioning"], tensors, meta)}


def _streaming_flat_frame_injector(tensors: Tensors, meta: dict) -> Tensors:
    sample, conditioning = (tensors[name].unflatten(0, (meta["B"], -1)) for name in ("in.sample", "in.conditioning"))
    return {"out.sample": _inject(sample, conditioning, tensors, meta).flatten(0, 1)}


def _inject(sample: torch.Tensor, conditioning: torch.Tensor, tensors: Tensors, meta: dict) -> torch.Tensor:
    """`sample` [B, F, C, H, W], conditioning [B, Fc, C, H, W] -> like sample."""
    injector = cam.FrameInjector(sample.shape[2], sample.shape[2] // meta["head_dim"])
    injector.load_state_dict(_parameters(tensors, "temporal_transformer."))
    rows = (frames.flatten(3).transpose(2, 3) for frames in (sample, conditioning))  # [B, F, H * W, C]
    return _evaluate(injector, *rows).transpose(2, 3).reshape(sample.shape)


def _streaming_text_mixer(tensors: Tensors, meta: dict) -> Tensors:
    made, mixing = _parameters(tensors, "resampler."), _parameters(tensors, "attn2.")
    text = tensors["in.text"]  # [B, L, C]
    inner, vector = made["context_embedding.0.weight"].shape
    tokens = made["context_embedding.2.weight"].shape[0] // text.shape[2]
    pictures = apm.PictureTokens(vector, inner, tokens, text.shape[2])
    pictures.load_state_dict(made)
    mixer = apm.TextMixer(text.shape[1], tokens, text.shape[2])
    mixer.load_state_dict({name: value for name, value in mixing.items() if not name.startswith("to_")})
    picture = _evaluate(pictures, tensors["in.clip_image_embeds"].unflatten(0, (text.shape[0], -1)))
    return {
        "out.image_tokens": picture,
        "out.mixed": _evaluate(mixer.mixture, text, picture),
        "out.cross_context": _evaluate(mixer, text, picture),
    }


def _streaming_warp_error(tensors: Tensors, meta: dict) -> Tensors:
    frames, flows = tensors["frames"].float(), tensors.get("flows")  # [T, 3, H, W], [T - 1, 2, H, W]
    if meta["resize"]:
        frames = mawe.stretched(frames)
        rows, columns = torch.meshgrid(*(torch.arange(float(edge)) for edge in frames.shape[2:]), indexing="ij")
        flows = torch.stack(
            [torch.stack([c[0] + c[1] * columns + c[2] * rows, c[3] + c[4] * columns + c[5] * rows])
             for c in tensors["flow_coefs"]]
        )  # fmt: skip
    errors = torch.tensor([mawe.warp_error(*pair) for pair in zip(frames[:-1], frames[1:], flows, strict=True)])
    lengths, squares = torch.tensor([mawe.flow_lengths(flow) for flow in flows]).unbind(1)
    answer = {
        "pair_warp_error": errors,
        "pair_mean_flow": lengths,
        "mawe_code": torch.tensor(mawe.mawe_of_the_code(errors, lengths)),
    }
    if meta["resize"]:
        return answer
    return answer | {"mawe_final_paper": torch.tensor(mawe.mawe_of_the_paper(errors, squares, lengths))}


def _parameters(tensors: Tensors, prefix: str = "") -> Tensors:
    start = f"param.{prefix}"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


@torch.no_grad()
def _evaluate(module: Callable, *inputs: torch.Tensor) -> torch.Tensor:
    return module(*inputs)


def _sample(
    x: torch.Tensor, schedule: zero_snr.AlphaSchedule, denoise: Callable, noise: Callable[[int], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, and x after every step [N, ...]: what each step starts from but the first, then the result."""
    before_step: list[torch.Tensor] = []

    def remember(step: int, video: torch.Tensor, x: torch.Tensor) -> None:
        before_step.append(x)

    out = alpha_space.sample(x, schedule.alphas, schedule.timesteps, denoise, noise, callback=remember)
    return out, torch.stack([*before_step[1:], out])


def _second_of_each_pair(draws: torch.Tensor) -> Callable[[int], torch.Tensor]:
    """The published loop draws twice in every step but the first and uses the second: step i takes draw 2 i."""
    return lambda step: draws[2 * step]


_Answer = Callable[[Tensors, dict], Tensors]
_ANSWERS: dict[str, dict[str, _Answer]] = {
    "ttt": {
        "op_": _ttt_op,
        "layer_": _ttt_layer,
        "block_": _ttt_block,
        "tlayer_": _ttt_transformer_layer,
        "dit_": _ttt_network,
        "sampler_": _ttt_sampler,
    },
    "ditctrl": {
        "f_layout": _ditctrl_layout,
        "a_blend": _ditctrl_blend,
        "a2_": _ditctrl_multiprompt,
        "a3_": _ditctrl_edit,
        "b_mask": _ditctrl_mask,
        "c_kvshare": _ditctrl_kv_share,
        "c2_pass": _ditctrl_pass,
        "d_cscv": _ditctrl_cscv,
        "g_tiny_dit": _ditctrl_tiny_dit,
        "e_reweight": _ditctrl_reweight,
    },
    "streamingt2v": {
        "blend_x0_": _streaming_blend_x0,
        "blend_xprev_ddim": _streaming_blend_x_before,
        "blend_paper_formula": _streaming_paper_formula,
        "cam_econd": _streaming_frame_encoder,
        "svd_cam_econd": _streaming_frame_encoder,
        "cam_cross_attention": _streaming_frame_injector,
        "svd_cam_cross_attention": _streaming_flat_frame_injector,
        "apm_mixing": _streaming_text_mixer,
        "mawe_": _streaming_warp_error,
    },
}
