"""The graphs that come with bwpipe belong to the weights and the code that come with it."""

import numpy as np
import pytest

from bwpipe.nn.checkpoint import load, locate
from bwpipe.nn.checkpoint_file import describe, weight_shapes
from bwpipe.nn.runtime.graph_file import read_graph_file
from bwpipe.nn.runtime.graphs import find_graph, shipped_path, source_digest
from bwpipe.tools.graphs import make_graph, shipped_networks

REMEDY = "run `make graphs`"


@pytest.mark.parametrize("name", ["autoencoder", "unet"])
def test_a_shipped_graph_is_that_of_the_shipped_weights_options_and_code(name: str) -> None:
    assert name in set(shipped_networks())
    graph = read_graph_file(shipped_path(name))
    assert graph, REMEDY
    checkpoint = describe(locate(name))

    assert graph.info.options == checkpoint.options, REMEDY
    assert graph.info.source == source_digest(name), REMEDY
    assert graph.fits(weight_shapes(locate(name))), REMEDY
    assert find_graph(locate(name), checkpoint, []), REMEDY
    network, _ = load(locate(name))
    assert graph.info.sizes is not None
    assert graph.info.sizes.of(480, 720, "best") == network.input_size(480, 720, "best")
    assert (graph.info.vividness, graph.info.takes_hints) == (network.default_vividness, network.takes_hints)


@pytest.mark.parametrize("name", ["autoencoder", "unet"])
def test_a_shipped_graph_holds_no_weights(name: str) -> None:
    graph = read_graph_file(shipped_path(name))
    assert graph, REMEDY

    assert len(graph.constants) < 10_000
    assert shipped_path(name).stat().st_size < 100_000
    state = {key: value for key, value in load(locate(name))[0].state_dict().items() if value.is_floating_point()}
    used = sum(int(np.prod(shape)) for shape in graph.info.weights.values())
    assert used == sum(value.numel() for value in state.values())


def test_a_graph_made_now_is_the_shipped_one() -> None:
    made, shipped = make_graph("autoencoder"), read_graph_file(shipped_path("autoencoder"))

    assert shipped, REMEDY
    assert made.constants == shipped.constants, REMEDY
    assert made.info.model_copy(update={"made_with": {}}) == shipped.info.model_copy(update={"made_with": {}, "digest": ""})
