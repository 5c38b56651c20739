"""The steps of gpu.py that measure the kernels: beside what bounds them, the authors' kernels, and PyTorch.

Milliseconds are medians: by CUDA events on a card, of calls in a row that wait for nobody ("ms": what a network would
see, Python and allocator included) and of a CUDA graph replayed ("graph ms": without them, but with the tables of
chains, which calls outside of a graph find from before). The lesser of the two is held to the aims. The columns:

floor      the larger of pair arithmetic, memory and chain latency of one iteration on an H200, by estimate
authors'   the published CUDA kernels on an H200 (one iteration, 256 x 512, buffers preallocated)
eager      the same messages in plain PyTorch, one row or column after the other; compile: the step under torch.compile
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import gpu
import torch
from gpu import Failed, Kept, NotRun
from gpu_checks import DIRECTIONS
from torch import Tensor

from ranp.kernels.passing import run
from ranp.kernels.reference import Spec

# (method, directions, labels): floor of the forward and of the backward's memory, authors' forward and backward, in ms.
PUBLISHED = {
    ("isgmr", 4, 32): (0.09, 0.121, 6.45, 7.09),
    ("isgmr", 8, 32): (0.16, 0.234, 11.17, 14.19),
    ("isgmr", 16, 32): (0.32, 0.460, 18.80, 29.77),
    ("trwp", 4, 32): (0.10, 0.098, 6.71, 10.13),
    ("trwp", 8, 32): (0.17, 0.156, 11.39, 19.62),
    ("trwp", 16, 32): (0.31, 0.390, 18.96, 34.22),
    ("isgmr", 4, 96): (0.29, 0.363, 19.74, 24.05),
    ("isgmr", 8, 96): (0.58, 0.702, 34.62, 49.03),
    ("isgmr", 16, 96): (1.15, 1.381, 59.62, 102.84),
    ("trwp", 4, 96): (0.29, 0.293, 20.37, 35.37),
    ("trwp", 8, 96): (0.58, 0.585, 35.13, 70.45),
    ("trwp", 16, 96): (1.15, 1.171, 60.01, 119.67),
}
KERNELS = (
    "walk_forward",
    "walk_backward",
    "lower",
    "add",
    "gather",
    "scatter",
    "correlate",
)  # of cuda.cu, reassembly.cu


SECTIONS = (
    "GPU Speed Of Light Throughput",
    "Compute Workload Analysis",
    "Memory Workload Analysis",
    "Scheduler Statistics",
    "Warp State Statistics",
    "Instruction Statistics",
    "Launch Statistics",
)  # of ncu's text that are kept: rooflines, charts and counters of the source make ten times as much

Figure = TypeVar("Figure")


def median_ms(function: Callable[[], object], device: torch.device, runs: int) -> float:
    """Return the median of single calls, after three that are not measured."""
    for _ in range(3):
        function()
    if device.type != "cuda":
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            function()
            times.append(1e3 * (time.perf_counter() - began))
        return statistics.median(times)
    torch.cuda.synchronize(device)
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(runs)]
    for begin, end in pairs:
        begin.record()
        function()
        end.record()
    torch.cuda.synchronize(device)
    return float(statistics.median(begin.elapsed_time(end) for begin, end in pairs))


def graph_ms(function: Callable[[], object], device: torch.device, runs: int) -> float | None:
    """Return the same of a captured graph: no time of Python or of launches."""
    if device.type != "cuda":
        return None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return median_ms(graph.replay, device, runs)


def mrf_speed(device: torch.device, small: bool, kept: Kept) -> None:
    """Time one iteration of every published setting, forward and backward, any V and truncated linear."""
    shape, runs = ((6, 9), 2) if small else ((256, 512), 30)
    rows: list[dict[str, Any]] = []
    settings = [("trwp", 4, 3), ("isgmr", 8, 3)] if small else sorted(PUBLISHED, key=lambda key: (key[1], key[2]))
    for method, directions, labels in settings:
        rows.append(timed_passing(method, directions, labels, shape, device, runs))
        kept.keep(rows=rows)
    for row in rows:  # afterwards, because compiling takes long
        if row["method"] in ("trwp-4", "isgmr-4"):
            try:
                row.update(peers(row["method"], row["L"], shape, device, runs, None if small else kept))
            except ModuleNotFoundError as error:
                kept.keep(peers=f"not run: {error}")
            kept.keep(rows=rows)
    if device.type == "cuda":
        late = [f"{row['method']} at L = {row['L']}" for row in rows if not row.get("aims met", True)]
        kept.keep(aims=f"missed by {', '.join(late)}" if late else "met")


def timed_passing(
    method: str, directions: int, labels: int, shape: tuple[int, int], device: torch.device, runs: int
) -> dict[str, Any]:
    """Return the row of a setting."""
    random, nodes = torch.Generator().manual_seed(0), shape[0] * shape[1]
    unary = (torch.rand((1, nodes, labels), generator=random) * 20).to(device)
    weights = torch.full((1, 1, 1), 3.0, device=device).expand(1, directions, 1)
    index = torch.arange(labels, device=device)
    window = min(8, labels - 1)
    matrix = (index[:, None] - index).abs().clamp(max=window).float()
    spec = Spec(method, shape, DIRECTIONS[:directions], 1, record=False)

    def forward(spec: Spec) -> Callable[[], object]:
        return lambda: run(unary, weights, matrix, spec)

    row: dict[str, Any] = {"method": f"{method}-{directions}", "L": labels}
    row["forward ms"] = median_ms(forward(spec), device, runs)
    row["graph ms"] = graph_ms(forward(spec), device, runs)
    row["window ms"] = median_ms(forward(replace(spec, window=window)), device, runs)
    row["recording ms"] = median_ms(forward(replace(spec, record=True)), device, runs)
    cost = run(unary.requires_grad_(), weights, matrix, replace(spec, record=True)).cost
    grad = torch.rand_like(cost)
    row["backward ms"] = median_ms(lambda: torch.autograd.grad(cost, unary, grad, retain_graph=True), device, runs)
    floor, floor_back, authors, authors_back = PUBLISHED.get((method, directions, labels), (None,) * 4)
    row |= {
        "floor": floor,
        "authors' forward": authors,
        "floor backward": floor_back,
        "authors' backward": authors_back,
    }
    if floor is not None and authors is not None and authors_back is not None:
        best = min(row["graph ms"] or row["forward ms"], row["forward ms"])
        row["x floor"] = best / floor
        row["x authors'"] = authors / best
        row["aims met"] = best <= 3 * floor and best <= authors / 20 and row["backward ms"] <= authors_back / 20
    return row


def peers(
    method: str, labels: int, shape: tuple[int, int], device: torch.device, runs: int, compiled: Kept | None
) -> dict[str, float | None]:
    """Return milliseconds of plain PyTorch on the same messages: eager, and compiled where `compiled` takes errors."""
    from mrf_speed import PEERS, to_next

    unary = (torch.rand((*shape, labels), generator=torch.Generator().manual_seed(0)) * 20).to(device)
    index = torch.arange(labels, device=device)
    matrix = (index[:, None] - index).abs().clamp(max=8).float() * 3
    found: dict[str, float | None] = {
        "eager ms": median_ms(lambda: PEERS[method](unary, matrix, to_next), device, min(runs, 5))
    }
    if compiled is not None:
        step = torch.compile(to_next, dynamic=False)
        found["compile ms"] = tried(lambda: median_ms(lambda: PEERS[method](unary, matrix, step), device, 5), compiled)
    return found


def tried(compiled: Callable[[], Figure], kept: Kept) -> Figure | None:
    """Return the figures of a compiled peer, or None where it can't be compiled here, and keep why."""
    try:
        return compiled()
    except Exception as error:  # no Triton, no C compiler, a new bug: they share no base
        kept.keep(compile=f"not run: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        return None


def upsampling_speed(device: torch.device, small: bool, kept: Kept) -> None:
    """Time the sums of CARAFE and FADE with both gradients, and their memory, beside forms that unfold."""
    import upsampling_speed as forms

    rows: list[dict[str, Any]] = []
    for name in [forms.SMALL] if small else list(forms.SIZES):
        row: dict[str, Any] = {"features": name}
        for form in ("native", "channels", "unfold", "product", *(() if small else ("compile",))):
            x, kernels, size, grad = forms.inputs_of(name, form)
            given = [tensor.to(device).requires_grad_() for tensor in (x, kernels)]
            made: Any = torch.compile(forms.FORMS[form]) if form == "compile" else forms.FORMS[form]
            there = grad.to(device)
            step = stepped(partial(made, given[0], given[1], size), given, there)
            timed = partial(measured, step, device, 3 if small else 20)
            figures = tried(timed, kept) if form == "compile" else timed()
            row[f"{form} ms"], row[f"{form} MiB"] = figures or (None, None)
        rows.append(row)
        kept.keep(rows=rows)


def pooling_speed(device: torch.device, small: bool, kept: Kept) -> None:
    """Time the poolings with their gradients, and their memory, beside forms that copy every window."""
    import pooling_memory

    rows: list[dict[str, Any]] = []
    shapes = [(1, 2, 8, 8)] if small else [(4, 64, 112, 112), (1, 32, 48, 48, 48)]
    for shape in shapes:
        for sizes in ((2, 2, 0), (3, 2, 1)):
            with device:
                made = pooling_memory.forms(len(shape) - 2, shape[1], sizes)
            x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
            row: dict[str, Any] = {"features": " x ".join(map(str, shape)), "kernel": sizes[0]}
            for name, form in made.items():
                if name == "p-torch":
                    continue  # the same as p on a card
                step = stepped(partial(form, x), [x], None)
                row[f"{name} ms"], row[f"{name} MiB"] = measured(step, device, 2 if small else 10)
            rows.append(row)
            kept.keep(rows=rows)


def stepped(forward: Callable[[], Tensor], given: list[Tensor], grad: Tensor | None) -> Callable[[], object]:
    """Return a forward with the gradients of what was given."""

    def step() -> object:
        out = forward()
        return torch.autograd.grad(out, given, torch.ones_like(out) if grad is None else grad)

    return step


def measured(step: Callable[[], object], device: torch.device, runs: int) -> tuple[float, float | None]:
    """Return milliseconds of a step, and the MiB it adds at its peak."""
    ms = median_ms(step, device, runs)
    if device.type != "cuda":
        return ms, None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return ms, (torch.cuda.max_memory_allocated(device) - before) / 2**20


def slow(device: torch.device, small: bool, kept: Kept) -> None:
    """Launch every kernel once at the sizes that are measured, for a profiler to look at."""
    from upsampling_speed import SIZES, SMALL, inputs_of

    from ranp.kernels.reassembly import reassemble

    shape, labels = ((6, 9), 3) if small else ((256, 512), 96)
    nodes = shape[0] * shape[1]
    unary = torch.rand((1, nodes, labels), generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    weights = torch.ones((1, 4, 1), device=device)
    index = torch.arange(labels, device=device)
    matrix = (index[:, None] - index).abs().float()
    run(unary, weights, matrix, Spec("trwp", shape, DIRECTIONS[:4], 1)).cost.sum().backward()
    x, kernels, size, grad = inputs_of(SMALL if small else next(iter(SIZES)), "channels")
    given = [tensor.to(device).requires_grad_() for tensor in (x, kernels)]
    torch.autograd.grad(reassemble(given[0], given[1], list(size)), given, grad.to(device))
    kept.keep(launched="trwp-4, reassembly")


def slowest(device: torch.device, small: bool, kept: Kept) -> list[tuple[str, float]]:
    """Return our kernels and their microseconds in all, the slowest first."""
    from torch.profiler import ProfilerActivity, profile

    slow(device, small, kept)
    with profile(activities=[ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]) as watched:
        slow(device, small, kept)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    totals: dict[str, float] = {}
    for event in watched.events() or ():
        name = next((known for known in KERNELS if f"warp::{known}<" in event.name), None)
        if name:
            totals[name] = totals.get(name, 0.0) + float(event.device_time_total)
    return sorted(totals.items(), key=lambda item: -item[1])


def profile(device: torch.device, small: bool, kept: Kept) -> None:
    """Let ncu describe the two slowest kernels."""
    found = slowest(device, small, kept)
    kept.keep(microseconds=dict(found))
    if device.type != "cuda":
        raise NotRun("ncu looks at a card")
    program = gpu.tool("ncu")
    if program is None:
        raise NotRun("no ncu, which comes with the CUDA toolkit")
    if not found:
        raise Failed("the profiler saw none of the kernels")
    texts = {}
    for name, _ in found[:2]:
        command = [
            program,
            "--set",
            "full",
            "--print-details",
            "all",
            "--kernel-name",
            f"regex:{name}",
            "--launch-count",
            "1",
        ]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "record.json"
            child = [sys.executable, gpu.__file__, "--step", "slow", "--device", str(device), "--write", str(file)]
            done = subprocess.run([*command, *child], capture_output=True, text=True, check=False)
        text = done.stdout + done.stderr
        if done.returncode or "==PROF==" not in text:
            reason = next((line for line in text.splitlines() if "ERR" in line or "error" in line.lower()), text[-200:])
            raise NotRun(f"ncu: {reason.strip()}")
        texts[f"ncu-{name}"] = read_profile(text)
        kept.keep(texts=texts)


def read_profile(text: str) -> str:
    """Return the kernel's line and the sections that are read of what ncu prints, without trailing spaces."""
    head, *sections = re.split(r"^ *Section: ", text, flags=re.MULTILINE)
    launched = [line.strip() for line in head.splitlines() if "Context" in line]
    wanted = [section.rstrip() for section in sections if section.partition("\n")[0].strip() in SECTIONS]
    return "\n".join(line.rstrip() for part in (*launched, *wanted) for line in part.splitlines()) + "\n"
