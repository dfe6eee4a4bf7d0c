"""engine/attention/focus_picture.py: heat grows with the map, frames dim where it is low, the outline parts them."""

import pytest
import torch

from longreel.engine.attention.focus_picture import DIM, HEAT, OUTLINE, focus_pictures, frames_of_latent, heat
from longreel.engine.plan.timeline import plan_timeline
from tests.engine.timeline_cases import LTXV, WAN, storyboard

WHITE = torch.tensor(OUTLINE)


@pytest.fixture
def square():
    """[1, 4, 4]: a map that is high in its middle."""
    maps = torch.full((1, 4, 4), 0.1)
    maps[:, 1:3, 1:3] = 0.8
    return maps


def test_heat_begins_and_ends_with_its_colours_and_runs_straight_between_them():
    ends = heat(torch.tensor([[[0.0, 1 / 3, 2 / 3, 1.0]]]))[0, 0]
    assert torch.allclose(ends, HEAT, atol=1e-5)
    assert torch.allclose(heat(torch.full((1, 1, 1), 0.5))[0, 0, 0], (HEAT[1] + HEAT[2]) / 2, atol=1e-5)


def test_heat_grows_brighter_with_the_map_and_ends_at_its_ends():
    brightness = heat(torch.linspace(0, 1, 50)[None, None]).sum(dim=-1)[0, 0]
    assert (brightness.diff() > 0).all()
    assert torch.equal(heat(torch.tensor([[[-1.0, 2.0]]]))[0, 0], HEAT[[0, 3]])


def test_a_map_without_frames_is_heat_of_the_videos_size_with_an_outline(square):
    picture = focus_pictures(square, 0.5, width=32, height=16)
    assert picture.shape == (1, 16, 32, 3)
    assert torch.equal(picture[0, 0, 0], heat(square)[0, 0, 0])  # outside
    assert torch.equal(picture[0, 7, 15], heat(square)[0, 1, 1])  # well inside
    assert torch.equal(picture[0, 4, 8], WHITE) and torch.equal(picture[0, 11, 23], WHITE)  # its corners
    assert torch.equal(picture[0, 3, 8], heat(square)[0, 0, 0])  # one pixel further out


def test_the_outline_is_one_pixel_wide_and_follows_the_threshold(square):
    def outline(threshold):
        return (focus_pictures(square, threshold, 16, 16)[0] == WHITE).all(dim=-1)

    assert outline(0.5).sum() == outline(0.8).sum() == 8 * 4 - 4  # around 8 x 8 pixels
    assert outline(0.81).sum() == 0
    assert outline(0.0).sum() == 16 * 4 - 4  # all is inside: the picture's own edge


def test_frames_keep_their_light_where_the_map_is_1_and_a_part_of_it_where_it_is_0():
    maps = torch.tensor([[[0.0, 0.5, 1.0]]])
    frames = torch.full((1, 6, 18, 3), 0.5)
    row = focus_pictures(maps, 2.0, 18, 6, frames)[0, 3, [3, 9, 15], 0]  # nothing reaches 2: no outline
    assert torch.allclose(row, 0.5 * torch.tensor([DIM, (1 + DIM) / 2, 1.0]))


def test_frames_of_another_size_are_scaled_to_the_videos(square):
    frames = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    picture = focus_pictures(square, 0.5, 32, 16, frames)
    assert picture.shape == (1, 16, 32, 3) and picture.min() >= 0 and picture.max() <= 1


@pytest.mark.parametrize("facts", [WAN, LTXV], ids=lambda facts: facts.family)
def test_each_latent_frame_gets_the_pixel_frame_at_which_it_begins(facts):
    timeline = plan_timeline(storyboard(2.0, 2.0), facts)
    images = torch.arange(timeline.pixel_frames)[:, None, None, None].expand(-1, 2, 2, 4).float()  # 4: with alpha
    frames = frames_of_latent(images, timeline)
    stride = facts.temporal_stride
    assert frames.shape == (timeline.latent_frames, 2, 2, 3)
    assert frames[:, 0, 0, 0].tolist() == [0] + [1 + stride * n for n in range(timeline.latent_frames - 1)]


def test_a_video_of_another_length_is_refused_with_both_numbers():
    timeline = plan_timeline(storyboard(2.0), WAN)
    with pytest.raises(ValueError, match=f"images has 7 frames and the timeline {timeline.pixel_frames}; wire"):
        frames_of_latent(torch.zeros(7, 8, 8, 3), timeline)
