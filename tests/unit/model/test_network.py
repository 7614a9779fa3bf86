from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from besom.config.schema import ACTIVATIONS
from besom.errors import InputError
from besom.model import CNN


def _network(input_shape: tuple[int, int, int] = (1, 8, 8), num_classes: int = 10, **other: Any) -> CNN:
    small = {
        "depth": 2,
        "width": 4,
        "kernel_size": 3,
        "activation": "relu",
        "norm": "batch",
        "pool": "max",
        "hidden": [8],
        "dropout": 0.1,
    }
    return CNN(input_shape, num_classes, **{**small, **other})  # type: ignore[arg-type]


def _layers(network: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [layer for layer in network.modules() if isinstance(layer, kind)]


# ── shapes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("pool", ["max", "avg", "none"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_one_logit_a_class_whatever_the_blocks_are(depth, pool, norm):
    network = _network(depth=depth, pool=pool, norm=norm)

    assert network(torch.randn(5, 1, 8, 8)).shape == (5, 10)


@pytest.mark.parametrize("hidden", [[], [16], [16, 8, 4]])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_one_logit_a_class_whatever_the_layers_sizes_are(width, hidden):
    network = _network(width=width, hidden=hidden)

    assert network(torch.randn(5, 1, 8, 8)).shape == (5, 10)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (2, 9, 31), (3, 4, 4)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_one_logit_a_class_whatever_the_images_are(kernel_size, shape):
    network = _network(shape, num_classes=3, kernel_size=kernel_size)

    assert network(torch.randn(2, *shape)).shape == (2, 3)


# ── depth ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("shape", "deepest"), [((1, 8, 8), 3), ((1, 28, 28), 4), ((1, 4, 64), 2), ((1, 7, 9), 2)])
def test_a_network_too_deep_for_its_images_is_refused_with_the_largest_depth(shape, deepest):
    with pytest.raises(InputError, match=rf"^model\.depth={deepest + 1}: .* at most {deepest}, or model\.pool=none$"):
        _network(shape, depth=deepest + 1)


@settings(max_examples=20)
@given(st.integers(2, 40), st.integers(2, 40), st.sampled_from(["max", "avg"]))
def test_the_largest_depth_named_is_one_that_works(height, width, pool):
    with pytest.raises(InputError, match="at most") as refused:
        _network((1, height, width), depth=10, width=1, pool=pool)
    deepest = int(str(refused.value).partition("at most ")[2].partition(",")[0])

    network = _network((1, height, width), depth=deepest, width=1, pool=pool)

    assert network(torch.randn(2, 1, height, width)).shape == (2, 10)


def test_without_pooling_any_depth_is_taken():
    network = _network((1, 2, 2), depth=4, width=1, pool="none")

    assert network(torch.randn(2, 1, 2, 2)).shape == (2, 10)


# ── what it is made of ────────────────────────────────────────────────────────────────────────────────────────────────
def test_each_block_is_twice_as_wide_as_the_one_before():
    network = _network(depth=3, width=5)

    assert [layer.out_channels for layer in _layers(network, nn.Conv2d)] == [5, 10, 20]


def test_hidden_layers_have_the_sizes_asked_for():
    network = _network(hidden=[16, 8])

    assert [layer.out_features for layer in _layers(network, nn.Linear)] == [16, 8, 10]


def test_dropout_lies_behind_each_hidden_layer():
    network = _network(hidden=[16, 8], dropout=0.3)

    assert [layer.p for layer in _layers(network, nn.Dropout)] == [0.3, 0.3]


@pytest.mark.parametrize(
    ("norm", "layer"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("instance", nn.InstanceNorm2d)]
)
def test_each_block_has_the_norm_asked_for(norm, layer):
    assert len(_layers(_network(norm=norm), layer)) == 2


def test_without_a_norm_there_is_none():
    network = _network(norm="none")

    assert not _layers(network, (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("norm", "has_bias"), [("none", True), ("batch", False), ("group", False), ("instance", False)]
)
def test_every_channel_has_exactly_one_bias(norm, has_bias):
    network = _network(norm=norm)

    biases = [layer.bias is not None for layer in network.features.modules() if hasattr(layer, "bias")]

    assert all((layer.bias is not None) == has_bias for layer in _layers(network, nn.Conv2d))
    assert biases.count(True) == 2


@pytest.mark.parametrize(("width", "groups"), [(8, 1), (16, 2), (24, 3), (12, 1)])
def test_a_group_is_8_channels_or_all_where_8_do_not_divide_them(width, groups):
    (norm,) = _layers(_network(depth=1, width=width, norm="group"), nn.GroupNorm)

    assert norm.num_groups == groups


@pytest.mark.parametrize(("pool", "layer"), [("max", nn.MaxPool2d), ("avg", nn.AvgPool2d)])
def test_each_block_halves_height_and_width(pool, layer):
    network = _network(depth=2, width=4, pool=pool)

    assert len(_layers(network, layer)) == 2
    assert network.features(torch.randn(2, 1, 8, 8)).shape == (2, 8, 2, 2)


def test_without_pooling_height_and_width_stay():
    network = _network(depth=2, width=4, pool="none")

    assert network.features(torch.randn(2, 1, 8, 8)).shape == (2, 8, 8, 8)


# ── activations ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_any_activation_follows_each_block_and_hidden_layer(name):
    network = _network(activation=name)

    assert len(_layers(network, getattr(nn, ACTIVATIONS[name]))) >= 3
    assert network(torch.randn(2, 1, 8, 8)).isfinite().all()


class Square(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs**2


@pytest.mark.parametrize(("path", "activation"), [(f"{__name__}.Square", Square), ("torch.nn.Softplus", nn.Softplus)])
def test_an_activation_is_found_by_its_dotted_path(path, activation):
    network = _network(activation=path)

    assert len(_layers(network, activation)) == 3


def test_each_layer_has_an_activation_of_its_own_for_it_may_learn():
    slopes = _layers(_network(activation="prelu"), nn.PReLU)

    assert len({id(layer) for layer in slopes}) == 3


# ── it learns ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
def test_every_weight_gets_a_gradient(norm):
    network = _network(norm=norm, activation="gelu", dropout=0.0)

    network(torch.randn(8, 1, 8, 8)).square().sum().backward()

    assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in network.parameters())


def test_dropout_is_off_when_it_is_evaluated():
    network = _network(dropout=0.9).eval()
    images = torch.randn(4, 1, 8, 8)

    assert network(images).equal(network(images))
