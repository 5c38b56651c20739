"""Time one iteration of message passing on a 256 x 512 image, beside PyTorch and the floor of the machine.

    python benchmarks/mrf_speed.py --labels 32 96 --threads 1 2

general    V as a matrix, no indices recorded, label-last costs; labelling included, as everywhere
TL-8, TL-2 truncated linear at 8 and at 2: the window; Potts: the smallest window
record     general, with the indices that the backward needs
backward   general, gradient of the costs alone; "all": of the weights per edge and of V as well
eager      the same messages in plain PyTorch, one front of nodes after the other, no indices
compile    that with torch.compile around the step from one front to the next
floor      N R L^2 pairs at 35 G/s per thread, what one AVX-512 core reached in a min-plus loop alone

Milliseconds of CPU time per thread, the least of several runs, and in brackets those of the clock, which other jobs
disturb more. With two threads that is the CPU time of both, halved: what the clock would show if both had a core to
themselves. Nothing is tested here: a shared machine has no say in right and wrong.
"""

import argparse
import ctypes
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch starts OpenMP: waiting must not count as work

import torch
from torch import Tensor

from ranp.adapters.mrf import Pairwise, potts, steps, truncated_linear
from ranp.kernels import native
from ranp.kernels.passing import run
from ranp.kernels.reference import Spec

HEIGHT, WIDTH = 256, 512
NODES = HEIGHT * WIDTH
COLUMNS = ("general", "TL-8", "TL-2", "Potts", "record", "backward", "all", "eager", "compile")
PAIRS_PER_SECOND = 35e9

Step = Callable[[Tensor, Tensor], Tensor]


def least(function: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the least CPU time per thread and the least wall time, in milliseconds."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - wall)
        cpus.append((time.process_time() - cpu) / torch.get_num_threads())
    return 1e3 * min(cpus), 1e3 * min(walls)


def to_next(h: Tensor, matrix: Tensor) -> Tensor:
    """Return the normalised messages (F, L) that leave the nodes of a front."""
    message = (h[:, :, None] + matrix).amin(1)
    return message - message.amin(1, keepdim=True)


def peer_trwp(unary: Tensor, matrix: Tensor, step: Step) -> Tensor:
    """Run one iteration of TRWP with 4 directions in plain PyTorch: rows and columns as fronts. unary (H, W, L)."""
    total = unary.clone()
    for axis in (1, 0):
        fronts = total.unbind(axis)
        fresh = [torch.zeros_like(fronts[0])]
        for source, target in pairwise(fronts):
            fresh.append(step(0.5 * source, matrix))
            target += fresh[-1]
        for place in range(len(fronts) - 1, 0, -1):
            fronts[place - 1].add_(step(0.5 * fronts[place] - fresh[place], matrix))
    return total.argmin(-1)


def peer_isgmr(unary: Tensor, matrix: Tensor, step: Step) -> Tensor:
    """Run the first iteration of ISGMR with 4 directions in the same way: all directions from the unary costs."""
    total = unary.clone()
    for axis in (1, 0):
        sources, targets = unary.unbind(axis), total.unbind(axis)
        for order in (range(len(sources)), range(len(sources) - 1, -1, -1)):
            fresh = torch.zeros_like(sources[0])
            for here, after in pairwise(order):
                fresh = step(sources[here] + fresh, matrix)
                targets[after].add_(fresh)
    return total.argmin(-1)


PEERS = {"trwp-4": peer_trwp, "isgmr-4": peer_isgmr}


def problem(labels: int, directions: int, per_edge: bool) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    unary = torch.rand((1, NODES, labels), generator=random) * 20
    weights = torch.full((1, directions, NODES), 3.0) if per_edge else torch.full((1, 1, 1), 3.0)
    return unary, weights if per_edge else weights.expand(1, directions, 1)


def times(method: str, directions: int, labels: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Time what the native library does for one method."""
    unary, weights = problem(labels, directions, per_edge=False)
    base = Spec(method, (HEIGHT, WIDTH), steps(directions, 2), 1, record=False)
    found = {}

    def forward(name: str, function: Pairwise, spec: Spec) -> None:
        matrix = function.matrix(labels)
        found[name] = least(lambda: run(unary, weights, matrix, spec), repeats)

    tl8, tl2 = truncated_linear(8), truncated_linear(2)
    forward("general", tl8, base)
    forward("TL-8", tl8, replace(base, window=tl8.window(labels)))
    forward("TL-2", tl2, replace(base, window=tl2.window(labels)))
    forward("Potts", potts(), replace(base, window=1))
    forward("record", tl8, replace(base, record=True))
    found["backward"] = reverse([unary.requires_grad_()], weights, tl8.matrix(labels), base, repeats)
    per_edge, matrix = problem(labels, directions, per_edge=True)[1].requires_grad_(), tl8.matrix(labels)
    found["all"] = reverse([unary, per_edge, matrix.requires_grad_()], per_edge, matrix, base, repeats)
    return found


def reverse(inputs: list[Tensor], weights: Tensor, matrix: Tensor, spec: Spec, repeats: int) -> tuple[float, float]:
    cost = run(inputs[0], weights, matrix, replace(spec, record=True)).cost
    grad = torch.rand_like(cost)
    return least(lambda: torch.autograd.grad(cost, inputs, grad, retain_graph=True), repeats)


def peers(method: str, labels: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Time plain PyTorch, eager and compiled, on the same messages."""
    run_peer = PEERS[method]
    unary = problem(labels, 4, per_edge=False)[0].view(HEIGHT, WIDTH, labels)
    matrix = truncated_linear(8).matrix(labels) * 3
    compiled: Step = torch.compile(to_next, dynamic=False)
    run_peer(unary, matrix, compiled)
    return {
        "eager": least(lambda: run_peer(unary, matrix, to_next), repeats),
        "compile": least(lambda: run_peer(unary, matrix, compiled), repeats),
    }


def machine() -> str:
    chosen = native.function("cpu", "ranp_isa", [], ctypes.c_char_p)
    with open("/proc/cpuinfo") as info:
        model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "")
    code = chosen().decode() if chosen else "no native code"
    return f"{model or platform.processor()}, {code}, torch {torch.__version__}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[32, 96])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--methods", nargs="+", default=["trwp-4", "isgmr-4", "isgmr-8", "sgm-4"])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-peers", action="store_true", help="leave PyTorch out; it takes minutes")
    options = parser.parse_args()
    print(machine())
    print(line(["method", "L", "threads", "floor", *COLUMNS]))
    print(line(["---"] * (4 + len(COLUMNS))))
    for labels in options.labels:
        for threads in options.threads:
            torch.set_num_threads(threads)
            for method in options.methods:
                name, directions = method.split("-")
                floor = 1e3 * NODES * int(directions) * labels**2 / PAIRS_PER_SECOND / threads
                found = times(name, int(directions), labels, options.repeats)
                if method in PEERS and not options.no_peers:
                    found |= peers(method, labels, 2)
                shown = ["{:.0f} ({:.0f})".format(*found[column]) if column in found else "-" for column in COLUMNS]
                print(line([method, str(labels), str(threads), f"{floor:.0f}", *shown]), flush=True)


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
