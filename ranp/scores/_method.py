"""importance(): how much the loss depends on each neuron.

Xu, Ajanthan, Vineet and Hartley, "RANP: Resource Aware Neuron Pruning at Initialization for 3D CNNs" (2020), sections
3.1 and 3.2; SNIP is Lee, Ajanthan and Torr (2019). With c an all-ones mask on every weight and bias element,
dL/dc = w dL/dw, and a neuron's elements are its filter and its bias:

    mpmg        mean over batches of |dL/dc|, then sum, mean or max over the neuron
    mnmg        mean over batches of dL/dc, then sum, mean or max over the neuron, then |.|
    snip        as mpmg, and every element's score is kept
    l1          |w|, without data

What trained networks are pruned by stands in a file each: `_taylor.py`, `_fpgm.py`, `_bn_scale.py`.
What differs from the paper, and why: docs/scores.md.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ranp import processes
from ranp.errors import UnsupportedError, UsageError, check_type, listed, named, nearest, some
from ranp.graph.graph import Graph
from ranp.inputs import check_device, generator_of
from ranp.modules import check_values, tensors_of, undisturbed, unwrapped
from ranp.options import DATA_FREE, Scoring
from ranp.scores._bn_scale import NormScale
from ranp.scores._fpgm import GeometricMedian
from ranp.scores._neurons import by_inputs, source
from ranp.scores._progress import Track, tracked
from ranp.scores._streaming import Batches, Loss, gradients, scoring_copy, seeded
from ranp.scores._tally import Part, Tally
from ranp.scores._taylor import Taylor
from ranp.scores.result import Scores

Transposed = Literal["outputs", "inputs"]
_CRITERIA: dict[str, type[Tally]] = {"taylor": Taylor, "fpgm": GeometricMedian, "bn-scale": NormScale}


def importance(
    model: nn.Module,
    graph: Graph,
    batches: Batches | None = None,
    loss: Loss | None = None,
    method: str = "mpmg",
    reduce: str = "sum",
    *,
    device: str | torch.device = "cpu",
    seed: int = 0,
    zero_conv_biases: bool = False,
    dead_norms: str = "one",
    transposed: str = "outputs",
    progress: bool | Track | None = None,
) -> Scores:
    """Score every neuron of a network's convolutions and linear layers.

    A copy runs in training mode, one batch at a time; the model, its gradients and buffers, and torch's generators are
    left as they were. Every batch counts alike, whatever its size; what it adds depends on it, its number and the seed
    alone, so that processes that work together (`ranp.processes`) share the batches and all get the same scores. A
    layer the loss does not depend on scores zero. A weight computed from parameters that have no part for each neuron
    (a generated one) can't be scored: a warning says so, and its neurons count as the mean of all others.

    Args:
        model: the network.
        graph: its trace.
        batches: any iterable of (inputs, target); inputs are a tensor, a tuple of positional ones or a dict.
        loss: of (outputs, target), a scalar.
        method: "mpmg", "mnmg" (behind an affine norm |gamma dL/dgamma + beta dL/dbeta|), "mnmg-paper" (filter sums
            everywhere), "snip", "taylor", or without batches and loss "l1", "fpgm" or "bn-scale".
        reduce: "sum" (the paper's), "mean" or "max" over a neuron's elements; the sum alone for the last three and
            "taylor".
        device: where the copy runs.
        seed: of dropout and of what the batches draw from torch's global generators.
        zero_conv_biases: score with the biases of convolutions at zero, as the paper does.
        dead_norms: norms whose weight is zero throughout (residual branches at the start) send no gradient back, and
            what leads to them scores zero: "one" scores with their weight at one, "keep" as it is; only with batches.
        transposed: "inputs" scores transposed convolutions by input channel, as published, without their biases.
        progress: a bar over the batches, on stderr: None draws it where that is a terminal, True anywhere, False never;
            a function is given the batches and returns what is iterated over, such as `tqdm.tqdm`.

    Raises:
        UsageError: an unknown word, no batches, NaN or infinite inputs or loss, a loss that is no scalar or depends on
            no weight, a model the graph was not traced from.
        UnsupportedError: a network without layers, or without one that can be scored by neuron.

    Example:
        >>> from ranp.graph.build import trace
        >>> net = nn.Sequential(nn.Linear(2, 3, bias=False))
        >>> _ = nn.init.constant_(net[0].weight, 0.5)
        >>> importance(net, trace(net, torch.zeros(1, 2)), method="l1").neurons
        {'0.weight': array([1., 1., 1.])}
    """
    Scoring.read({"method": method, "reduce": reduce, "dead_norms": dead_norms})
    if transposed not in get_args(Transposed):
        known = get_args(Transposed)
        raise UsageError(f"transposed={transposed!r}: expected {listed(known)}{nearest(str(transposed), known)}")
    check_type("graph", graph, isinstance(graph, Graph), "the graph of ranp.trace")
    check_given(batches, loss, method, seed)
    model = unwrapped(model)
    check_values(model)
    tally = _tally(model, graph, method, reduce, transposed)
    where = check_device(processes.own_device(str(device)))
    filled = {layer.bias: 0.0 for layer in graph.layers if zero_conv_biases and layer.bias and layer.kind != "linear"}
    dead = [] if method in DATA_FREE else _dead_norms(model)
    if dead_norms == "one":
        filled |= {_weight_of(path): 1.0 for path in dead}
    with undisturbed(), torch.enable_grad(), seeded(seed, where):
        network, scored = scoring_copy(model, tally.names, filled, where)
        if method in DATA_FREE:
            count = _add_magnitudes(tally, scored)
        else:
            count = _add_gradients(tally, network, scored, batches, loss, where, seed, progress)
    _warn_of_cancelling(tally, graph, method)
    neurons = _with_unscored(graph, {each.layer.name: tally.neurons(each, count) for each in tally.sources})
    if method in ("mpmg", "snip", "taylor") and not any(values.any() for values in neurons.values()):
        warnings.warn(
            f"{method}: every score is zero, so that no neuron ranks before another: the loss does not change with "
            "any weight",
            UserWarning,
            stacklevel=2,
        )
    elements = tally.elements(count) if method == "snip" else {}
    notes = [*tally.notes(), *_said_of_norms(dead, dead_norms), *_said_of_zeros(graph, neurons)]
    return Scores(method, reduce, 0 if method in DATA_FREE else count, neurons, elements, transposed, tuple(notes))


def _dead_norms(model: nn.Module) -> list[str]:
    """Return the paths of norms whose weight is zero throughout."""
    return [
        path
        for path, module in model.named_modules()
        if "Norm" in type(module).__name__
        and isinstance(weight := module._parameters.get("weight"), Tensor)
        and weight.ndim == 1
        and not weight.is_meta
        and not weight.any()
    ]


def _weight_of(path: str) -> str:
    return f"{path}.weight" if path else "weight"


def _said_of_norms(dead: list[str], way: str) -> list[str]:
    if not dead:
        return []
    what = f"the weights of {len(dead)} norm(s) are zero ({some(dead)}), so that what leads to them is dead"
    if way == "one":
        return [f"{what}: scored with them at one ({named('dead_norms', 'keep')} scores them as they are)"]
    return [f"{what}: scored as they are ({named('dead_norms', 'one')} scores with them at one)"]


def _said_of_zeros(graph: Graph, neurons: dict[str, NDArray[np.float64]]) -> list[str]:
    """Say which layers score zero throughout."""
    zero = [layer.module or layer.name for layer in graph.layers if not neurons[layer.name].any()]
    if not zero:
        return []
    if len(zero) == len(graph.layers):
        return ["every score is zero: no neuron ranks before another, and a seeded draw decides which go"]
    return [
        f"{len(zero)} of {len(graph.layers)} layers score zero throughout ({some(zero)}): layers they are tied to "
        "decide for them, and where there are none a seeded draw decides which neurons go"
    ]


def check_given(batches: object, loss: object, method: str = "l1", seed: int = 0) -> None:
    """Refuse what can't be batches, a loss or a seed, or that there are none where they are needed, before any run.

    Raises:
        WrongType: batches that can't be iterated or are one batch, a loss that can't be called, or a class of losses.
        UsageError: none of one, and a method that needs both.
    """
    single = isinstance(batches, Tensor | Mapping | str)
    iterable = hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")
    expected = f"an iterable of (inputs, target){', such as a list of this one' if single else ''}"
    check_type("batches", batches, batches is None or (iterable and not single), expected)
    word = f", such as ranp.data.losses.get({loss!r})" if isinstance(loss, str) else ""
    if isinstance(loss, type):
        word = f", such as {loss.__name__}(), not the class"
    usable = callable(loss) and not isinstance(loss, type)
    check_type("loss", loss, loss is None or usable, f"a function of (outputs, target){word}")
    generator_of(seed)
    if method not in DATA_FREE and (batches is None or loss is None):
        raise UsageError(f"method {method!r} needs batches and a loss; {listed(DATA_FREE, 'and')} need neither")


def _tally(model: nn.Module, graph: Graph, method: str, reduce: str, transposed: str) -> Tally:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_of(model).items()}
    for layer in graph.layers:
        if layer.name not in shapes:
            raise UsageError(f"graph: the model has no {layer.name}; expected the trace of this model")
    if not graph.layers:
        raise UnsupportedError("the network has no convolution or linear layer to score")
    kind = _CRITERIA.get(method, Tally)
    norms = method == "mnmg" or kind.norms
    found = [source(graph, layer, shapes, norms=norms, transposed=transposed) for layer in graph.layers]
    sources = [each for each in found if each is not None]
    if not sources:
        first = graph.layers[0]
        raise UnsupportedError(
            f"{first.module or 'the top'}: its weight is computed from {first.name} {shapes[first.name]}, which has no "
            "part for each neuron; no layer of the network can be scored"
        )
    return kind(method, reduce, transposed, sources)


def _with_unscored(graph: Graph, scored: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the scores of all layers; one that can't be scored counts as the mean of all neurons, with a warning."""
    missing = [layer for layer in graph.layers if layer.name not in scored]
    if not missing:
        return scored
    warnings.warn(
        f"{missing[0].module or 'the top'}: its weight is computed from {missing[0].name}, which has no part for each "
        f"neuron; {len(missing)} such layer(s) count as the mean of all others",
        UserWarning,
        stacklevel=4,
    )
    mean = float(np.concatenate(list(scored.values())).mean())
    found = {**scored, **{layer.name: np.full(len(layer.units), mean) for layer in missing}}
    return {layer.name: found[layer.name] for layer in graph.layers}


def _add_magnitudes(tally: Tally, scored: dict[str, Tensor]) -> int:
    tally.add(tally.part(scored, {name: value.detach().sgn() for name, value in scored.items()}, "the value"))
    return 1


def _add_gradients(
    tally: Tally,
    network: nn.Module,
    scored: dict[str, Tensor],
    batches: Batches | None,
    loss: Loss | None,
    device: torch.device,
    seed: int,
    progress: bool | Track | None,
) -> int:
    """Add every batch, in their order whichever process scored it, and return how many there were."""
    assert batches is not None
    assert loss is not None
    own = processes.share(batches, processes.rank(), processes.count())

    def parts() -> Iterator[Part]:
        for number, found in enumerate(gradients(network, scored, tracked(own, progress), loss, device, seed), start=1):
            yield found if found is processes.OTHERS else tally.part(scored, found, f"batch {number}: the gradient")

    count = 0
    for part in processes.in_order(parts()):
        count += 1
        tally.add(part)
    if not count:
        raise UsageError("batches: there are none; expected at least one (inputs, target)")
    return count


def _warn_of_cancelling(tally: Tally, graph: Graph, method: str) -> None:
    """Warn of layers a norm makes scale invariant: their signed sums cancel, up to its eps and rounding."""
    found = set(tally.cancelling())
    if method == "mnmg-paper":
        found |= {layer.name for layer in graph.layers if layer.norm and not by_inputs(layer, tally.transposed)}
    if method in ("mnmg", "taylor"):
        found |= _before_depthwise(graph)
    if found:
        first = next(layer.name for layer in graph.layers if layer.name in found)
        advice = "; 'mnmg' scores the weights of a norm that has some" if method == "mnmg-paper" else ""
        warnings.warn(
            f"{method}: the scores of {len(found)} layers are little but rounding noise, {first} among them: a norm "
            f"behind them undoes any change of scale; use 'mpmg'{advice}",
            UserWarning,
            stacklevel=3,
        )


def _before_depthwise(graph: Graph) -> set[str]:
    """Return the layers whose neurons go through a depthwise convolution with a norm, which undoes their scale."""
    depthwise = [layer.units for layer in graph.layers if layer.kind == "depthwise" and layer.norm]
    units = {unit for each in depthwise for unit in each.tolist() if unit >= 0}
    return {each.name for each in graph.layers if each.kind != "depthwise" and units.issuperset(each.units.tolist())}
