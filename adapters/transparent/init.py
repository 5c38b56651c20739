"""The weights of transparent stacks, and of the initialisations they are compared with.

Source: the paper's chapter on refining segmentation with superpixels (Xu et al., 2020, arXiv 2010.04363). Rows are
samples: a layer is y = x A + b with A of size m_(i-1) x m_i. All but the last layer are random; the last one is the
right inverse A^R = A^T (A A^T)^-1 of their product, with bias -b A^R, b what the biases before it add up to.

What differs: the default draws A with orthonormal rows (or columns, where it narrows), which keeps the product as well
conditioned as it can be; the paper's N(0, 1/m_i) is `"gaussian"`. And the random layers are rounded to their final
dtype before the inverse is taken in float64, so only the last layer carries a rounding error.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ranp.errors import UsageError, nearest

Layer = tuple[Tensor, Tensor]
"""Weight (m_in, m_out) and bias (m_out,), float64."""
Init = str | Sequence[Tensor]
"""A name of `INITS`, or the user's own matrices A_1 .. A_(k-1)."""

INITS = ("orthonormal", "gaussian", "net2net", "xavier", "random")
_IDENTITIES = ("orthonormal", "gaussian")


def is_identity(init: Init) -> bool:
    """Say whether the initialisation solves for the identity (and takes doubled or see-through hidden layers)."""
    return not isinstance(init, str) or init in _IDENTITIES


def make_layers(sizes: Sequence[int], init: Init, bias_scale: float, seed: int, dtype: torch.dtype) -> list[Layer]:
    """Draw the affine layers m_0 -> m_1 -> ... -> m_k of a stack without activation.

    Args:
        sizes: m_0 .. m_k, with m_0 = m_k and no width below m_0.
        init: one of `INITS`, or the matrices A_1 .. A_(k-1), of size (m_(i-1), m_i).
        bias_scale: standard deviation of the random biases, in units of the input.
        seed: of every draw.
        dtype: what the caller will cast to.

    Raises:
        UsageError: unknown name, wrong shapes, or matrices whose product has not full rank.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(init, str) and init not in INITS:
        raise UsageError(f"init={init!r}: expected one of {', '.join(INITS)}{nearest(init, INITS)}")
    if init == "net2net":
        return net2net(sizes, generator)
    if init == "xavier":
        return xavier(sizes, generator)
    if init == "random":
        return [(gaussian(m, n, generator), _biases(n, bias_scale, generator)) for m, n in pairwise(sizes)]
    matrices = _named_matrices(sizes, init, generator) if isinstance(init, str) else _user_matrices(sizes, init)
    matrices = [_rounded(matrix, dtype) for matrix in matrices]
    biases = [_rounded(_biases(matrix.shape[1], bias_scale, generator), dtype) for matrix in matrices]
    return close_identity(list(zip(matrices, biases, strict=True)))


def close_identity(layers: list[Layer]) -> list[Layer]:
    """Append the layer that undoes the given ones: the right inverse of their product, and the cancelling bias.

    Args:
        layers: A_1 .. A_(k-1) with their biases, float64.

    Raises:
        UsageError: the product of the matrices has not full row rank, to the precision of float32.
    """
    product, shift = layers[0]
    for matrix, bias in layers[1:]:
        product, shift = product @ matrix, shift @ matrix + bias
    values = torch.linalg.svdvals(product)
    rank = int((values > values[0] * max(product.shape) * torch.finfo(torch.float32).eps).sum())
    if rank < product.shape[0]:
        raise UsageError(
            f"init: the product of the matrices has rank {rank}, expected {product.shape[0]}, the channels"
        )
    inverse = torch.linalg.pinv(product)  # = A^T (A A^T)^-1 for full row rank
    return [*layers, (inverse, -shift @ inverse)]


def doubled(layers: Sequence[Layer], slope: float) -> list[Layer]:
    """Feed every hidden layer with x and -x, for an activation with sigma(x) - sigma(-x) = slope x.

    First [A, -A] + [b, -b], inner [[A, -A], [-A, A]] + [b, -b], last [A; -A] + b; what follows an activation is divided
    by the slope. Every entry is an own number that trains freely.
    """
    (first, first_bias), *inner, (last, last_bias) = layers
    result = [(torch.cat((first, -first), 1), torch.cat((first_bias, -first_bias)))]
    for matrix, bias in inner:
        wide = torch.cat((matrix, -matrix), 1)
        result.append((torch.cat((wide, -wide), 0) / slope, torch.cat((bias, -bias))))
    return [*result, (torch.cat((last, -last), 0) / slope, last_bias)]


def see_through(layers: Sequence[Layer]) -> list[Layer]:
    """Read the pairs (sigma(x), sigma(x) - x) that `SeeThrough` puts between layers: [A; -A] after the first one."""
    return [layers[0], *((torch.cat((matrix, -matrix), 0), bias) for matrix, bias in layers[1:])]


def net2net(sizes: Sequence[int], generator: torch.Generator) -> list[Layer]:
    """Widen identity layers by copying units (Chen et al., 2016, arXiv 1511.05641): sparse, exact for linear layers.

    Hidden layer i copies unit g_i(j) of the m_0 originals; what reads a unit divides by its copies. Biases: 0.
    """
    channels = sizes[0]
    copies = [torch.arange(channels)]
    for width in sizes[1:-1]:
        copies.append(torch.cat((copies[0], torch.randint(channels, (width - channels,), generator=generator))))
    copies.append(copies[0])
    layers = []
    for source, target in pairwise(copies):
        share = 1.0 / torch.bincount(source, minlength=channels).double()
        matrix = (source[:, None] == target[None, :]).double() * share[source][:, None]
        layers.append((matrix, torch.zeros(len(target), dtype=torch.float64)))
    return layers


def xavier(sizes: Sequence[int], generator: torch.Generator) -> list[Layer]:
    """Normal weights of variance 2 / (m_(i-1) + m_i), zero biases (Glorot and Bengio, 2010)."""
    return [
        (gaussian(m, n, generator) * math.sqrt(2.0 * n / (m + n)), torch.zeros(n, dtype=torch.float64))
        for m, n in pairwise(sizes)
    ]


def gaussian(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw a (rows, columns) matrix of N(0, 1 / columns), float64."""
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) / math.sqrt(columns)


def orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Draw a (rows, columns) matrix with orthonormal rows, or columns where there are fewer of them; float64, Haar."""
    tall = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(tall)
    signed: Tensor = q * torch.sign(torch.diagonal(r))
    return signed.T if rows < columns else signed


def _named_matrices(sizes: Sequence[int], name: str, generator: torch.Generator) -> list[Tensor]:
    draw = orthonormal if name == "orthonormal" else gaussian
    return [draw(m, n, generator) for m, n in pairwise(sizes[:-1])]


def _user_matrices(sizes: Sequence[int], matrices: Sequence[Tensor]) -> list[Tensor]:
    expected = [tuple(pair) for pair in pairwise(sizes[:-1])]
    received = [tuple(matrix.shape) for matrix in matrices]
    if received != expected:
        raise UsageError(f"init: expected matrices of sizes {expected}, received {received}")
    if not all(bool(torch.isfinite(matrix).all()) for matrix in matrices):
        raise UsageError("init: expected finite matrices, received NaN or infinity")
    return [matrix.detach().double().cpu() for matrix in matrices]


def _biases(width: int, scale: float, generator: torch.Generator) -> Tensor:
    return torch.randn(width, generator=generator, dtype=torch.float64) * scale


def _rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype).double()
