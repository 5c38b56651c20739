"""FADE and FADE-Lite: their definition point by point over any number of dimensions, sizes, scales and words."""

import copy
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ranp.adapters.upsampling import FADE, FADELite
from ranp.errors import UsageError

Sizes = tuple[int, ...]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind: type[FADE] = FADE, channels: int = 3, **settings: Any) -> FADE:
    """Make one in float64 whose biases are not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fade = kind(channels, **({"embedding": 4} if kind is FADE else {}), **settings).double()
        for name, parameter in fade.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(parameter)
    return fade


def padded(feature: Tensor, at: Sizes) -> Tensor:
    """Return the channels at a position, zero outside."""
    inside = all(0 <= place < size for place, size in zip(at, feature.shape[1:], strict=True))
    return feature[(slice(None), *at)] if inside else feature.new_zeros(feature.shape[0])


def moved(at: Sizes, offset: Sizes) -> Sizes:
    return tuple(a + o for a, o in zip(at, offset, strict=True))


def by_definition(fade: FADE, decoder: Tensor, encoder: Tensor) -> Tensor:
    """Compute one sample, (C, *coarse) and (C, *fine), from the sums of dense.md: E, D, z, k, F_pre, g, F_up."""
    generator, dims = fade.ker_generator, decoder.ndim - 1

    def compressed(layer: Any, feature: Tensor) -> Tensor:
        flat = layer.weight.flatten(1) @ feature.flatten(1)
        flat = flat if layer.bias is None else flat + layer.bias[:, None]
        return flat.reshape(-1, *feature.shape[1:])

    weights: Any = generator.content_encoder.weight
    e, d = compressed(generator.compressor_en, encoder), compressed(generator.compressor_de, decoder)
    bias: Any = generator.content_encoder.bias
    around = list(product(*[range(-1, 2)] * dims))
    window = list(product(*(range(-(k // 2), k // 2 + 1) for k in fade.kernel_size)))
    out = encoder.new_zeros(decoder.shape[0], *encoder.shape[1:])
    for fine in product(*map(range, encoder.shape[1:])):
        source = tuple(p * h // f for p, h, f in zip(fine, decoder.shape[1:], encoder.shape[1:], strict=True))
        z = bias * (1 if generator.once else 2)
        for offset in around:
            beta = weights[(..., *moved(offset, (1,) * dims))]  # (M, d), or (M, 1) where depthwise
            for feature, at in ((e, fine), (d, source)):
                values = padded(feature, moved(at, offset))
                z = z + (beta[:, 0] * values if fade.depthwise else beta @ values)
        k = z.softmax(0)
        terms = [k[m] * padded(decoder, moved(source, offset)) for m, offset in enumerate(window)]
        value = torch.stack(terms).sum(0)
        if fade.renormalise:
            inside = torch.ones_like(decoder[:1])
            value = value / sum(k[m] * padded(inside, moved(source, offset)) for m, offset in enumerate(window))
        here = encoder[(slice(None), *fine)]
        if fade.skip == "add":
            value = here + value
        elif fade.skip == "gate":
            conv: Any = fade.gate_generator.conv  # type: ignore[union-attr]
            gate = (conv.weight.flatten() @ decoder[(slice(None), *source)] + conv.bias).sigmoid()
            value = gate * here + (1 - gate) * value
        out[(slice(None), *fine)] = value
    return out


CASES: list[tuple[Sizes, Sizes, dict[str, Any]]] = [
    ((5,), (10,), {"dims": 1}),
    ((5,), (9,), {"dims": 1, "skip": "none"}),
    ((3, 4), (6, 8), {}),
    ((3, 4), (7, 7), {"kernel_size": (3, 5)}),  # odd encoders, halved downwards and upwards
    ((3, 4), (6, 8), {"bias": "paper", "skip": "add"}),
    ((3, 4), (6, 8), {"bias": "algorithm", "renormalise": True}),
    ((2, 3), (6, 9), {"scale": 3, "kernel_size": 3}),
    ((2, 3), (7, 10), {"scale": 3, "kernel_size": 3}),
    ((2, 3, 2), (4, 6, 4), {"dims": 3, "kernel_size": 3}),
    ((2, 3, 2), (2, 7, 4), {"dims": 3, "kernel_size": 3, "scale": (1, 2, 2), "bias": "paper"}),
]


@pytest.mark.parametrize("kind", [FADE, FADELite])
@pytest.mark.parametrize(("coarse", "fine", "settings"), CASES)
def test_it_is_the_definition(kind: type[FADE], coarse: Sizes, fine: Sizes, settings: dict[str, Any]) -> None:
    fade = made(kind, **settings)
    decoder, encoder = drawn(2, 3, *coarse), drawn(2, 3, *fine, seed=1)
    with torch.no_grad():
        expected = torch.stack([by_definition(fade, *pair) for pair in zip(decoder, encoder, strict=True)])
        torch.testing.assert_close(fade(decoder, encoder), expected, rtol=0, atol=1e-12)


def test_an_image_is_a_volume_of_one_slice() -> None:
    flat, deep = made(), made(dims=3, kernel_size=(1, 5, 5), scale=(1, 2, 2))
    state = {
        name: tensor[..., None, :, :] if tensor.ndim == 4 else tensor for name, tensor in flat.state_dict().items()
    }
    content = torch.zeros_like(deep.ker_generator.content_encoder.weight)
    content[:, :, 1] = flat.ker_generator.content_encoder.weight.detach()
    deep.load_state_dict(state | {"ker_generator.content_encoder.weight": content})
    decoder, encoder = drawn(1, 3, 4, 3), drawn(1, 3, 8, 6)
    torch.testing.assert_close(
        deep(decoder[:, :, None], encoder[:, :, None])[:, :, 0], flat(decoder, encoder), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("kind", [FADE, FADELite])
def test_gradients(kind: type[FADE]) -> None:
    fade = made(kind, channels=2, kernel_size=3)
    decoder, encoder = drawn(1, 2, 2, 3).requires_grad_(), drawn(1, 2, 4, 7).requires_grad_()
    inputs = (decoder, encoder, *fade.parameters())
    assert torch.autograd.gradcheck(lambda d, e, *_: fade(d, e), inputs)


@pytest.mark.parametrize(("channels", "full", "lite"), [(256, 47514, 13332), (128, 31002, 6804), (64, 22746, 3540)])
def test_parameters_are_as_many_as_published(channels: int, full: int, lite: int) -> None:
    taps = 25
    count = sum(p.numel() for p in FADE(channels).parameters())
    assert count == full == 2 * channels * 64 + 64 + 9 * 64 * taps + taps + channels + 1
    count = sum(p.numel() for p in FADELite(channels).parameters())
    assert count == lite == 2 * channels * taps + taps + 9 * taps + taps + channels + 1


def test_parameters_are_named_as_in_the_authors_code() -> None:
    names = {
        "gate_generator.conv.weight": (1, 8, 1, 1),
        "gate_generator.conv.bias": (1,),
        "ker_generator.compressor_en.weight": (64, 8, 1, 1),
        "ker_generator.compressor_en.bias": (64,),
        "ker_generator.compressor_de.weight": (64, 8, 1, 1),
        "ker_generator.content_encoder.weight": (25, 64, 3, 3),
        "ker_generator.content_encoder.bias": (25,),
    }
    assert {name: tuple(tensor.shape) for name, tensor in FADE(8).state_dict().items()} == names


def test_a_constant_fades_at_the_border_unless_renormalised() -> None:
    decoder, encoder = torch.ones(1, 3, 5, 5, dtype=torch.float64), drawn(1, 3, 10, 10)
    published = made(skip="none", kernel_size=3)(decoder, encoder)
    assert bool((published[..., 2:8, 2:8] - 1).abs().max() < 1e-12)
    assert bool((published[..., 0, :] < 1).all())
    whole = made(skip="none", kernel_size=3, renormalise=True)(decoder, encoder)
    torch.testing.assert_close(whole, torch.ones_like(whole), rtol=0, atol=1e-12)


def test_unequal_channels_are_aligned_or_left_out() -> None:
    decoder, encoder = drawn(1, 3, 4, 4), drawn(1, 5, 8, 8)
    assert made(encoder_channels=5, skip="none")(decoder, encoder).shape == (1, 3, 8, 8)
    for skip in ("gate", "add"):
        fade = made(encoder_channels=5, skip=skip, align=True)
        assert fade.aligner is not None
        assert fade(decoder, encoder).shape == (1, 3, 8, 8)
    aligned = made(encoder_channels=5, skip="add", align=True)
    up = made(encoder_channels=5, skip="none")
    up.load_state_dict(aligned.state_dict(), strict=False)
    torch.testing.assert_close(
        aligned(decoder, encoder),
        up(decoder, encoder) + aligned.aligner(encoder),
        rtol=0,
        atol=1e-13,  # type: ignore[misc]
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kernel_size": 4}, "kernel_size=4: expected odd numbers, as 3 or 5 instead of 4"),
        ({"kernel_size": (3, 2)}, r"kernel_size=\(3, 2\): expected odd numbers, as 1 or 3 instead of 2"),
        ({"content_kernel": 2}, "content_kernel=2: expected odd numbers"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\): expected a whole number of at least 1, or 2 of them"),
        ({"scale": 0}, "scale=0: expected a whole number of at least 1"),
        ({"scale": 1.5}, "scale=1.5: expected a whole number of at least 1"),
        ({"scale": True}, "scale=True: expected a whole number"),
        ({"dims": 4}, "dims=4: expected 1, 2 or 3"),
        ({"skip": "gates"}, "skip='gates': expected one of gate, add, none; did you mean 'gate'"),
        ({"bias": "Code"}, "bias='Code': expected one of code, paper, algorithm; did you mean 'code'"),
        ({"encoder_channels": 4}, r"as many encoder channels \(4\) as decoder channels \(3\); align=True"),
    ],
)
def test_mistakes_are_one_line(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        FADE(3, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("coarse", "fine", "scale", "text"),
    [
        ((4, 6), (12, 18), 2, r"encoder of size 12 x 18 over a decoder of 4 x 6: .* expects 7..9 x 11..13; "
                              r"scale=\(3, 3\) would fit"),
        ((4, 6), (8, 14), 2, r"8 x 14 over a decoder of 4 x 6: scale=\(2, 2\) expects 7..9 x 11..13$"),
        ((4, 6), (8, 6), 2, r"scale=\(2, 1\) would fit"),
        ((4, 6), (4, 12), (1, 1), r"expects 4 x 6; scale=\(1, 2\) would fit"),
        ((4,), (8, 8), 2, r"decoder: expected \(B, C, \*2 sizes\), got shape \(1, 3, 4\)"),
        ((4, 4), (8,), 2, r"encoder: expected \(B, C, \*2 sizes\), got shape \(1, 3, 8\)"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit_are_refused(coarse: Sizes, fine: Sizes, scale: int, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        FADE(3, scale=scale)(torch.zeros(1, 3, *coarse), torch.zeros(1, 3, *fine))
    assert "\n" not in str(caught.value)


def test_another_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="encoder: expected the decoder's batch of 2, got 1"):
        FADE(3)(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 8, 8))


def test_embedding_means_nothing_to_the_lite_form() -> None:
    with pytest.raises(TypeError, match="embedding"):
        FADELite(3, embedding=8)  # type: ignore[call-arg]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    fade = made().float()
    decoder, encoder = (drawn(1, 3, *sizes).float() for sizes in ((4, 4), (8, 8)))
    exact = fade(decoder, encoder)
    half = fade.to(dtype)(decoder.to(dtype), encoder.to(dtype))
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), exact, rtol=0.1, atol=0.1)


def test_it_runs_and_learns_under_autocast() -> None:
    fade = made().float()
    decoder, encoder = (drawn(1, 3, *sizes).float().requires_grad_() for sizes in ((4, 4), (8, 8)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = fade(decoder, encoder)
    torch.testing.assert_close(out.float(), fade(decoder, encoder), rtol=0.1, atol=0.1)
    out.float().square().sum().backward()
    for tensor in (decoder, encoder, *fade.parameters()):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())
        assert tensor.grad.dtype == tensor.dtype


@pytest.mark.parametrize("kind", [FADE, FADELite])
def test_it_compiles_as_one_graph_with_its_backward(kind: type[FADE]) -> None:
    fade = made(kind)
    decoder, encoder = drawn(1, 3, 3, 4).requires_grad_(), drawn(1, 3, 7, 8).requires_grad_()
    compiled = torch.compile(copy.deepcopy(fade), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(decoder, encoder), fade(decoder, encoder), rtol=0, atol=1e-13)
    ours, theirs = (
        torch.autograd.grad(network(decoder, encoder).square().sum(), (decoder, encoder))
        for network in (fade, compiled)
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_the_memory_layout_of_the_features_is_kept() -> None:
    fade = FADE(3, skip="none")
    decoder, encoder = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 8, 8)
    last = torch.channels_last
    assert fade(decoder, encoder).is_contiguous()
    kept = fade(decoder.contiguous(memory_format=last), encoder.contiguous(memory_format=last))
    assert kept.is_contiguous(memory_format=last)
