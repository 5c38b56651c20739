"""Arrays, counts and theorems of SparseMask: values computed by loops from the definitions, figures from the paper."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ranp.adapters.connectivity import (
    Decoder,
    FullyDenseDecoder,
    Source,
    Tap,
    apply_drop_rule,
    decoder_costs,
    every_edge,
    every_source,
    sparse_loss,
)
from ranp.adapters.connectivity._decoder import Stage
from ranp.adapters.connectivity._edges import without_unused

ARRAYS = np.load(Path(__file__).parents[2] / "published" / "dense" / "sparsemask.npz")
CHANNELS, STRIDES = (1280, 320, 160, 96, 64, 32, 24, 16, 32), (32, 32, 32, 16, 16, 8, 4, 2, 2)
MOBILENET = tuple(Tap(f"b{8 - place}", c, (s, s)) for place, (c, s) in enumerate(zip(CHANNELS, STRIDES, strict=True)))
GLOBAL = Source("G", 0)
RELEASED = {
    1: (Source("E", 0), GLOBAL),
    2: (Source("E", 2), GLOBAL),
    3: (Source("E", 3), GLOBAL),
    8: (*(Source("E", level) for level in (0, 1, 2, 3, 8)), GLOBAL, *(Source("D", level) for level in (1, 2, 3))),
}


def array(name: str) -> Tensor:
    return torch.from_numpy(ARRAYS[name])


def test_a_convolution_of_a_concatenation_is_the_sum_of_convolutions() -> None:
    parts = [F.conv2d(array(f"t1_f{i}"), array(f"t1_w{i}"), padding=1) for i in range(3)]
    torch.testing.assert_close(sum(parts) + array("t1_b").view(1, -1, 1, 1), array("t1_out"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(7, 9), (6, 10), (3, 8)])
@pytest.mark.parametrize("corners", ["align", "half"])
def test_a_pointwise_convolution_commutes_with_upsampling(size: tuple[int, int], corners: str) -> None:
    x, w, b = array("t2_x"), array("t2_w")[:, :, None, None], array("t2_b")
    expected = array(f"t2_{corners}_{size[0]}x{size[1]}")
    before = F.interpolate(F.conv2d(x, w, b), size, mode="bilinear", align_corners=corners == "align")
    after = F.conv2d(F.interpolate(x, size, mode="bilinear", align_corners=corners == "align"), w, b)
    for given in (before, after):
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-12)


def test_a_stage_of_the_search() -> None:
    sources = every_source(1)
    columns = {"E0": "00", "G": "01", "E1": "10", "D0": "11"}
    features = [array(f"s_{columns[str(source)]}_f") for source in sources]
    stage = Stage({source: f.shape[1] for source, f in zip(sources, features, strict=True)}, 4, 2, True, 0.1)
    stage.double().eval()
    with torch.no_grad():
        for source in sources:
            key = columns[str(source)]
            stage.convs[str(source)].weight.copy_(array(f"s_{key}_w")[:, :, None, None])
            _load(stage.norms[str(source)], array(f"s_{key}_bn"))
        _load(stage.norm, array("s_bn"))
        out = stage([F.relu6(feature) for feature in features], (4, 6), array("s_gates").flatten())
    torch.testing.assert_close(out, array("s_out"), rtol=0, atol=1e-12)


def _load(norm: torch.nn.Module, values: Tensor) -> None:
    for name, row in zip(("weight", "bias", "running_mean", "running_var"), values, strict=True):
        getattr(norm, name).copy_(row)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_sparse_loss_and_its_gradient(case: int) -> None:
    gates = array(f"loss{case}_w").clone().requires_grad_()
    loss = sparse_loss(gates)
    loss.backward()
    torch.testing.assert_close(loss.detach(), array(f"loss{case}"), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gates.grad, array(f"loss{case}_grad"), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(sparse_loss([gates, gates]).detach(), 2 * array(f"loss{case}"), rtol=1e-9, atol=1e-12)


def as_array(edges: dict[int, set[Source]] | dict[int, tuple[Source, ...]], levels: int) -> np.ndarray:
    mask = np.zeros((levels, levels, 2), dtype=bool)
    for stage, sources in edges.items():
        for kind, level in sources:
            mask[stage, level + (kind == "D"), 0 if kind == "E" else 1] = True
    return mask


@pytest.mark.parametrize("case", range(6))
def test_the_drop_rule(case: int) -> None:
    gates = ARRAYS[f"prune{case}_w"]
    rows = [gates[stage, : stage + 1].flatten().tolist() for stage in range(len(gates))]
    left = apply_drop_rule(rows, fallback=False)
    assert np.array_equal(as_array(left.edges, len(gates)), ARRAYS[f"prune{case}_mask"])
    above = {
        stage: {source for source, gate in zip(every_source(stage), row, strict=True) if gate / 2 > 1e-3}
        for stage, row in enumerate(rows)
    }
    plain = as_array(without_unused(above, len(gates) - 1), len(gates))
    assert np.array_equal(plain, ARRAYS[f"prune{case}_mask_plain"])


def test_the_published_decoders_have_as_many_parameters() -> None:
    dense = FullyDenseDecoder(MOBILENET, 64, 21)
    convolutions = [m.weight.numel() for m in dense.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 90 + 1
    assert sum(convolutions) == 1_933_120
    slim = Decoder(MOBILENET, RELEASED, 64, 21)
    assert sum(map(len, RELEASED.values())) == 15
    assert sum(parameter.numel() for parameter in slim.parameters()) == 560_981
    assert decoder_costs(MOBILENET, RELEASED, (512, 512), width=64, out_channels=21).params == 560_981


@pytest.mark.parametrize(
    ("edges", "macs", "naive", "floats", "naive_floats"),
    [(every_edge(9), 1.20, 36.9, 35.8, 577), (RELEASED, 0.21, 14.2, 8.8, 223)],
)
def test_what_they_cost_at_512(edges, macs, naive, floats, naive_floats) -> None:
    classifier = 64 * 21 * 256**2
    here = decoder_costs(MOBILENET, edges, (512, 512), width=64, out_channels=21)
    there = decoder_costs(MOBILENET, edges, (512, 512), width=64, out_channels=21, naive=True)
    assert (here.macs - classifier) / 1e9 == pytest.approx(macs, abs=0.005)
    assert (there.macs - classifier) / 1e9 == pytest.approx(naive, abs=0.05)
    assert here.activations / 1e6 == pytest.approx(floats, abs=0.05)
    assert there.activations / 1e6 == pytest.approx(naive_floats, abs=0.5)


def test_the_published_connections_survive_their_own_rule() -> None:
    rows = [
        [1.0 if source in RELEASED.get(stage, ()) else 1e-4 for source in every_source(stage)] for stage in range(9)
    ]
    assert apply_drop_rule(rows).edges == {
        stage: tuple(sorted(sources, key=every_source(stage).index)) for stage, sources in RELEASED.items()
    }
