"""Networks of an encoder and a decoder: sizes, gates, what is emitted of a search, and how they prune and export."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoders_of_connectivity import Classifier, Pyramid, image
from graph_zoo.checking import check, double, randomise
from torch import Tensor, nn

from ranp.adapters.connectivity import (
    Connected,
    ConnectivityMask,
    FullyDenseDecoder,
    Source,
    connect,
    connect_by,
    drop,
    emit,
    every_edge,
    every_source,
    find_taps,
    from_edges,
    transfer,
)
from ranp.errors import UsageError
from ranp.export import _onnx_file as onnx_file
from ranp.export._axes import Paths, free_axes
from ranp.export._parity import compare
from ranp.graph.build import trace
from ranp.graph.constraints import random_plan
from ranp.graph.resize import resized
from ranp.inputs import as_arguments


def searched(dims: int = 2, size: int = 16, seed: int = 0, **settings: Any) -> Connected:
    """A dense network whose weights, statistics and gates are drawn, some gates at 0."""
    network = connect(Classifier(dims), image(dims, size), 3, width=5, **settings).eval()
    randomise(network, seed)
    assert isinstance(network.decoder, FullyDenseDecoder)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for gates in network.decoder.gates:
            gates.copy_(2 * torch.rand(gates.shape, generator=generator))
            gates[torch.rand(gates.shape, generator=generator) < 0.4] = 0
    return network


def mask_of(network: Connected, **rule: bool) -> ConnectivityMask:
    decoder = network.decoder
    assert isinstance(decoder, FullyDenseDecoder)
    return drop(decoder.values(), decoder.taps, width=decoder.width, act=decoder.named_act, **rule)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("size", [16, 19])
def test_logits_have_the_size_of_the_image(dims: int, size: int) -> None:
    network = connect(Classifier(dims), image(dims, size), 3, width=4)
    out = network(image(dims, size))
    assert out.shape == (2, 3, *(size,) * dims)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters() if parameter.requires_grad)


def test_with_all_gates_at_one_the_gates_say_nothing() -> None:
    network = connect(Classifier(), image(), 3, width=4).eval()
    features = network.encoder(image())
    without = network.decoder.decoded(features, {})
    torch.testing.assert_close(network.decoder(features), without, rtol=0, atol=0)


def test_gates_are_noisy_in_training_alone_and_stay_in_their_range() -> None:
    decoder = connect(Classifier(), image(), 3, width=4).decoder
    assert isinstance(decoder, FullyDenseDecoder)
    with torch.no_grad():
        decoder.gates[2].copy_(torch.tensor([-3.0, 5.0, 1.0, 1.0, 0.0, 2.0]))
    still = decoder.eval().draw()[2]
    assert still.tolist() == [0, 2, 1, 1, 0, 2]
    torch.manual_seed(0)
    drawn = decoder.train().draw()[2]
    assert decoder.gates[2].tolist() == still.tolist()
    assert not torch.equal(drawn, still)
    assert float(drawn.detach().min()) >= 0
    assert float(drawn.detach().max()) <= 2
    assert not any(norm.weight.requires_grad for norm in decoder.modules() if isinstance(norm, nn.BatchNorm2d))


def test_computing_a_stage_again_changes_neither_gradients_nor_statistics() -> None:
    plain = connect(Classifier(), image(), 3, width=4).train()
    again = connect(Classifier(), image(), 3, width=4, checkpointed=True).train()
    again.load_state_dict(plain.state_dict())
    for network in (plain, again):
        torch.manual_seed(0)
        network(image()).square().sum().backward()
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(dict(again.named_buffers())[name], buffer)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("edge_norms", [True, False])
def test_what_is_inherited_is_the_search_with_dropped_gates_at_zero(dims: int, edge_norms: bool) -> None:
    network = searched(dims, seed=dims, edge_norms=edge_norms).double()
    mask = mask_of(network, merge=False, subset=False)
    slim = emit(network, mask, image(dims).double(), init="inherit")
    with torch.no_grad():
        for stage, gates in enumerate(network.decoder.gates):
            left = [source in mask.kept.get(stage, ()) for source in every_source(stage)]
            gates *= torch.tensor(left)
        x = image(dims, seed=3).double()
        torch.testing.assert_close(slim(x), network(x), rtol=0, atol=1e-12 * float(network(x).abs().max()))
    assert not any("gates" in name for name, _ in slim.named_parameters())
    assert not any("norms" in name for name, _ in slim.named_parameters())


def test_users_of_a_merged_stage_read_the_other_with_the_weights_of_both() -> None:
    network = searched()
    assert isinstance(network.decoder, FullyDenseDecoder)
    with torch.no_grad():
        for gates, row in zip(
            network.decoder.gates, ([1, 0], [1, 0, 0, 0], [0, 0, 0, 0.5, 1, 1.5]), strict=True
        ):  # fmt: skip
            gates.copy_(torch.tensor(row))
        mask = mask_of(network, subset=False)
        assert mask.merged == {1: 0}
        slim = emit(network, mask, image(), init="inherit")
        both = slim.decoder.stages["2"].convs["D0"].weight
        stage = network.decoder.stages["2"]
        expected = sum(
            gate * stage.convs[name].weight * (norm.weight / (norm.running_var + norm.eps).sqrt()).view(-1, 1, 1, 1)
            for gate, name, norm in ((0.5, "D0", stage.norms["D0"]), (1.5, "D1", stage.norms["D1"]))
        )
    torch.testing.assert_close(both, expected)


def test_fresh_weights_follow_their_seed_and_nothing_of_the_search_changes() -> None:
    network = searched()
    before = copy.deepcopy(network.state_dict())
    mask, generator = mask_of(network), torch.get_rng_state()
    one, two, other = (emit(network, mask, image(), seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_mask_makes_the_same_network_again_on_the_same_encoder() -> None:
    network = searched()
    mask = mask_of(network)
    slim = emit(network, mask, image(), init="inherit")
    again = connect_by(mask, Classifier(), image(), 3)
    again.load_state_dict(slim.state_dict())
    torch.testing.assert_close(again.eval()(image()), slim(image()), rtol=0, atol=0)


def test_what_no_connection_reads_of_the_encoder_is_left_out() -> None:
    taps = find_taps(Classifier(), image())
    mask = from_edges(taps, {2: (Source("E", 1), Source("E", 2))}, 4)
    slim = connect_by(mask, Classifier(), image(), 3)
    assert not any("layer2" in name or "head" in name for name, _ in slim.named_parameters())
    assert slim(image(size=24)).shape == (2, 3, 24, 24)


def test_a_mask_goes_to_another_encoder() -> None:
    mask = mask_of(searched())
    carried = transfer(mask, find_taps(Pyramid(), image()))
    assert connect_by(carried, Pyramid(), image(), 3)(image()).shape == (2, 3, 16, 16)
    with pytest.raises(
        UsageError, match=r"mask: layer2/8 of 8 channels: the encoder has no such feature|no such modul"
    ):
        connect_by(mask, Pyramid(), image(), 3)
    with pytest.raises(UsageError, match="the encoder has 4 channels at stride"):
        connect_by(mask, Classifier(widths=(4, 6, 4)), image(), 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: connect(Classifier(), image(), 3, width=0), "width=0: expected 1 or more"),
        (lambda: connect(Classifier(), image(), 0), "out_channels=0: expected 1 or more"),
        (lambda: connect(Classifier(), image(), 3, act="relu7"), "act='relu7': expected one of .*did you mean 'relu"),
        (lambda: connect(Classifier(), image(), 3, gate_noise=-1.0), "gate_noise=-1: expected 0 or more"),
        (lambda: emit(searched(), mask_of(searched()), image(), init="inherited"), "did you mean 'inherit'"),
        (lambda: emit(_slim(), mask_of(searched()), image()), "its decoder has no gates"),
        (
            lambda: connect_by(
                from_edges(find_taps(Classifier(), image()), {2: (Source("D", 1),)}, 4), Classifier(), image(), 3
            ),
            "stage 2 takes D1; expected an input that is there before it",
        ),
    ],
)
def test_wrong_cases_are_refused_in_one_line(change: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        change()
    assert "\n" not in str(refused.value)


def _slim() -> Connected:
    network = searched()
    return emit(network, mask_of(network), image())


def zoo(name: str, dims: int) -> tuple[nn.Module, Tensor]:
    """A network to prune: dense, slim, or a chosen pattern over an encoder that returns a list."""
    odd = image(dims, 17 if dims < 3 else 16)
    if name == "dense":
        return randomise(connect(Classifier(dims), odd, 3, width=5)), odd
    if name == "slim":
        network = searched(dims, odd.shape[-1])
        return emit(network, mask_of(network), odd, init="inherit"), odd
    mask = from_edges(find_taps(Pyramid(dims), odd), every_edge(3), 6, "relu")
    return randomise(connect_by(mask, Pyramid(dims), odd, 3)), odd


@pytest.mark.parametrize(("name", "dims"), [("dense", 2), ("slim", 1), ("slim", 2), ("slim", 3), ("pyramid", 3)])
def test_slim_is_masked_and_trains(name: str, dims: int) -> None:
    network, x = zoo(name, dims)
    network, inputs = network.eval().double(), double((x,))
    graph = trace(network, inputs)
    for seed, removed in enumerate((0.3, 0.6, 0.9)):
        check(graph, network, inputs, removed, seed)


def test_a_stage_has_one_width_and_the_encoder_keeps_its_own_groups() -> None:
    mask = from_edges(find_taps(Pyramid(), image()), every_edge(3), 6)
    graph = trace(connect_by(mask, Pyramid(), image(), 3).eval(), image())
    layers: dict[str, set[str]] = {}
    for group in graph.groups:
        units = set(group.units.tolist())
        members = {layer.name.removesuffix(".weight") for layer in graph.layers if units & set(layer.units.tolist())}
        layers |= dict.fromkeys(members, members)
    stage = layers["decoder.stages.1.convs.E0"]
    assert stage == {f"decoder.stages.1.convs.{name}" for name in ("E0", "G", "E1", "D0")}
    assert layers["encoder.encoder.levels.0"] == {"encoder.encoder.levels.0"}


@pytest.mark.parametrize(("name", "dims", "dynamic"), [("slim", 2, True), ("pyramid", 3, False), ("slim", 1, False)])
def test_onnx_agrees_after_pruning(name: str, dims: int, dynamic: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    network, x = zoo(name, dims)
    graph = trace(network.eval(), x)
    slim = resized(graph, network, random_plan(graph, 0.4, np.random.default_rng(1)))
    axes = tuple(free_axes(Paths(slim, as_arguments(x), ("x",)))) if dynamic else ()
    onnx_file.write(onnx_file.convert(slim, ((x,), {}), ("x",), axes, 20, {}), tmp_path / "slim.onnx", None)
    run = onnx_file.opened(tmp_path / "slim.onnx", ("x",))
    larger = [torch.randn(3, 1, *(size + axis.step for size, axis in zip(x.shape[2:], axes[1:], strict=True)))
              for _ in axes[:1]]  # fmt: skip
    for case in compare(slim, run, [((tensor,), {}) for tensor in (x, *larger)]):
        assert case.passed, case
