"""The warp error sees what its flow does not explain; which pixels count is the published code's choice."""

import pytest
import torch

from longreel.engine.measure.mawe import flow_lengths, mawe_of_the_code, mawe_of_the_paper, stretched, warp_error


def constant(x: float, y: float, side: int = 24) -> torch.Tensor:
    return torch.tensor([x, y])[:, None, None].expand(2, side, side)


@pytest.fixture
def texture() -> torch.Tensor:
    return torch.randint(0, 256, (3, 24, 24), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize(("x", "y"), [(0, 0), (3, 2), (-5, 1), (0, -7)])
def test_a_shift_is_explained_by_its_own_flow_alone(texture, x, y):
    shifted = texture.roll((y, x), (1, 2))  # what comes in at the edge is a hole of the warp, and left out
    assert warp_error(texture, shifted, constant(x, y)) == 0
    assert warp_error(texture, shifted, constant(x + 1, y)) > 1000


def test_the_later_pixel_wins_and_holes_are_left_out():
    one, two = torch.zeros(3, 1, 3), torch.zeros(3, 1, 3)
    one[:, 0] = torch.tensor([10.0, 20.0, 30.0])
    two[:, 0] = torch.tensor([99.0, 23.0, 99.0])
    flow = torch.zeros(2, 1, 3)
    flow[0, 0] = torch.tensor([1.0, 0.0, 9.0])  # 10 and 20 meet in the middle, 30 leaves
    assert warp_error(one, two, flow) == 9  # 20 against 23; the two holes and the pixel that left do not count


def test_places_are_rounded_and_not_flows(texture):
    other = texture.clone()
    other[:, :, 1::2] += 9  # half a pixel to the right goes to the even column: odd ones are holes
    assert warp_error(texture, other, constant(0.5, 0.0)) == 0 < warp_error(texture, other, constant(0.4, 0.0))


def test_the_two_definitions_divide_by_different_things():
    errors, flows = torch.tensor([40.0, 10.0]), [constant(2, 0), constant(3, 4)]
    lengths, squares = (torch.tensor(x) for x in zip(*map(flow_lengths, flows), strict=True))
    assert lengths.tolist() == [2, 5] and squares.tolist() == [4, 25]
    assert mawe_of_the_code(errors, lengths) == pytest.approx((40 / (9.5 * 2) + 10 / (9.5 * 5)) / 2)
    assert mawe_of_the_paper(errors, squares, lengths) == pytest.approx(25 / 14.5)


def test_pairs_that_stand_still_have_no_figure():
    errors, lengths, squares = torch.tensor([40.0, 7.0]), torch.tensor([2.0, 0.0]), torch.tensor([4.0, 0.0])
    assert mawe_of_the_code(errors, lengths) == mawe_of_the_code(errors[:1], lengths[:1])
    assert mawe_of_the_paper(errors, squares, lengths) == 10
    assert mawe_of_the_code(errors[1:], lengths[1:]) is mawe_of_the_paper(errors[1:], squares[1:], lengths[1:]) is None


def test_a_video_is_stretched_to_the_published_size():
    assert stretched(torch.rand(2, 3, 9, 16) * 255).shape == (2, 3, 720, 720)
