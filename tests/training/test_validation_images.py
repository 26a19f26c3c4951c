import torch

from bwpipe.training.validation import GAP, sheet


def test_each_row_shows_grey_guess_and_truth_side_by_side() -> None:
    luma = torch.full((2, 1, 4, 6), 0.2)
    guess, truth = torch.zeros(2, 3, 4, 6), torch.zeros(2, 3, 4, 6)
    guess[:, 0], truth[:, 2] = 1, 1

    made = sheet(luma, guess, truth, columns=1)

    assert made.shape == (2 * 4 + 3 * GAP, 3 * 6 + 2 * GAP, 3)
    for top in (GAP, 4 + 2 * GAP):
        row = made[top : top + 4, GAP:-GAP]
        assert (row[:, :6] == 51).all()
        assert (row[:, 6:12] == [255, 0, 0]).all()
        assert (row[:, 12:] == [0, 0, 255]).all()


def test_pictures_that_do_not_fill_the_last_row_leave_it_empty() -> None:
    black = torch.zeros(3, 3, 4, 4)

    made = sheet(black[:, :1], black, black, columns=2)

    assert made.shape == (2 * 4 + 3 * GAP, 2 * 12 + 3 * GAP, 3)
    assert (made[4 + 2 * GAP : -GAP, 12 + 2 * GAP :] == 128).all()


def test_what_is_no_colour_is_shown_as_the_nearest_one() -> None:
    guess = torch.tensor([-1.0, 2.0, float("nan")]).view(1, 3, 1, 1)

    made = sheet(torch.zeros(1, 1, 1, 1), guess, torch.zeros(1, 3, 1, 1))

    assert made[0, 1].tolist() == [0, 255, 0]


def test_a_network_in_half_precision_that_learns_is_shown_as_well() -> None:
    guess = torch.full((1, 3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)

    made = sheet(torch.zeros(1, 1, 2, 2), guess * 1, torch.zeros(1, 3, 2, 2))

    assert made[0, 2].tolist() == [128, 128, 128]
