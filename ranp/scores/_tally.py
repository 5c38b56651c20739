"""Running sums of mask gradients: w dL/dw is the gradient of an all-ones mask on w, so that no masks are needed.

The mean over batches commutes with sums over elements, so that for the reductions sum and mean one number per neuron is
held; only max and SNIP need one per element. Everything is float64: thousands of batches add up without loss. What a
batch adds is apart from adding it, so that several processes may share the batches and add all in their order.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ranp.errors import UsageError, named
from ranp.scores._neurons import Source, rows

Part = Mapping[tuple[str, str], Tensor]
"""What one batch adds to the sums: float64 by kind, "total" or "cancelled", and parameter."""
SIGNED = ("mnmg", "mnmg-paper", "taylor")  # abs or square after the sum over a neuron; the others before
_CANCELLED = 1e-3  # |sum| over sum of |.| of filters: 1e-7 to 1e-3 behind a norm, 0.03 to 0.2 elsewhere (measured)


class Tally:
    """Sums over batches, of constant size.

    Args:
        method: of `importance`.
        reduce: likewise.
        transposed: likewise.
        sources: what each layer is scored by.
    """

    norms: ClassVar[bool] = False
    """Whether an affine norm right behind a layer stands for it, whatever the method."""

    def __init__(self, method: str, reduce: str, transposed: str, sources: list[Source]) -> None:
        self.signed = method in SIGNED
        self.reduce = reduce
        self.transposed = transposed
        self.sources = sources
        self.whole = reduce == "max" or method == "snip"
        self.layers = {each.weight: each.layer for each in sources if each.weight}
        self.names = list(dict.fromkeys([*self.layers, *(name for each in sources for name in each.vectors)]))
        self.totals: dict[str, Tensor] = {}
        self.cancelled: dict[str, Tensor] = {}

    def part(self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], where: str) -> Part:
        """Return what one batch adds, from its gradients: the mask gradients, and what of them cancels.

        Raises:
            UsageError: one is not finite.
        """
        parts: dict[tuple[str, str], Tensor] = {}
        for name in self.names:
            product = _masked_gradient(values[name].detach(), gradients[name])
            if not self.signed:
                product.abs_()
            parts["total", name] = self._shrunk(name, product, parts)
            if not parts["total", name].isfinite().all():
                raise UsageError(f"{where} of {name} is not finite")
        return parts

    def add(self, part: Part) -> None:
        """Add what one batch adds."""
        for (kind, name), tensor in part.items():
            sums = self.totals if kind == "total" else self.cancelled
            sums[name] = sums[name].add_(tensor) if name in sums else tensor.clone()

    def _shrunk(self, name: str, product: Tensor, parts: dict[tuple[str, str], Tensor]) -> Tensor:
        layer = self.layers.get(name)
        if layer is None or (self.whole and not self.signed):
            return product
        by_neuron = rows(product, layer, self.transposed)  # (O, elements)
        sums = by_neuron.sum(1)
        if self.signed:
            parts["cancelled", name] = torch.stack([sums.abs().sum(), product.abs().sum()])
        return product if self.whole else sums

    def neurons(self, source: Source, count: int) -> NDArray[np.float64]:
        """Return a layer's scores after some batches, (O,)."""
        vectors = [self.totals[name] for name in source.vectors]
        if source.weight is None:
            total = torch.stack(vectors).sum(0)  # a mask on the neuron itself: nothing to take a maximum of
        elif self.reduce == "max":
            total = rows(self.totals[source.weight], source.layer, self.transposed).amax(1)  # the bias is left out
        else:
            weight = self.totals[source.weight]
            total = rows(weight, source.layer, self.transposed).sum(1) if self.whole else weight
            total = torch.stack([total, *vectors]).sum(0)
        if self.reduce == "mean":
            total = total / source.size
        return (total / count).abs().cpu().numpy()

    def elements(self, count: int) -> dict[str, NDArray[np.float32]]:
        """Return the mean of every element, in its parameter's shape."""
        return {name: (total / count).float().cpu().numpy() for name, total in self.totals.items()}

    def notes(self) -> list[str]:
        """Return what a person should know of the scores."""
        return []

    def cancelling(self) -> list[str]:
        """Return the layers whose filters' signed sums cancel."""
        found = {name: both.tolist() for name, both in self.cancelled.items()}
        return [name for name, (signed, absolute) in found.items() if signed < _CANCELLED * absolute]


class ByNeuron(Tally):
    """What a criterion that scores a neuron as a whole is: what a batch adds is one number for each neuron of a layer.

    A subclass says in `part` what that is, by the name of the layer's weight.

    Raises:
        UsageError: another reduction than the sum.
    """

    def __init__(self, method: str, reduce: str, transposed: str, sources: list[Source]) -> None:
        if reduce != "sum":
            raise UsageError(f"{named('reduce', reduce)}: {method} scores a neuron as a whole; expected sum")
        super().__init__(method, reduce, transposed, sources)

    def sums(self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], where: str) -> Part:
        """Return what `Tally` would add: sums over each neuron's filter, and what its vectors hold."""
        return super().part(values, gradients, where)

    def neurons(self, source: Source, count: int) -> NDArray[np.float64]:
        """Return a layer's scores after some batches, (O,)."""
        return (self.totals[source.layer.name] / count).cpu().numpy()


def joined(sums: Part, source: Source) -> Tensor:
    """Return the sum over each neuron of a source, its bias included, (O,)."""
    names = [*([source.weight] if source.weight else []), *source.vectors]
    return torch.stack([sums["total", name] for name in names]).sum(0)


def _masked_gradient(value: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of a mask on each element, float64; both parts of a complex number share one mask."""
    if value.is_complex():
        return (torch.view_as_real(value).double() * torch.view_as_real(gradient)).sum(-1)
    return value.double() * gradient
