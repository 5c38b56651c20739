"""Print the two tables of the paper on transparent layers: what each initialisation recovers, and how exactly.

    python benchmarks/transparent_tables.py            # about 5 minutes on 2 cores
    python benchmarks/transparent_tables.py --side 128 --seeds 3

Setting of the paper: three layers 42 -> 64 -> 64 -> 42, input (4, 42, 512, 512) uniform in [-scale, scale]. Recovery is
the share of outputs with |out - in| < 1e-4; a parameter, bias or weight, counts as non-zero above 1e-4.
"""

import argparse
import platform
from statistics import median

import torch
from torch import Tensor

from ranp.adapters.transparent import TransparentStack

CHANNELS, WIDTHS, BATCH, EPS = 42, (64, 64), 4, 1e-4
SCALES = (1, 10, 100, 1000)
PAPER = {  # non-zero, recovery without and with ReLU, in per cent
    "transparent": ("99.9", "100", "100"),
    "net2net": ("2.3", "100", "50"),
    "xavier": ("-", "0", "0"),
    "random": ("-", "0", "0"),
}
PAPER_ERRORS = ("6.8e-6", "6.6e-5", "6.5e-4", "6.6e-3")
LIMITS = (5e-6, 1.5e-5, 1.5e-4, 1.5e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description="The paper's two tables on transparent layers.")
    parser.add_argument("--side", type=int, default=512, help="height and width of the input")
    parser.add_argument("--seeds", type=int, default=10, help="draws the errors are the median of")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, float32")
    widths = " -> ".join(map(str, (CHANNELS, *WIDTHS, CHANNELS)))
    print(f"{widths}, input ({BATCH}, {CHANNELS}, {options.side}, {options.side})")
    with torch.no_grad():
        recovery_table(options.side)
        error_table(options.side, options.seeds)


def recovery_table(side: int) -> None:
    print(f"\nInput in [-10, 10], eps {EPS:g}; the paper's figures in brackets")
    print(f"{'initialisation':<16}{'non-zero %':>18}{'recovery %':>18}{'with ReLU %':>18}")
    for name, paper in PAPER.items():
        init = "orthonormal" if name == "transparent" else name
        plain, relu = (TransparentStack(CHANNELS, WIDTHS, activation, init=init) for activation in (None, "relu"))
        figures = (nonzero_share(plain), recovery(plain, side), recovery(relu, side))
        print(f"{name:<16}" + "".join(f"{f'{100 * f:.2f} [{p}]':>18}" for f, p in zip(figures, paper, strict=True)))


def error_table(side: int, seeds: int) -> None:
    print(f"\nLargest |out - in| by input scale: median over {seeds} seeds (largest of them)")
    print(f"{'':<22}" + "".join(f"{f'[-{scale}, {scale}]':>22}" for scale in SCALES))
    print(f"{'paper':<22}" + "".join(f"{error:>22}" for error in PAPER_ERRORS))
    print(f"{'limit':<22}" + "".join(f"{limit:>22.1e}" for limit in LIMITS))
    for init in ("orthonormal", "gaussian"):
        for activation in (None, "relu"):
            line = f"{init + (' + ReLU' if activation else ''):<22}"
            for scale in SCALES:
                errors = [
                    largest_error(
                        TransparentStack(CHANNELS, WIDTHS, activation, init=init, seed=seed), side, scale, seed
                    )
                    for seed in range(seeds)
                ]
                line += f"{f'{median(errors):.1e} ({max(errors):.1e})':>22}"
            print(line, flush=True)


def nonzero_share(stack: TransparentStack) -> float:
    values = torch.cat([parameter.flatten() for parameter in stack.parameters()])
    return float((values.abs() > EPS).double().mean())


def recovery(stack: TransparentStack, side: int) -> float:
    shares = [float(((stack(x) - x).abs() < EPS).double().mean()) for x in inputs(side, 10.0, seed=0)]
    return sum(shares) / len(shares)


def largest_error(stack: TransparentStack, side: int, scale: float, seed: int) -> float:
    return max(float((stack(x) - x).abs().max()) for x in inputs(side, scale, seed))


def inputs(side: int, scale: float, seed: int) -> list[Tensor]:
    """The batch, one element at a time so that the hidden maps stay small."""
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(1, CHANNELS, side, side, generator=generator) * 2 - 1) * scale for _ in range(BATCH)]


if __name__ == "__main__":
    main()
