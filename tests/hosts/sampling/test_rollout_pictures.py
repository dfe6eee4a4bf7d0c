"""Image-to-video networks are shown in a rollout what core shows them of a single clip of the same frames."""

import logging

import pytest
import torch

import comfy.clip_vision
import comfy.utils
from comfy_extras.nodes_wan import Wan22FunControlToVideo, WanFunControlToVideo

from longreel.engine.plan.anchor import CLEAN, INPAINT, place_anchor
from longreel.engine.plan.rollout_chunks import plan_chunks
from longreel.engine.plan.timeline import with_segments
from longreel.engine.runs.chunk_file import read_chunk
from longreel.engine.runs.folder import open_run
from longreel.hosts import block_count, facts_of
from longreel.hosts.anchor import frame as anchor_frame
from longreel.hosts.attention import patching
from longreel.hosts.families import picture_channels_of
from longreel.hosts.memory import long_memory, short_memory
from tests.hosts.image_to_video_cases import CELLS, Watched, clip, filling, loaded, of_node, of_shot, pictures, wired
from tests.hosts.rollout_cases import roll, rolled, story
from tests.hosts.windows.test_latent_blend import empty, encode
from tests.tiny_image_to_video import VARIANTS, VISION_TOKENS, VISION_WIDTH

WITH_CHANNELS = [name for name in VARIANTS if name != "hunyuan_i2v_replace"]
WAN = ["wan21_i2v", "wan21_flf", "wan21_fun_inpaint", "wan22_i2v_high", "wan22_i2v_low"]
AT_CONTROL = {"concat_mask_index": 16}  # where Wan 2.2 Fun-Control has its mask
SEED, OVERLAP = 7, 2
MASK, PICTURE = slice(16, 20), slice(20, 36)  # of what a Wan network is shown


def window_of(model, chunk, out: torch.Tensor):
    """(latent, noise mask) that a single clip of core's is given: the chunk's known frames, and nothing."""
    empty = model.process_latent_out(torch.zeros(1, 16, chunk.new_frames, CELLS, CELLS))
    known = out[:, :, chunk.start_frame : chunk.first_new_frame]
    mask = torch.ones(1, 1, chunk.latent_frames, CELLS, CELLS)
    mask[:, :, : chunk.known_frames] = 0
    return torch.cat([known, empty], 2), mask


def expected_of(name: str, conds, timeline, out, steps=1, picture=None, mask=None):
    """What core shows of each chunk as a clip of its own: picture and mask of a node, cut to it, and known frames."""
    model = loaded(name).model.model
    for chunk in plan_chunks(timeline, OVERLAP):
        own, values = of_shot(conds, chunk.shot), {}
        window = slice(chunk.start_frame, chunk.end_frame)
        if picture is not None:
            values = {"concat_latent_image": picture[:, :, window].clone(), "concat_mask": mask[:, :, window].clone()}
        elif chunk.known_frames:
            values["concat_latent_image"] = filling(name, chunk.latent_frames)
            values["concat_mask"] = torch.ones(1, 1, chunk.latent_frames, CELLS, CELLS)
        values |= AT_CONTROL if name == "wan22_fun_control" else {}
        if not chunk.known_frames:
            yield clip(
                name,
                own,
                values,
                torch.zeros(1, 16, chunk.latent_frames, CELLS, CELLS),
                None,
                SEED + chunk.number,
                steps,
            )
            continue
        known = out[:, :, chunk.start_frame : chunk.first_new_frame]
        values["concat_latent_image"][:, -16:, : chunk.known_frames] = known
        values["concat_mask"][:, :, : chunk.known_frames] = 0
        latent, noise_mask = window_of(model, chunk, out)
        yield clip(name, own, values, latent, noise_mask, SEED + chunk.number, steps)


def assert_shown(watched: Watched, expected) -> None:
    expected = [shown for clip in expected for shown in clip]
    assert len(watched.shown) == len(expected)
    for number, (shown, wanted) in enumerate(zip(watched.shown, expected, strict=True)):
        assert shown.x.shape == wanted.x.shape and torch.equal(shown.x, wanted.x), f"evaluation {number}"


def watched_roll(name: str, timeline, conds=None, prepare=lambda model: model, steps=1, **options):
    watched = Watched(prepare(loaded(name).model))
    return watched, roll(loaded(name), timeline, watched.model, conds=conds, steps=steps, seed=SEED, **options)


def story_of(name: str, transitions=("continue", "cut"), **options):
    return story(loaded(name).model, transitions, overlap=OVERLAP, **options)


@pytest.mark.parametrize("name", WITH_CHANNELS)
def test_every_chunk_is_shown_as_the_clip_that_its_known_frames_begin(name):
    timeline = story_of(name)
    conds = encode(loaded(name), timeline)
    watched, out = watched_roll(name, timeline, conds)
    assert_shown(watched, expected_of(name, conds, timeline, out))


@pytest.mark.parametrize("name", WAN)
@pytest.mark.parametrize("end", [0, 1])
def test_what_cores_node_says_stays_in_its_place_on_the_timeline(name, end):
    timeline = story_of(name)
    values = of_node(timeline.pixel_frames, end=end)
    conds = wired(encode(loaded(name), timeline), values)
    watched, out = watched_roll(name, timeline, conds)
    assert_shown(
        watched,
        expected_of(name, conds, timeline, out, picture=values["concat_latent_image"], mask=values["concat_mask"]),
    )
    first, last = watched.shown[0].x, watched.shown[-1].x
    assert first[:, MASK, 0].eq(1).all() and not first[:, MASK, 1:].any()
    assert last[:, MASK, -1].mean((0, 2, 3)).tolist() == [0, 0, 0, end]  # of four pixel frames the last one
    assert not watched.shown[3].x[:, MASK].any()  # the first chunk behind the cut: no other take's picture


@pytest.mark.parametrize(
    ("name", "node"), [("wan21_fun_control", WanFunControlToVideo), ("wan22_fun_control", Wan22FunControlToVideo)]
)
def test_a_control_video_drives_its_own_frames_beside_the_known_ones(name, node):
    timeline = story_of(name, ("continue",))
    control = pictures(timeline.pixel_frames, seed=3)
    with torch.inference_mode():
        values = node.execute(
            [[None, {}]], [[None, {}]], loaded(name).vae, 64, 64, timeline.pixel_frames, 1, control_video=control
        ).args[0][0][1]
    conds = wired(encode(loaded(name), timeline), values)
    watched, out = watched_roll(name, timeline, conds)
    picture, mask = values["concat_latent_image"], torch.ones(1, 1, timeline.latent_frames, CELLS, CELLS)
    assert_shown(watched, expected_of(name, conds, timeline, out, picture=picture, mask=mask))
    with pytest.raises(ValueError, match="video of 3 latent frames and this one has 9"):
        short = {key: value[:, :, :3] if isinstance(value, torch.Tensor) else value for key, value in values.items()}
        watched_roll(name, timeline, wired(encode(loaded(name), timeline), short))


def test_a_node_of_a_shorter_video_says_how_the_timeline_begins():
    """Nobody encodes a minute of grey for one picture."""
    name = "wan21_i2v"
    timeline = story_of(name)
    conds = encode(loaded(name), timeline)
    whole, short = (roll_with(name, timeline, conds, of_node(frames)) for frames in (timeline.pixel_frames, 9))
    for one, other in zip(whole.shown, short.shown, strict=True):
        assert torch.equal(one.x[:, MASK], other.x[:, MASK])
    assert torch.equal(whole.shown[0].x[:, PICTURE, :3], short.shown[0].x[:, PICTURE, :3])
    grey = short.shown[0].x[:, PICTURE, 2:3]  # the last frame of the short one, which goes on
    assert torch.allclose(short.shown[3].x[:, PICTURE], grey.expand(-1, -1, 5, -1, -1), atol=1e-6)
    alone = roll_with(name, timeline, conds, {key: value[:, :, :1] for key, value in of_node(9).items()})
    unknown = torch.tensor(picture_channels_of(loaded(name).model.model).unknown)[None, :, None, None, None]
    assert torch.allclose(alone.shown[0].x[:, PICTURE, 1:], unknown.expand(2, 16, 4, CELLS, CELLS), atol=1e-5)


def roll_with(name: str, timeline, conds, values: dict) -> Watched:
    return watched_roll(name, timeline, wired(conds, values))[0]


@pytest.mark.parametrize(("pixel_frames", "shots"), [(9, 2), (65, 1)])
def test_an_end_that_would_stand_elsewhere_is_refused(pixel_frames, shots):
    timeline = story_of("wan21_flf", ("continue", "cut")[:shots])
    conds = wired(encode(loaded("wan21_flf"), timeline), of_node(pixel_frames, end=1))
    given, has = (pixel_frames + 3) // 4, timeline.latent_frames
    with pytest.raises(ValueError, match=f"{given} latent frames and this one has {has}, .* length {4 * has - 3} in"):
        watched_roll("wan21_flf", timeline, conds)


def test_both_experts_are_shown_the_known_frames():
    timeline = story_of("wan22_i2v_high", ("continue",))
    high, low = (Watched(loaded(f"wan22_i2v_{which}").model) for which in ("high", "low"))
    out = roll(loaded("wan22_i2v_high"), timeline, high.model, steps=2, low_noise_model=low.model, low_noise_from=0.95)
    assert len(high.shown) == len(low.shown) == len(plan_chunks(timeline, OVERLAP)) == 3
    known = loaded("wan22_i2v_low").model.model.process_latent_in(out[:, :, 3:5])
    for one, other in zip(high.shown, low.shown, strict=True):
        assert torch.equal(one.x[:, 16:], other.x[:, 16:])
    assert torch.equal(low.shown[1].x[:1, PICTURE, :OVERLAP], known)


def test_shots_that_blend_see_the_same_frames_and_no_average():
    name = "wan22_i2v_high"
    timeline = story(loaded(name).model, ("continue", "blend"), overlap=4, segment=6)
    timeline = with_segments(timeline, transition_prompts=2)  # shares of thirds
    watched, out = watched_roll(name, timeline)
    blended = [chunk for chunk in plan_chunks(timeline, 4) if len(chunk.mix) > 1]
    assert blended
    for chunk in blended:
        x = watched.shown[chunk.number].x
        known = loaded(name).model.model.process_latent_in(out[:, :, chunk.start_frame : chunk.first_new_frame])
        assert torch.equal(x[:1, PICTURE, : chunk.known_frames], known)
        assert x[:, MASK, : chunk.known_frames].eq(1).all() and not x[:, MASK, chunk.known_frames :].any()


def test_what_a_noise_mask_keeps_is_known_in_every_video_of_a_batch():
    name = "wan22_i2v_high"
    timeline = story_of(name, ("continue",))
    latent = torch.randn(2, *empty(timeline).shape[1:])
    mask = torch.ones_like(latent[:, :1])
    mask[:, :, 2] = 0
    watched, _ = watched_roll(name, timeline, latent={"samples": latent, "noise_mask": mask})
    first = watched.shown[0].x  # two videos under two prompts
    clean = loaded(name).model.model.process_latent_in(latent[:, :, 2:3])
    assert torch.equal(first[:, PICTURE, 2:3], clean.repeat(2, 1, 1, 1, 1))
    assert first[:, MASK].mean((0, 1, 3, 4)).tolist() == [0, 0, 1, 0, 0]


def test_a_picture_of_another_size_is_scaled_as_core_scales_it():
    name = "wan22_i2v_high"
    timeline = story_of(name, ("continue",))
    conds = encode(loaded(name), timeline)
    frames = timeline.latent_frames
    picture, mask = torch.randn(1, 16, frames, 12, 12), torch.ones(1, 1, frames, 12, 12)
    values = {"concat_latent_image": picture, "concat_mask": mask}
    watched, out = watched_roll(name, timeline, wired(conds, values))
    assert_shown(
        watched,
        expected_of(
            name,
            conds,
            timeline,
            out,
            picture=comfy.utils.common_upscale(picture, CELLS, CELLS, "bilinear", "center"),
            mask=torch.ones(1, 1, frames, CELLS, CELLS),
        ),
    )


@pytest.mark.parametrize("shown", [short_memory.CLEAN, short_memory.NOISED])
@pytest.mark.parametrize("name", ["wan21_i2v", "cogvideox10_i2v"])
def test_known_frames_are_clean_in_their_channels_and_noised_in_the_latent_as_in_training(name, shown):
    timeline = story_of(name)
    conds = encode(loaded(name), timeline)

    def remembering(model):
        return short_memory.attach(model, short_memory.KnownFrames(shown, OVERLAP, 1.0, 0.0))

    watched, out = watched_roll(name, timeline, conds, remembering)
    assert_shown(watched, expected_of(name, conds, timeline, out))


@pytest.mark.parametrize(("strength", "known"), [(0.5, 1), (0.25, 0)])
def test_frames_that_are_kept_by_less_than_half_are_not_called_known(strength, known):
    def remembering(model):
        return short_memory.attach(model, short_memory.KnownFrames(short_memory.NOISED, OVERLAP, strength, 0.0))

    watched, _ = watched_roll("wan22_i2v_high", story_of("wan22_i2v_high"), prepare=remembering)
    assert watched.shown[1].x[:, MASK, :OVERLAP].eq(known).all()


@pytest.mark.parametrize("name", ["wan21_i2v", "hunyuan_i2v_concat", "wan22_fun_control"])
def test_frames_of_a_context_pass_are_all_known(name):
    def remembering(model):
        layers = frozenset(range(block_count(model)))
        return patching.attach(
            model, long_memory.LongMemory(long_memory.VIDEO, 2, long_memory.BEFORE, 1.0, layers, 0.0)
        )

    timeline = story_of(name, ("continue", "continue"))
    watched, out = watched_roll(name, timeline, prepare=remembering)
    passes = [shown.x for shown in watched.shown if shown.x.shape[2] == 2]
    assert passes
    clean = loaded(name).model.model.process_latent_in(out[:, :, :2])
    mask, picture = {
        "wan21_i2v": (MASK, PICTURE),
        "hunyuan_i2v_concat": (slice(32, 33), slice(16, 32)),
        "wan22_fun_control": (slice(32, 36), slice(36, 52)),
    }[name]
    assert len(passes) == 1 or name == "wan22_fun_control"  # in one step; later chunks read what it left
    for x in passes:
        assert x[:, mask].eq(1).all() and torch.equal(x[:, picture], clean.expand(2, -1, -1, -1, -1))


@pytest.mark.parametrize("mode", [CLEAN, INPAINT])
@pytest.mark.parametrize("name", ["wan21_i2v", "hunyuan_i2v_concat", "cogvideox10_i2v"])
def test_an_anchor_at_a_shots_start_is_its_start_picture(name, mode):
    timeline = story_of(name)
    border, facts = timeline.shots[1].start_frame, facts_of(loaded(name).model)
    anchor = place_anchor(facts.first_pixel_frame(border) / 16, 16.0, facts, mode, 1.0)
    latent = torch.randn(1, 16, 1, CELLS, CELLS)

    def anchored(model):
        return anchor_frame.attach(model, [anchor_frame.Anchored(anchor, latent)])

    watched, _ = watched_roll(name, timeline, prepare=anchored)
    behind_cut = watched.shown[[chunk.start_frame for chunk in plan_chunks(timeline, OVERLAP)].index(border)].x
    picture = PICTURE if name.startswith("wan") else slice(16, 32)
    clean = loaded(name).model.model.process_latent_in(latent)
    assert torch.allclose(behind_cut[:, picture, :1], clean.expand(2, -1, -1, -1, -1), atol=1e-6)
    if name != "cogvideox10_i2v":
        mask = MASK if name.startswith("wan") else slice(32, 33)
        assert behind_cut[:, mask, 0].eq(1).all() and not behind_cut[:, mask, 1:].any()


def test_the_tokens_of_clip_vision_are_those_of_the_users_picture_in_every_chunk():
    output = comfy.clip_vision.Output()
    output.penultimate_hidden_states = torch.randn(1, VISION_TOKENS, VISION_WIDTH)
    timeline = story_of("wan21_i2v")
    conds = wired(encode(loaded("wan21_i2v"), timeline), {"clip_vision_output": output})
    watched, _ = watched_roll("wan21_i2v", timeline, conds)
    for shown in watched.shown:
        assert any(
            isinstance(value, torch.Tensor) and torch.equal(value[:1], output.penultimate_hidden_states)
            for value in (*shown.kwargs["args"], *shown.kwargs.values())
        )


def test_a_first_frame_is_called_clean_only_where_it_is():
    """HunyuanVideo I2V v2 replaces tokens: its first frame is clean in the latent, and told so."""
    name = "hunyuan_i2v_replace"
    timeline = story_of(name)
    latent = empty(timeline)
    mask = torch.ones_like(latent[:, :1])
    latent[:, :, :1], mask[:, :, :1] = torch.randn(1, 16, 1, CELLS, CELLS), 0  # as HunyuanImageToVideo does it
    conds = encode(loaded(name), timeline)
    conds = wired(conds, {"guiding_frame_index": 0})
    watched, out = watched_roll(name, timeline, conds, latent={"samples": latent, "noise_mask": mask})
    chunks = plan_chunks(timeline, OVERLAP)
    for chunk, shown in zip(chunks, watched.shown, strict=True):
        behind_cut = chunk.start_frame == timeline.shots[1].start_frame
        assert (guiding_frame(shown) is None) == behind_cut
        if not behind_cut:
            clean = loaded(name).model.model.process_latent_in(out[:, :, chunk.start_frame])
            assert torch.allclose(shown.x[:1, :, 0], clean, atol=1e-6)


def guiding_frame(shown):
    return shown.kwargs["args"][6]  # of HunyuanVideo's forward


def test_a_take_that_begins_without_a_picture_is_named_once(caplog):
    timeline = story_of("wan21_i2v")
    conds = encode(loaded("wan21_i2v"), timeline)
    for values, shots in (({}, "shot 1, 2;"), (of_node(9), "shot 2;")):
        with caplog.at_level(logging.WARNING):
            watched_roll("wan21_i2v", timeline, wired(conds, values))
        assert [shots in record.message for record in caplog.records if "picture begins" in record.message] == [True]
        caplog.clear()


def test_a_run_on_disk_says_which_chunks_are_shown_known_frames(tmp_path):
    """Those were made otherwise by an earlier Longreel; the first chunk was not."""
    timeline = story_of("wan21_i2v", ("continue",))
    with open_run(tmp_path) as run:
        rolled(loaded("wan21_i2v"), timeline, steps=1, run=run)
    keys = [read_chunk(file).key for file in sorted(tmp_path.glob("chunk_*.safetensors"))]
    assert ["the picture channels" in key.dependencies for key in keys] == [False, True, True]
