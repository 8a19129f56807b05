"""Where a network's values stop being finite: the first of layers and input, and whose they are."""

import torch
from torch import nn

from effconv.effdet_torch.training.not_finite import Place, first_not_finite, first_not_finite_weight


def network() -> nn.Sequential:
    made = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 1, 1))
    for parameter in made.parameters():
        nn.init.ones_(parameter)
    return made


def test_where_all_is_finite_there_is_nothing_to_name() -> None:
    sound = network()
    assert first_not_finite(sound, torch.ones(2, 3, 4, 4)) is None
    assert first_not_finite_weight(sound) is None


def test_the_first_weight_that_is_not_finite_is_named() -> None:
    unsound = network()
    with torch.no_grad():
        unsound[0].bias[1] = torch.inf
        unsound[2].weight[0, 0] = torch.nan
    assert first_not_finite_weight(unsound) == "0.bias"


def test_the_first_layer_and_the_images_it_is_of_are_named() -> None:
    images = torch.ones(3, 3, 4, 4)
    images[1] = 3e38  # finite, but three of them are not
    found = first_not_finite(network(), images)
    assert found == Place(1, "0", (1,))


def test_an_input_that_is_not_finite_comes_before_every_layer() -> None:
    """Of the places that several processes find the least is reported: the input's is below the first layer's."""
    images = torch.ones(2, 3, 4, 4)
    overflowing = first_not_finite(network(), images * 3e38)
    images[1, 0, 2, 2] = torch.nan
    found = first_not_finite(network(), images)
    assert found is not None
    assert found[1:] == ("the input", (1,))
    assert overflowing is not None
    assert overflowing.layer == "0"
    assert found.order < overflowing.order
