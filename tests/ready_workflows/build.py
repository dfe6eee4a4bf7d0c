"""The graphs of the ready workflows, each with the settings of core's own template for its model.

What every one of them has stands in `_story` and `_film`; a graph says what is its own. Steps, guidance, shift,
sampler, scheduler and frame rate are those of the template that is named at the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.ready_workflows import files, stories
from tests.ready_workflows.files import ModelFile
from tests.ready_workflows.graph import PICTURE, Graph, Node, Wire

RUN = (
    "**Run.** Write your shots in *Longreel Storyboard*, press Run. *Longreel Plan* shows frames, segments and memory "
    "before anything is sampled; a run that cannot fit your card stops there and says what would."
)
PLAN_WIDTH, PLAN_TALL = 420, 640  # with the picture and the report that it draws when it has run
NOTE_WIDTH, BOARD_WIDTH, REPORT_WIDTH, TALL = 420, 560, 620, 520
Build = Callable[[Graph], None]
Picture = Callable[[Graph, Node, Node, Wire], Node]  # of graph, plan, prompts and VAE, to the node of the new prompts
GRAPHS: dict[str, Build] = {}


def ready(name: str) -> Callable[[Build], Build]:
    """Enter a graph under the name of its workflow, whose number is its place among the templates."""

    def enter(build: Build) -> Build:
        GRAPHS[name] = build
        return build

    return enter


def _note(graph: Graph, title: str, what: str, settings: str, card: str) -> None:
    text = f"""### {title}

{what}

**Files.** ComfyUI names what is missing when you open this and offers to download it into the right folders.

{RUN}

**Settings.** {settings}

**Card.** {card}
"""
    graph.column("Note")
    graph.note(text, wide=NOTE_WIDTH, tall=TALL)


def _loader(graph: Graph, file: ModelFile, title: str = "") -> Node:
    return graph.add("UNETLoader", title=title, models=[file], unet_name=file.name, weight_dtype="default")


def _clip(graph: Graph, file: ModelFile, kind: str) -> Wire:
    return graph.add("CLIPLoader", models=[file], clip_name=file.name, type=kind, device="default").out()


def _vae(graph: Graph, file: ModelFile) -> Wire:
    return graph.add("VAELoader", models=[file], vae_name=file.name).out()


def _lora(graph: Graph, model: Node, file: ModelFile, strength: float = 1.0) -> Node:
    return graph.add(
        "LoraLoaderModelOnly", models=[file], model=model.out(), lora_name=file.name, strength_model=strength
    )  # fmt: skip


def _shift(graph: Graph, model: Node, shift: float) -> Node:
    return graph.add("ModelSamplingSD3", model=model.out(), shift=shift)


def _story(graph: Graph, text: str, model: Node, clip: Wire, *, steps: int, guidance: bool, **plan: Any):
    """Add the storyboard, its plan and its prompts; return (plan, encode)."""
    graph.column("Story")
    board = graph.add("LongreelStoryboard", wide=BOARD_WIDTH, tall=TALL, text=text)
    graph.column("Story")
    planned = graph.add(
        "LongreelPlan", model=model.out(), storyboard=board.out(), steps=steps, guidance=guidance, wide=PLAN_WIDTH,
        tall=PLAN_TALL, **plan,
    )  # fmt: skip
    encode = graph.add("LongreelEncode", clip=clip, timeline=planned.out("timeline"))
    graph.column("Story")
    graph.add("PreviewAny", title="Plan", wide=REPORT_WIDTH, tall=TALL, source=planned.out("report"))
    return planned, encode


def _sampler(
    graph: Graph, model: Node, planned: Node, positive: Wire, negative: Wire, *, sampler: Wire, sigmas: Wire,
    cfg: float, **mode: Any,
) -> Node:  # fmt: skip
    """Add Longreel Sampler and its report."""
    node = graph.add(
        "LongreelSampler", model=model.out(), timeline=planned.out("timeline"), positive=positive, negative=negative,
        latent=planned.out("latent"), sampler=sampler, sigmas=sigmas, seed=7, cfg=cfg, tall=460 + PICTURE, **mode,
    )  # fmt: skip
    graph.add("PreviewAny", title="What was made", tall=PICTURE, source=node.out("report"))
    return node


def _schedule(graph: Graph, model: Node, *, sampler: str, steps: int) -> tuple[Wire, Wire]:
    """Add a core sampler and scheduler; return (sampler, sigmas)."""
    chosen = graph.add("KSamplerSelect", sampler_name=sampler)
    sigmas = graph.add("BasicScheduler", model=model.out(), scheduler="simple", steps=steps, denoise=1.0)
    return chosen.out(), sigmas.out()


def _film(graph: Graph, name: str, sampled: Node, planned: Node, vae: Wire) -> None:
    """Add the decoder that writes the video frame by frame, and the video."""
    graph.column("Video")
    video = graph.add(
        "LongreelDecodeToVideo", tall=180 + PICTURE, vae=vae, samples=sampled.out(), fps=planned.out("fps"),
        filename_prefix=f"longreel/{name}", crf=19, timeline=planned.out("timeline"),
    )  # fmt: skip
    graph.add("PreviewAny", title="How it was decoded", tall=PICTURE, source=video.out("report"))


def _memories(graph: Graph, model: Node) -> Node:
    """Add the memories of StreamingT2V: the last frames, shown clean, and the keys and values of the first ones."""
    short = graph.add("LongreelShortMemory", model=model.out(), method="known frames", method__shown="clean")
    return graph.add("LongreelLongMemory", model=short.out(), preset="same scene throughout")


EXPERTS = (
    "Both experts work in one sampler: *model* takes the first steps, *low_noise_model* the rest; *Longreel Pair* "
    "gives the second one the memories of the first. Chunks are finished "
    "one after the other and kept in output/longreel under *run_name*: queue again to go on after a stop, change a "
    "shot and only what depends on it is made again."
)


def _two_experts(
    graph: Graph, name: str, *, high: ModelFile, low: ModelFile, loras: tuple[ModelFile, ModelFile] | None, text: str,
    steps: int, cfg: float, meet: float, picture: Picture | None = None,
) -> None:  # fmt: skip
    """Build a rollout with memories on the two experts of Wan 2.2 14B; `picture`: what an image-to-video one needs."""
    graph.column("Model")
    experts = [_loader(graph, file, title) for file, title in ((high, "High noise"), (low, "Low noise"))]
    clip, vae = _clip(graph, files.UMT5, "wan"), _vae(graph, files.WAN_VAE)
    graph.column("Model")
    if loras:
        experts = [_lora(graph, expert, file) for expert, file in zip(experts, loras, strict=True)]
    experts = [_shift(graph, expert, 5.0) for expert in experts]
    graph.column("Model")
    remembering = _memories(graph, experts[0])
    pair = graph.add("LongreelPair", model=remembering.out(), low_noise_model=experts[1].out())
    planned, encode = _story(graph, text, pair, clip, steps=steps, guidance=cfg != 1)
    graph.column("Sampling", below="Story")
    prompts = encode
    if picture:
        prompts = picture(graph, planned, encode, vae)
        graph.column("Sampling")
    sampler, sigmas = _schedule(graph, pair, sampler="euler", steps=steps)
    graph.column("Sampling")
    sampled = _sampler(
        graph, pair, planned, prompts.out("positive"), prompts.out("negative"), sampler=sampler, sigmas=sigmas,
        cfg=cfg, mode="rollout", mode__run_name=name, mode__low_noise_model=pair.out("low_noise_model"),
        mode__low_noise_from=meet,
    )  # fmt: skip
    _film(graph, name, sampled, planned, vae)


@ready("21_wan22_14b_text_to_video")
def _wan22_text(graph: Graph) -> None:  # core: video_wan2_2_14B_t2v
    _note(
        graph, "Wan 2.2 14B, text to video, of any length", EXPERTS,
        "Those of ComfyUI's own template: 20 steps, cfg 3.5, shift 5, euler, simple, 16 fps.",
        "16 or 24 GB with 64 GB of main memory, by Longreel's plan: weights are streamed, and what the memories keep "
        "lies in main memory. Where that is short, remove *Longreel Long Memory*.",
    )  # fmt: skip
    _two_experts(
        graph, "wan22_14b_text_to_video", high=files.T2V_HIGH, low=files.T2V_LOW, loras=None, steps=20, cfg=3.5,
        meet=0.875, text=stories.storyboard(
            "The fox comes home", stories.FOX, seconds=5.0, fps=16, width=832, height=480, transition="continue"
        ),
    )  # fmt: skip


@ready("22_wan22_14b_text_to_video_4_steps")
def _wan22_text_4_steps(graph: Graph) -> None:  # core: video_wan2_2_14B_t2v, its switch on
    _note(
        graph, "Wan 2.2 14B, text to video in 4 steps", EXPERTS,
        "Those of ComfyUI's own template with its 4-step LoRAs: 4 steps, cfg 1 (negative prompts do nothing), shift "
        "5, euler, simple, 16 fps.",
        "As without the LoRAs, in a tenth of the time: 4 steps of one prompt instead of 20 of two.",
    )  # fmt: skip
    _two_experts(
        graph, "wan22_14b_text_to_video_4_steps", high=files.T2V_HIGH, low=files.T2V_LOW,
        loras=(files.T2V_HIGH_4_STEPS, files.T2V_LOW_4_STEPS), steps=4, cfg=1.0, meet=0.875,
        text=stories.storyboard(
            "The fox comes home", stories.FOX, seconds=5.0, fps=16, width=832, height=480, transition="continue"
        ),
    )  # fmt: skip


@ready("23_wan22_14b_image_to_video")
def _wan22_image(graph: Graph) -> None:  # core: video_wan2_2_14B_i2v, its switch on
    def picture(graph: Graph, planned: Node, encode: Node, vae: Wire) -> Node:
        start = graph.add("LoadImage", title="Start picture", tall=PICTURE + 60, image="example.png")
        return graph.add(
            "WanImageToVideo", positive=encode.out("positive"), negative=encode.out("negative"), vae=vae,
            width=planned.out("width"), height=planned.out("height"), length=81, start_image=start.out(),
        )  # fmt: skip

    _note(
        graph, "Wan 2.2 14B, image to video in 4 steps, of any length",
        "Choose the start picture; the first chunk begins with it, and every later one with the last frames of the "
        "one before, in the picture channels that this model was trained to read. " + EXPERTS,
        "Those of ComfyUI's own template with its 4-step LoRAs: 4 steps, cfg 1 (negative prompts do nothing), shift "
        "5, euler, simple, 16 fps. *length* of WanImageToVideo may stay: it only has to hold the start picture.",
        "16 or 24 GB with 64 GB of main memory, by Longreel's plan.",
    )  # fmt: skip
    _two_experts(
        graph, "wan22_14b_image_to_video", high=files.I2V_HIGH, low=files.I2V_LOW,
        loras=(files.I2V_HIGH_4_STEPS, files.I2V_LOW_4_STEPS), steps=4, cfg=1.0, meet=0.9, picture=picture,
        text=stories.storyboard(
            "A picture comes to life", stories.PICTURE, seconds=5.0, fps=16, width=640, height=640,
            transition="continue",
        ),
    )  # fmt: skip


@ready("24_wan22_5b_storyboard")
def _wan22_5b(graph: Graph) -> None:  # core: video_wan2_2_5B_ti2v
    _note(
        graph, "Wan 2.2 5B, a storyboard with blends",
        "All segments are sampled together, step by step, and blended where they overlap: one shot flows into the "
        "next. Write *cut* for a hard change.",
        "Those of ComfyUI's own template: 20 steps, cfg 5, shift 8, uni_pc, simple, 24 fps, 1280 x 704.",
        "16 GB, by Longreel's plan; on 12 GB the weights are streamed.",
    )  # fmt: skip
    graph.column("Model")
    model = _loader(graph, files.WAN_22_SMALL)
    clip, vae = _clip(graph, files.UMT5, "wan"), _vae(graph, files.WAN_22_VAE)
    model = _shift(graph, model, 8.0)
    text = stories.storyboard(
        "Into the pool", stories.WATERFALL, seconds=4.0, fps=24, width=1280, height=704, transition="blend"
    )
    _joint(graph, "wan22_5b_storyboard", model, clip, vae, text, steps=20, cfg=5.0, sampler="uni_pc")


def _joint(
    graph: Graph, name: str, model: Node, clip: Wire, vae: Wire, text: str, *, steps: int, cfg: float, sampler: str
) -> None:  # fmt: skip
    """Build joint sampling with one of core's samplers."""
    planned, encode = _story(graph, text, model, clip, steps=steps, guidance=cfg != 1)
    graph.column("Sampling", below="Story")
    chosen, sigmas = _schedule(graph, model, sampler=sampler, steps=steps)
    graph.column("Sampling")
    sampled = _sampler(
        graph, model, planned, encode.out("positive"), encode.out("negative"), sampler=chosen, sigmas=sigmas, cfg=cfg
    )  # fmt: skip
    _film(graph, name, sampled, planned, vae)


@ready("25_wan21_1_3b_kv_share")
def _wan21_kv_share(graph: Graph) -> None:  # core: text_to_video_wan
    _note(
        graph, "Wan 2.1 1.3B, the same subject in every shot",
        "Four shots with cuts between them. With *Longreel KV Share* the later shots look at the first one while they "
        "are made, so that the fox stays the same fox. Bypass the node to see the difference.",
        "Those of ComfyUI's own template: 30 steps, cfg 6, shift 8, uni_pc, simple, 16 fps.",
        "12 GB, by Longreel's plan; the first shot's keys and values, 12 GB, then lie in main memory.",
    )  # fmt: skip
    graph.column("Model")
    model = _loader(graph, files.WAN_21_SMALL)
    clip, vae = _clip(graph, files.UMT5, "wan"), _vae(graph, files.WAN_VAE)
    model = _shift(graph, model, 8.0)
    text = stories.storyboard("The fox in four shots", stories.FOX, seconds=5.0, fps=16, width=832, height=480)
    graph.column("Model")
    share = graph.add(
        "LongreelKVShare", model=model.out(), source="first", join="extend", placement="before", share_text=False,
        layers="all", start_percent=0.0, end_percent=1.0, preset="same subject in every shot",
    )  # fmt: skip
    _joint(graph, "wan21_1_3b_kv_share", share, clip, vae, text, steps=30, cfg=6.0, sampler="uni_pc")


@ready("30_cogvideox15_storyboard")
def _cogvideox15(graph: Graph) -> None:
    _note(
        graph, "CogVideoX 1.5 5B, a storyboard with blends",
        "All segments are sampled together, step by step, and blended where they overlap. *Longreel Alpha Space "
        "Sampler* stands where other models have KSamplerSelect. ComfyUI has no template for CogVideoX; the links are "
        "those of its single-file repackaging by Kijai.",
        "The model card's: 50 steps, cfg 6, 16 fps, 1360 x 768.",
        "24 GB.",
    )  # fmt: skip
    graph.column("Model")
    model = _loader(graph, files.COGVIDEOX)
    clip, vae = _clip(graph, files.T5, "cogvideox"), _vae(graph, files.COGVIDEOX_VAE)
    text = stories.storyboard(
        "Into the pool", stories.WATERFALL, seconds=5.0, fps=16, width=1360, height=768, transition="blend"
    )
    planned, encode = _story(graph, text, model, clip, steps=50, guidance=True)
    graph.column("Sampling", below="Story")
    sampler = graph.add("LongreelAlphaSpaceSampler")
    sigmas = graph.add("BasicScheduler", model=model.out(), scheduler="simple", steps=50, denoise=1.0)
    graph.column("Sampling")
    sampled = _sampler(
        graph, model, planned, encode.out("positive"), encode.out("negative"), sampler=sampler.out(),
        sigmas=sigmas.out(), cfg=6.0,
    )  # fmt: skip
    _film(graph, "cogvideox15_storyboard", sampled, planned, vae)


@ready("29_ltxv_storyboard")
def _ltxv(graph: Graph) -> None:  # core: ltxv_text_to_video
    _note(
        graph, "LTXV 2B, a storyboard with blends",
        "All segments are sampled together, step by step, and blended where they overlap. *LTXVScheduler* counts the "
        "tokens of one segment, from *segment_latent* of Longreel Plan; with the latent of the whole video it gives "
        "wrong noise levels. The frame rate of the storyboard goes to the model by itself.",
        "Those of ComfyUI's own template: 30 steps, cfg 3, euler, LTXVScheduler, 25 fps, 768 x 512.",
        "12 GB, by Longreel's plan.",
    )  # fmt: skip
    graph.column("Model")
    model = graph.add("CheckpointLoaderSimple", models=[files.LTXV], ckpt_name=files.LTXV.name)
    clip = _clip(graph, files.T5, "ltxv")
    text = stories.storyboard(
        "Into the pool", stories.WATERFALL, seconds=4.0, fps=25, width=768, height=512, transition="blend"
    )
    planned, encode = _story(graph, text, model, clip, steps=30, guidance=True)
    graph.column("Sampling", below="Story")
    sampler = graph.add("KSamplerSelect", sampler_name="euler")
    sigmas = graph.add(
        "LTXVScheduler", steps=30, max_shift=2.05, base_shift=0.95, stretch=True, terminal=0.1,
        latent=planned.out("segment_latent"),
    )  # fmt: skip
    graph.column("Sampling")
    sampled = _sampler(
        graph, model, planned, encode.out("positive"), encode.out("negative"), sampler=sampler.out(),
        sigmas=sigmas.out(), cfg=3.0,
    )  # fmt: skip
    _film(graph, "ltxv_storyboard", sampled, planned, model.out("VAE"))


@ready("28_hunyuanvideo15_storyboard")
def _hunyuan15(graph: Graph) -> None:  # core: video_hunyuan_video_1.5_720p_t2v
    _note(
        graph, "HunyuanVideo 1.5, a storyboard with blends",
        "All segments are sampled together, step by step, and blended where they overlap.",
        "Those of ComfyUI's own template: 20 steps, cfg 6, shift 7, euler, simple, 24 fps, 1280 x 720. Beside "
        "Longreel use LazyCache, not EasyCache.",
        "24 GB.",
    )  # fmt: skip
    graph.column("Model")
    model = _loader(graph, files.HUNYUAN_15)
    clip = graph.add(
        "DualCLIPLoader", models=[files.QWEN, files.BYT5], clip_name1=files.QWEN.name, clip_name2=files.BYT5.name,
        type="hunyuan_video_15", device="default",
    ).out()  # fmt: skip
    vae = _vae(graph, files.HUNYUAN_15_VAE)
    model = _shift(graph, model, 7.0)
    text = stories.storyboard(
        "Into the pool", stories.WATERFALL, seconds=4.0, fps=24, width=1280, height=720, transition="blend"
    )
    _joint(graph, "hunyuanvideo15_storyboard", model, clip, vae, text, steps=20, cfg=6.0, sampler="euler")


@ready("27_wan22_s2v_talking")
def _wan22_s2v(graph: Graph) -> None:  # core: video_wan2_2_14B_s2v
    name = "wan22_s2v_talking"
    _note(
        graph, "Wan 2.2 S2V, a long talking shot in 4 steps",
        "Choose a picture of a speaker and the speech, and give the storyboard as many seconds as the speech has. "
        "Every chunk hears its own part of the sound and goes on from the frames before it. This model's first latent "
        "frame holds four pictures as all others do, so, as in ComfyUI's template, it is decoded behind a copy of "
        "itself, and the three frames that this adds are left out.",
        "Those of ComfyUI's own template with its 4-step LoRA: 4 steps, cfg 1, shift 8, uni_pc, simple, 16 fps, 77 "
        "frames at once.",
        "16 or 24 GB with 64 GB of main memory; the decoded video lies in main memory as a whole, 4.7 MB a frame.",
    )  # fmt: skip
    graph.column("Model")
    model = _loader(graph, files.S2V)
    clip, vae = _clip(graph, files.UMT5, "wan"), _vae(graph, files.WAN_VAE)
    hearing = graph.add("AudioEncoderLoader", models=[files.WAV2VEC2], audio_encoder_name=files.WAV2VEC2.name)
    graph.column("Model")
    model = _shift(graph, _lora(graph, model, files.T2V_HIGH_4_STEPS), 8.0)
    text = stories.storyboard(
        "A speech", stories.SPEAKER, seconds=5.0, fps=16, width=640, height=640, transition="continue", style=""
    )
    planned, encode = _story(graph, text, model, clip, steps=4, guidance=False, segment_frames=77)
    graph.column("Sampling", below="Story")
    speaker = graph.add("LoadImage", title="Speaker", tall=PICTURE + 60, image="example.png")
    speech = graph.add("LoadAudio", title="Speech", tall=140, audio="speech.wav")
    heard = graph.add("AudioEncoderEncode", audio_encoder=hearing.out(), audio=speech.out())
    graph.column("Sampling")
    prompts = graph.add(
        "WanSoundImageToVideo", positive=encode.out("positive"), negative=encode.out("negative"), vae=vae,
        width=planned.out("width"), height=planned.out("height"), length=planned.out("frames"),
        audio_encoder_output=heard.out(), ref_image=speaker.out(),
    )  # fmt: skip
    sampler, sigmas = _schedule(graph, model, sampler="uni_pc", steps=4)
    graph.column("Sampling")
    sampled = _sampler(
        graph, model, planned, prompts.out("positive"), prompts.out("negative"), sampler=sampler, sigmas=sigmas,
        cfg=1.0, mode="rollout", mode__run_name=name,
    )  # fmt: skip
    graph.column("Video")
    first = graph.add("LatentCut", samples=sampled.out(), dim="t", index=0, amount=1)
    doubled = graph.add("LatentConcat", samples1=first.out(), samples2=sampled.out(), dim="t")
    pictures = graph.add("VAEDecode", samples=doubled.out(), vae=vae)
    pictures = graph.add("ImageFromBatch", image=pictures.out(), batch_index=3, length=4096)
    video = graph.add("CreateVideo", images=pictures.out(), fps=planned.out("fps"), audio=speech.out())
    graph.add("SaveVideo", tall=2 * PICTURE, video=video.out(), filename_prefix=f"longreel/{name}")


@ready("26_wan21_vace_control")
def _wan21_vace(graph: Graph) -> None:  # core: video_wan_vace_14B_v2v, its 1.3B
    name = "wan21_vace_control"
    _note(
        graph, "Wan 2.1 VACE 1.3B, a control video in 4 steps, of any length",
        "Choose a video: its edges are followed, and the storyboard says what is seen. Give the storyboard as many "
        "seconds as the video has. Every chunk is shown its own part of the edges and goes on from the frames before "
        "it; the first frames are remembered.",
        "Those of ComfyUI's own template with its CausVid LoRA at 0.7: 4 steps, cfg 1, shift 8, uni_pc, simple, 16 "
        "fps.",
        "12 GB, by Longreel's plan; the control video lies in main memory as a whole, 4.8 MB a frame.",
    )  # fmt: skip
    graph.column("Model")
    model = _loader(graph, files.VACE)
    clip, vae = _clip(graph, files.UMT5, "wan"), _vae(graph, files.WAN_VAE)
    graph.column("Model")
    model = _shift(graph, _lora(graph, model, files.VACE_4_STEPS, strength=0.7), 8.0)
    graph.column("Model")
    model = _memories(graph, model)
    text = stories.storyboard(
        "A film in watercolour", stories.PAINTED, seconds=5.0, fps=16, width=832, height=480, transition="continue",
        style="",
    )  # fmt: skip
    planned, encode = _story(graph, text, model, clip, steps=4, guidance=False)
    graph.column("Sampling", below="Story")
    control = graph.add("LoadVideo", title="Control video", tall=PICTURE, file="control.mp4")
    pictures = graph.add("GetVideoComponents", video=control.out())
    edges = graph.add("Canny", image=pictures.out("images"), low_threshold=0.4, high_threshold=0.8)
    graph.column("Sampling")
    prompts = graph.add(
        "WanVaceToVideo", positive=encode.out("positive"), negative=encode.out("negative"), vae=vae,
        width=planned.out("width"), height=planned.out("height"), length=planned.out("frames"),
        control_video=edges.out(),
    )  # fmt: skip
    sampler, sigmas = _schedule(graph, model, sampler="uni_pc", steps=4)
    graph.column("Sampling")
    sampled = _sampler(
        graph, model, planned, prompts.out("positive"), prompts.out("negative"), sampler=sampler, sigmas=sigmas,
        cfg=1.0, mode="rollout", mode__run_name=name,
    )  # fmt: skip
    _film(graph, name, sampled, planned, vae)
