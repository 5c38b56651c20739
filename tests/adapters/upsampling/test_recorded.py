"""Recorded arrays in float64, computed by loops from the definition: kernels, results, gradients of FADE and FADE-Lite.

Where an array is an input or a result says tests/published/dense/README.md.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranp.adapters.upsampling import FADE, FADELite
from ranp.adapters.upsampling._fade import SemiShift

FOLDER = Path(__file__).parents[2] / "published" / "dense"
Arrays = dict[str, Tensor]


def read(name: str) -> tuple[Arrays, float]:
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files if key != "meta"}
        return arrays, json.loads(str(file["meta"]))["tol"]


@pytest.fixture(params=["off", "require"], autouse=True)
def native_and_not(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", request.param)


def fill(layer: Any, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight = nn.Parameter(weight.reshape(layer.weight.shape).clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.reshape(layer.bias.shape).clone())


def fill_generator(generator: SemiShift, arrays: Arrays, prefix: str) -> None:
    on_encoder = generator.compressor_en.bias is not None
    common = arrays[f"{prefix}bias_c"]
    fill(generator.compressor_en, arrays[f"{prefix}w_en"], common if on_encoder else None)
    fill(generator.compressor_de, arrays[f"{prefix}w_de"], None if on_encoder else common)
    fill(generator.content_encoder, arrays[f"{prefix}beta"], arrays[f"{prefix}b"])


def generator(arrays: Arrays, prefix: str, bias: str) -> SemiShift:
    taps, width = arrays[f"{prefix}beta"].shape[0], arrays[f"{prefix}w_en"].shape[0]
    en, de = arrays[f"{prefix}w_en"].shape[1], arrays[f"{prefix}w_de"].shape[1]
    groups = taps if prefix == "l" else 1
    made = SemiShift(en, de, taps, 2, embedding=width, groups=groups, content_kernel=3, bias=bias)
    fill_generator(made, arrays, prefix)
    return made


def assert_close(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours.detach(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("prefix", "bias", "logits"),
    [
        ("", "code", "logits_code"),
        ("", "paper", "logits_paper"),
        ("", "algorithm", "logits_seed"),
        ("l", "code", "lite_logits_code"),
        ("s3_", "code", "s3_logits_code"),
    ],
)
def test_kernel_logits(prefix: str, bias: str, logits: str) -> None:
    arrays, tolerance = read("semishift")
    features = "s3_" if prefix == "s3_" else ""
    ours = generator(arrays, prefix, bias)(arrays[f"{features}en"], arrays[f"{features}de"])
    assert_close(ours, arrays[logits], tolerance)


def test_the_order_of_evaluation_changes_nothing() -> None:
    """The recorded sub-tensors of the other order: the encoder's term at each place of a 2 x 2 block, the decoder's."""
    arrays, tolerance = read("semishift")
    made = generator(arrays, "", "code")
    encoder = made.content_encoder(made.compressor_en(arrays["en"]))
    for place in range(4):
        part = encoder[:, :, place // 2 :: 2, place % 2 :: 2]
        assert_close(part, arrays["h2l_encoder_sub"][:, place], tolerance)
    assert_close(made.content_encoder(made.compressor_de(arrays["de"])), arrays["decoder_term"], tolerance)


def test_kernels_and_their_gradients() -> None:
    arrays, tolerance = read("semishift")
    made = generator(arrays, "", "code")
    features = [arrays[name].requires_grad_() for name in ("en", "de")]
    kernels = made(*features).softmax(1)
    assert_close(kernels, arrays["kernels_code"], tolerance)
    (kernels * arrays["upstream"]).sum().backward()
    assert_close(features[0].grad, arrays["g_en"], tolerance)  # type: ignore[arg-type]
    assert_close(features[1].grad, arrays["g_de"], tolerance)  # type: ignore[arg-type]
    assert_gradients(made, arrays, "g_", "", tolerance)


def assert_gradients(made: SemiShift, arrays: Arrays, grads: str, prefix: str, tolerance: float) -> None:
    for parameter, name in [
        (made.compressor_en.weight, "w_en"),
        (made.compressor_de.weight, "w_de"),
        (made.content_encoder.weight, "beta"),
        (made.compressor_en.bias, "bias_c"),
        (made.content_encoder.bias, "b"),
    ]:
        assert parameter is not None
        assert parameter.grad is not None
        expected = arrays[f"{grads}{prefix}{name}"]
        assert_close(parameter.grad.reshape(expected.shape), expected, tolerance)


def network(kind: type[FADE], arrays: Arrays, skip: str) -> FADE:
    width = {} if kind is FADELite else {"embedding": arrays["w_en"].shape[0]}
    made = kind(arrays["de"].shape[1], skip=skip, **width)
    fill_generator(made.ker_generator, arrays, "l" if kind is FADELite else "")
    if made.gate_generator is not None:
        fill(made.gate_generator.conv, arrays["wg"], arrays["bg"])
    return made


@pytest.mark.parametrize(("kind", "prefix"), [(FADE, ""), (FADELite, "lite_")])
def test_every_part_of_the_forward(kind: type[FADE], prefix: str) -> None:
    arrays, tolerance = read("fade_full")
    de, en = arrays["de"], arrays["en"]
    made = network(kind, arrays, "gate")
    assert_close(made.ker_generator(en, de).softmax(1), arrays[f"{prefix}kernels"], tolerance)
    assert made.gate_generator is not None
    gate = made.gate_generator(de).sigmoid().repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert_close(gate, arrays["gate"], tolerance)
    assert_close(made(de, en), arrays[f"{prefix}out"], tolerance)
    assert_close(network(kind, arrays, "none")(de, en), arrays[f"{prefix}preup"], tolerance)
    assert_close(network(kind, arrays, "add")(de, en), arrays[f"{prefix}skip_out"], tolerance)


@pytest.mark.parametrize(("kind", "prefix"), [(FADE, ""), (FADELite, "lite_")])
def test_every_gradient(kind: type[FADE], prefix: str) -> None:
    arrays, tolerance = read("fade_full")
    made = network(kind, arrays, "gate")
    de, en = (arrays[name].requires_grad_() for name in ("de", "en"))
    (made(de, en) * arrays["upstream"]).sum().backward()
    assert_close(en.grad, arrays[f"{prefix}g_en"], tolerance)  # type: ignore[arg-type]
    assert_close(de.grad, arrays[f"{prefix}g_de"], tolerance)  # type: ignore[arg-type]
    assert_gradients(made.ker_generator, arrays, f"{prefix}g_", "l" if kind is FADELite else "", tolerance)
    gate: Any = made.gate_generator
    assert_close(gate.conv.weight.grad.flatten(), arrays[f"{prefix}g_wg"], tolerance)
    assert_close(gate.conv.bias.grad.reshape(()), arrays[f"{prefix}g_bg"], tolerance)
