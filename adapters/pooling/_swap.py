"""Put other poolings into a network, and train them as their authors do."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ranp.adapters.pooling._detail import DPP
from ranp.adapters.pooling._exponent import Exponent, SideBranch
from ranp.adapters.pooling._gated import GatedPool
from ranp.adapters.pooling._lp import LpPool
from ranp.adapters.pooling._polynomial import PPool
from ranp.adapters.pooling._pool import Pool
from ranp.adapters.transparent.probing import probed_output
from ranp.errors import UsageError, nearest, saying

KINDS: dict[str, type[Pool]] = {"p": PPool, "dpp": DPP, "gated": GatedPool, "lp": LpPool}
TORCH = {
    nn.MaxPool1d: (1, "max"),
    nn.MaxPool2d: (2, "max"),
    nn.MaxPool3d: (3, "max"),
    nn.AvgPool1d: (1, "mean"),
    nn.AvgPool2d: (2, "mean"),
    nn.AvgPool3d: (3, "mean"),
}
"""Which modules are swapped, exactly these classes: a subclass may do something else."""
FIRST_ALPHA = {"max": 70.0, "mean": 0.0}
FIRST_POWER = {"max": 30.0, "mean": 1.0}
HIGHEST = 110.0
Inputs = Tensor | Sequence[Any]


def swap_pooling(
    model: nn.Module,
    kind: str = "p",
    *,
    example_inputs: Inputs | None = None,
    only: Callable[[str, nn.Module], bool] | None = None,
    **settings: Any,
) -> nn.Module:
    """Return a copy of `model` whose max and mean pools are others, with the same weights; the model is untouched.

    A P-pooling begins as the pool it replaces: alpha at 70 for a max pool, at 0 with a range from 0 on for a mean pool.
    An Lp pooling is the power mean, with p at 30 or at 1. The other kinds begin as they do.

    Padding never counts in the new pools; in a mean pool with `count_include_pad=True` it did.

    Args:
        model: whose pools are modules: `nn.MaxPool1d` to `3d`, `nn.AvgPool1d` to `3d`. Calls of functions such as
            `F.max_pool2d` stay, and so do adaptive pools.
        kind: `"p"`, `"dpp"`, `"gated"` or `"lp"`.
        example_inputs: a tensor, or a sequence of positional inputs, for one run without gradients, which tells the
            channels at each pool where a kind has parameters for them. Without them a run on shapes alone is tried.
        only: from a pool's path and the pool to whether it is swapped; all are by default.
        settings: of `PPool` (mode `"predicted"` by default, which is the published form), `DPP`, `GatedPool`, `LpPool`.

    Raises:
        UsageError: an unknown kind or setting, no pool to swap, one that is neither a maximum nor a mean, or numbers of
            channels nobody can tell, or several of them at one pool.

    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2))
    >>> swap_pooling(model, "p", mode="fixed")[1]
    PPool(
      kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1), negative=shift
      (alpha): Exponent(70)
    )
    """
    if kind not in KINDS:
        raise UsageError(f"kind={kind!r}: expected one of {', '.join(KINDS)}{nearest(str(kind), KINDS)}")
    model = copy.deepcopy(model)
    paths = [
        (path, module)
        for path, module in model.named_modules(remove_duplicate=False)
        if type(module) in TORCH and (only is None or only(path, module))
    ]
    if not paths:
        raise UsageError("swap_pooling: no max or mean pool among the modules; pools called as functions can't be told")
    if kind == "p":
        settings.setdefault("mode", "predicted")
    if kind == "dpp" or settings.get("mode") in ("channel", "predicted"):
        widths = _widths(model, dict(paths), example_inputs)
    else:
        widths = {}
    like = next((each for each in model.parameters() if each.is_floating_point()), torch.empty(0))
    swapped: dict[int, Pool] = {}
    for path, module in paths:
        if id(module) not in swapped:
            swapped[id(module)] = _swapped(path, module, kind, widths.get(id(module)), settings).to(like)
        if not path:
            return swapped[id(module)]
        model.set_submodule(path, swapped[id(module)])
    return model


def _swapped(path: str, module: nn.Module, kind: str, widths: list[int] | None, settings: dict[str, Any]) -> Pool:
    dims, was = TORCH[type(module)]
    if getattr(module, "divisor_override", None) is not None:
        raise UsageError(
            f"{path}: divisor_override={module.divisor_override}: expected a pool that is a mean; see only="
        )
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    geometry = {name: getattr(module, name) for name in names if hasattr(module, name)}
    own: dict[str, Any] = {"dims": dims}
    if widths is not None:
        if len(widths) > 1:
            instead = "" if kind == "dpp" else ", or choose mode='layer', which has one parameter for all of them"
            listed = f"{', '.join(map(str, widths[:-1]))} and {widths[-1]}"
            raise UsageError(
                f"{path}: the network calls this pool with {listed} channels, while there are parameters for each "
                f"channel: give every call a pool of its own, leave this one out by only={instead}"
            )
        own["channels"] = widths[0]
    if kind == "p":
        own |= {"alpha": FIRST_ALPHA[was]} | ({"alpha_range": (0.0, HIGHEST)} if was == "mean" else {})
    elif kind == "lp":
        own |= {"power": FIRST_POWER[was], "mean": True}
    try:
        return KINDS[kind](**(geometry | own | settings)).train(module.training)
    except TypeError as error:  # an unknown setting
        raise UsageError(f"swap_pooling: {error}") from None


class _Seen:
    """A hook that notes how many channels a pool is called with, one note for a pool and all copies of it."""

    def __init__(self, dims: int) -> None:
        self.dims, self.widths = dims, list[int]()

    def __call__(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shape = (args[0] if args else kwargs["input"]).shape
        width = shape[len(shape) - self.dims - 1]
        if width not in self.widths:
            self.widths.append(width)

    def __deepcopy__(self, _: Any) -> "_Seen":
        return self


def _widths(model: nn.Module, pools: dict[str, nn.Module], inputs: Inputs | None) -> dict[int, list[int]]:
    """Return how many channels each pool is called with, by its id."""
    seen = {id(pool): _Seen(TORCH[type(pool)][0]) for pool in pools.values()}
    each = {id(pool): pool for pool in pools.values()}
    handles = [pool.register_forward_pre_hook(seen[key], with_kwargs=True) for key, pool in each.items()]
    if inputs is None:
        probed_output(model)  # whether it comes to an end does not matter
    else:
        args = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        with torch.no_grad(), saying(UsageError, "example_inputs: the network does not run"):
            copy.deepcopy(model).eval()(*args)
    for handle in handles:
        handle.remove()
    for path, pool in pools.items():
        if not seen[id(pool)].widths:
            why = "give example_inputs=" if inputs is None else "it was not called in the run of example_inputs"
            raise UsageError(f"{path or 'the pool'}: its number of channels could not be told; {why}")
    return {key: note.widths for key, note in seen.items()}


def param_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.0,
    *,
    factor: float = 3.0,
    slopes: float = 100,
    bias: float = 180,
) -> list[dict[str, Any]]:
    """Return a network's parameters for an optimizer, the poolings' as their authors train them.

    A side branch's gradient is multiplied by `factor`, which for SGD is a learning rate as much larger, and so it is
    done. Its PReLU and its bias learn faster than its filters, by `slopes` and `bias`, and have no weight decay. Nor
    have exponents learned for layers or channels, which learn like the bias, and the logarithms of `DPP`, which learn
    like the network.

    Args:
        model: holds poolings of this package.
        lr: learning rate of the network.
        weight_decay: of the network.
        factor: of all that alpha is made of.
        slopes: further factor of the PReLU.
        bias: further factor of the bias and of learned exponents.
    """
    apart: dict[float, list[nn.Parameter]] = {lr: [], lr * factor * slopes: [], lr * factor * bias: []}
    filters: list[nn.Parameter] = []
    for module in model.modules():
        if isinstance(module, SideBranch):
            filters += [module.filters, module.factors]
            apart[lr * factor * slopes].append(module.slopes)
            apart[lr * factor * bias].append(module.bias)
        elif isinstance(module, Exponent):
            apart[lr * factor * bias] += module.parameters(recurse=False)
        elif isinstance(module, DPP):
            apart[lr] += [module.log_strength, module.log_offset]
    taken = {id(each) for group in [filters, *apart.values()] for each in group}
    rest = [each for each in model.parameters() if id(each) not in taken]
    groups = [
        {"params": rest, "lr": lr, "weight_decay": weight_decay},
        {"params": filters, "lr": lr * factor, "weight_decay": weight_decay},
        *({"params": group, "lr": rate, "weight_decay": 0.0} for rate, group in apart.items()),
    ]
    return [group for group in groups if group["params"]]
