"""The detector reads rendered clips without a mistake, survives blur and cropping, and does not guess."""

import random

import pytest
import torch
import torch.nn.functional as F

from longreel.demo import world
from longreel.demo.detector import color_shares, read_clip, read_motion


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small tensors gain nothing from a second thread, and lose much when another process wants the same core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _clip(scene: world.Scene, frames: int) -> torch.Tensor:
    return world.render(scene, frames).permute(0, 2, 3, 1)  # [F, H, W, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "clips"), [(1, 40), (17, 14), (21, 6)])
def test_every_rendered_clip_is_read_right(frames, clips):
    rng = random.Random(frames)
    for i in range(clips):
        scene = world.random_scene(rng, frames, held_out=bool(i % 2))
        reading = read_clip(_clip(scene, frames))
        assert reading.agrees(scene)["all"], (scene, reading)
        assert reading.size == scene.size
        assert reading.motion == (scene.motion if frames > 1 else None)
        track = world.track(scene.motion, scene.x, scene.y, scene.phase, frames)
        assert (reading.positions - track).abs().max() < 0.6


@pytest.mark.slow
def test_blurred_and_noisy_clips_are_still_read():
    rng = random.Random(5)
    noise = torch.Generator().manual_seed(5)
    for _ in range(8):
        scene = world.random_scene(rng, 17)
        frames = F.avg_pool2d(F.pad(world.render(scene, 17), (2, 2, 2, 2), mode="replicate"), 5, 1)
        frames = frames + 0.03 * torch.randn(frames.shape, generator=noise)
        assert read_clip(frames.permute(0, 2, 3, 1)).agrees(scene)["all"], scene


@pytest.mark.parametrize("shape", world.SHAPES)
@pytest.mark.parametrize("corner", [(4.0, 32.0), (32.0, 4.0), (60.0, 32.0), (32.0, 60.0)])
def test_a_shape_half_outside_the_picture_is_found(shape, corner):
    scene = world.Scene(shape, "red", "white", "stays still", "big", *corner)
    reading = read_clip(_clip(scene, 5))
    assert reading.shape == shape
    assert reading.motion == "stays still"
    assert (reading.positions[0] - torch.tensor(corner)).abs().max() < 1.0


def test_noise_gives_no_answer():
    reading = read_clip(torch.rand(17, 64, 64, 3, generator=torch.Generator().manual_seed(0)))
    assert (reading.background, reading.color, reading.shape, reading.motion) == (None, None, None, None)
    assert not reading.object_present


@pytest.mark.parametrize("background", world.BACKGROUNDS)
def test_an_empty_clip_has_a_background_and_no_object(background):
    reading = read_clip(torch.tensor(world.BACKGROUNDS[background]).expand(9, 64, 64, 3))
    assert reading.background == background
    assert (reading.color, reading.shape, reading.motion) == (None, None, None)
    assert not reading.present.any()


def test_an_object_that_vanishes_is_seen_to_be_absent():
    clip = _clip(world.Scene("circle", "blue", "gray", "stays still"), 12).clone()
    clip[8:] = torch.tensor(world.BACKGROUNDS["gray"])
    reading = read_clip(clip)
    assert reading.present.tolist() == [True] * 8 + [False] * 4
    assert not reading.object_present
    assert not reading.agrees(world.Scene("circle", "blue", "gray", "stays still"))["color"]


def test_half_red_half_blue_has_no_colour():
    red = _clip(world.Scene("square", "red", "white", "stays still"), 8)
    blue = _clip(world.Scene("square", "blue", "white", "stays still"), 9)
    assert read_clip(torch.cat([red, red[:1], blue])).color_confidence < 0.55


def test_a_star_that_a_vae_rounded_is_no_circle_and_a_circle_no_star():
    """Its tips are gone and its valleys filled, as the demo model's VAE leaves small stars."""
    for shape in ("star", "circle", "square"):
        centre = torch.tensor([[30.0, 34.0]])
        cover = world.coverage(shape, centre, 10.5)[0]
        offsets = [(dy, dx) for dy in range(-7, 8) for dx in range(-7, 8)]
        weights = [2.718 ** (-(dy * dy + dx * dx) / 18) for dy, dx in offsets]
        blurred = sum(w * cover.roll(by, (0, 1)) for w, by in zip(weights, offsets, strict=True)) / sum(weights)
        soft = (2 * blurred - 0.5).clamp(0, 1)[..., None]
        frame = soft * torch.tensor(world.COLORS["blue"]) + (1 - soft) * torch.tensor(world.BACKGROUNDS["teal"])
        assert read_clip(frame.expand(2, 64, 64, 3)).shape == shape


def test_a_ragged_blob_has_no_shape():
    clip = torch.tensor(world.BACKGROUNDS["white"]).repeat(5, 64, 64, 1)
    for i in range(6):  # a loose diagonal row of small squares
        clip[:, 8 + 8 * i : 12 + 8 * i, 8 + 8 * i : 12 + 8 * i] = torch.tensor(world.COLORS["red"])
    reading = read_clip(clip)
    assert reading.color == "red"
    assert reading.shape is None


def test_motion_needs_five_frames_and_a_plausible_track():
    assert read_motion(world.track("moves left", 40, 32, 0, 4))[0] is None
    assert read_motion(world.track("moves left", 40, 32, 0, 9))[0] == "moves left"
    wild = torch.rand(17, 2, generator=torch.Generator().manual_seed(1)) * 64
    assert read_motion(wild)[0] is None


def test_color_shares_count_solid_pixels():
    shares = color_shares(_clip(world.Scene("square", "green", "black", "stays still"), 1))
    assert max(shares, key=shares.get) == "green"
    assert abs(shares["green"] - (2 * 0.88 * 14.0) ** 2 / 64**2) < 0.02


def test_another_size_of_picture_is_refused():
    with pytest.raises(ValueError, match="64"):
        read_clip(torch.zeros(3, 32, 64, 3))
