"""How long choices under limits take, against one scoring pass of the same network.

    python benchmarks/solve.py [NETWORK ...] [--full]

Of each network, in seconds of the processor: a trace, scoring one batch, finding its memory as a function of the plan;
the microseconds of pricing a plan; and each solver under a limit of FLOPs, of training memory, and of both.
Sizes are small by default; `--full` takes those that people train at.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import ranp
from ranp import cost, models
from ranp.errors import RanpError
from ranp.selection import Limits

LIMITS = {"flops": {"flops": "20%"}, "memory": {"train_memory": "40%"}, "both": {"flops": "20%", "train_memory": "40%"}}


def unet3d(full: bool) -> tuple[nn.Module, Any]:
    side = 96 if full else 48
    return models.build("unet3d", classes=4), torch.zeros(1, 1, side, side, side)


def monai_unet(full: bool) -> tuple[nn.Module, Any]:
    from monai.networks.nets import UNet

    side = 96 if full else 48
    net = UNet(3, 1, 4, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
    return net, torch.zeros(1, 1, side, side, side)


def psm(full: bool) -> tuple[nn.Module, Any]:
    size = (256, 512) if full else (64, 128)
    settings: dict[str, Any] = {} if full else {"maxdisp": 48, "pools": (16, 8, 4, 2)}
    return models.build("psm", **settings), (torch.zeros(1, 3, *size), torch.zeros(1, 3, *size))


def i3d(full: bool) -> tuple[nn.Module, Any]:
    return models.build("i3d"), torch.zeros(1, 3, 16, 224, 224)


def resenc(full: bool) -> tuple[nn.Module, Any]:
    from dynamic_network_architectures.architectures.unet import ResidualEncoderUNet

    side = 96 if full else 48
    net = ResidualEncoderUNet(
        1, 5, (32, 64, 128, 256, 320), nn.Conv3d, 3, (1, 2, 2, 2, 2), (1, 3, 4, 6, 6), 4, (1, 1, 1, 1),
        conv_bias=True, norm_op=nn.InstanceNorm3d, norm_op_kwargs={"affine": True}, nonlin=nn.LeakyReLU,
    )  # fmt: skip
    return net, torch.zeros(1, 1, side, side, side)


NETWORKS: dict[str, Callable[[bool], tuple[nn.Module, Any]]] = {
    "unet3d": unet3d, "MONAI UNet": monai_unet, "psm": psm, "i3d": i3d, "ResEnc U-Net": resenc,
}  # fmt: skip


def taken(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()  # of all threads: another's work on the machine does not count
    found = call()
    return time.process_time() - start, found


def measured(make: Callable[[bool], tuple[nn.Module, Any]], full: bool) -> dict[str, Any]:
    """Return the figures of a network by name."""
    torch.manual_seed(0)
    model, inputs = make(full)
    figures: dict[str, Any] = {}
    figures["trace s"], graph = taken(lambda: ranp.trace(model, inputs))
    drawn = (
        tuple(torch.randn(each.shape) for each in inputs) if isinstance(inputs, tuple) else torch.randn(inputs.shape)
    )
    figures["scoring s"], scores = taken(lambda: ranp.importance(model, graph, [(drawn, None)], cost.mean_of_outputs))
    price = cost.compile(graph)
    figures["memory s"], price.meters["train_memory"] = taken(
        lambda: cost.Peak.of(graph, price, model, inputs, cost.Step())
    )
    limits = Limits.of(graph, LIMITS["both"], price)
    everything = np.ones(graph.count, dtype=bool)
    figures["plan us"] = 1e6 * taken(lambda: [limits.costs(everything) for _ in range(200)])[0] / 200
    for solver in ("threshold", "greedy", "exact"):
        for word, asked in LIMITS.items():

            def choose(solver: str = solver, asked: dict[str, Any] = asked) -> Any:
                return ranp.select(graph, scores, price=price, solver=solver, **asked)

            try:
                seconds, plan = taken(choose)
                figures[f"{solver} {word}"] = f"{seconds:.2f} s, {100 * plan.choice.importance:.1f} %"
            except RanpError as error:
                figures[f"{solver} {word}"] = str(error)
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--full", action="store_true")
    asked = parser.parse_args()
    for name in asked.networks or NETWORKS:
        try:
            figures = measured(NETWORKS[name], asked.full)
        except ModuleNotFoundError as error:
            print(f"{name}: {error}")
            continue
        print(name)
        for what, value in figures.items():
            print(f"  {what:18} {value if isinstance(value, str) else f'{value:.2f}'}", flush=True)


if __name__ == "__main__":
    main()
