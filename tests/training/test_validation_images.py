import torch

from bwpipe.training.validation import GAP, sheet


def test_each_row_shows_input_prediction_and_ground_truth_side_by_side() -> None:
    luma = torch.full((2, 1, 4, 6), 0.2)
    prediction, target = torch.zeros(2, 3, 4, 6), torch.zeros(2, 3, 4, 6)
    prediction[:, 0], target[:, 2] = 1, 1

    image = sheet(luma, prediction, target, columns=1)

    assert image.shape == (2 * 4 + 3 * GAP, 3 * 6 + 2 * GAP, 3)
    for top in (GAP, 4 + 2 * GAP):
        row = image[top : top + 4, GAP:-GAP]
        assert (row[:, :6] == 51).all()
        assert (row[:, 6:12] == [255, 0, 0]).all()
        assert (row[:, 12:] == [0, 0, 255]).all()


def test_an_incomplete_last_row_is_left_empty() -> None:
    black = torch.zeros(3, 3, 4, 4)

    image = sheet(black[:, :1], black, black, columns=2)

    assert image.shape == (2 * 4 + 3 * GAP, 2 * 12 + 3 * GAP, 3)
    assert (image[4 + 2 * GAP : -GAP, 12 + 2 * GAP :] == 128).all()


def test_values_out_of_range_are_clipped() -> None:
    prediction = torch.tensor([-1.0, 2.0, float("nan")]).view(1, 3, 1, 1)

    image = sheet(torch.zeros(1, 1, 1, 1), prediction, torch.zeros(1, 3, 1, 1))

    assert image[0, 1].tolist() == [0, 255, 0]


def test_predictions_in_half_precision_with_gradients_can_be_shown() -> None:
    prediction = torch.full((1, 3, 2, 2), 0.5, dtype=torch.bfloat16, requires_grad=True)

    image = sheet(torch.zeros(1, 1, 2, 2), prediction * 1, torch.zeros(1, 3, 2, 2))

    assert image[0, 2].tolist() == [128, 128, 128]
