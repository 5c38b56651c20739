"""The steps of gpu.py that prove: what the kernels compute on a device, beside PyTorch on the CPU.

Every function takes the device, whether sizes are small, and where its result is kept; it raises Failed, or NotRun.
On the CPU the same is asked of the CPU library, so that the steps themselves are tested where there is no card.
"""

import ast
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import gpu
import torch
from gpu import Failed, Kept, NotRun
from torch import Tensor

from ranp.kernels import _native_passing, _native_reassembly, native, reassembly_reference, reference
from ranp.kernels import _reference_backward as reference_backward
from ranp.kernels.compiling import BuildError
from ranp.kernels.passing import _packed, message_passing, message_passing_backward, run
from ranp.kernels.reassembly import reassemble, reassemble_backward
from ranp.kernels.reference import METHODS, Spec

PLACES = (gpu.ROOT.parent / "shared", gpu.ROOT / "shared")  # the latter where only the checkout was copied
FIXTURES = next((at for place in PLACES if (at := place / "fixtures" / "mrf").is_dir()), PLACES[0] / "fixtures" / "mrf")
HALVES = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (2, -1), (1, -2))
DIRECTIONS = tuple(move for a, b in HALVES for move in ((a, b), (-a, -b)))  # 16, opposite ones adjacent
TOOLS = {"memcheck": (), "racecheck": ("--racecheck-report", "all")}


class Passing(NamedTuple):
    """A message passing with integer costs, so that there are ties."""

    unary: Tensor
    weights: Tensor
    pairwise: Tensor
    spec: Spec

    def to(self, device: torch.device) -> "Passing":
        """Return it on a device; strides stay."""
        return Passing(self.unary.to(device), self.weights.to(device), self.pairwise.to(device), self.spec)


def passing(labels: int, spec: Spec, dtype: torch.dtype, layout: str = "label last") -> Passing:
    """Return a random problem of two batch entries; weights per edge, or one per direction."""
    random, nodes = torch.Generator().manual_seed(labels), prod(spec.shape)
    unary = (torch.rand((2, nodes, labels), generator=random, dtype=dtype) * 9).round()
    if layout == "label first":
        unary = unary.transpose(1, 2).contiguous().transpose(1, 2)
    sizes = (1, len(spec.steps), 1) if layout == "label first" else (2, len(spec.steps), nodes)
    weights = (torch.rand(sizes, generator=random, dtype=dtype) * 3).round()
    index = torch.arange(labels)
    pairwise = (index[:, None] - index).abs().clamp(max=spec.window or labels).to(dtype)
    return Passing(unary, weights, pairwise, spec)


def cases(small: bool) -> Iterator[Passing]:
    """Yield message passings over methods, types, layouts, ties and windows, and numbers of labels up to the limit."""
    some = DIRECTIONS[:4] + DIRECTIONS[14:]
    specs = [
        (3, Spec("", (3, 4), some, 2), "label last"),
        (45, Spec("", (3, 4), some[:4], 2, window=2, last=True, rho=0.25), "label first"),
        (33, Spec("", (3, 2), some[:2], 3, window=5, normalise=False), "label last"),
    ]
    if not small:
        specs += [(labels, Spec("", (2, 3), some, 2), "label last") for labels in (1, 32, 64, 130, 256, 257, 1024)]
        specs += [(labels, Spec("", (2, 2), some[:4], 1, window=labels - 1), "label last") for labels in (256, 1024)]
        specs += [(21, Spec("", (4, 3, 5), ((0, 1, -1), (0, -1, 1), (1, 0, 0), (-1, 0, 0)), 3), "label first")]
        specs += [(32, Spec("", (40, 70), DIRECTIONS, 3, last=True), "label first")]  # chains of every length
    for labels, spec, layout in specs:
        for method in METHODS:
            for dtype in (torch.float32,) if small and labels == 3 else (torch.float32, torch.float64):
                yield passing(labels, replace(spec, method=method), dtype, layout)


def grids(small: bool) -> Iterator[tuple[Tensor, Tensor, list[int], Tensor]]:
    """Yield features, kernels, kernel size and gradient of reassemblies, in both memory layouts and types."""
    sizes: list[tuple[int, tuple[int, ...], tuple[int, ...], list[int]]] = [(33, (3, 2), (6, 4), [5, 3])]
    if not small:
        sizes += [(1, (3,), (7,), [3]), (70, (2, 3), (5, 5), [3, 3]), (131, (9, 8), (4, 16), [1, 3])]
        sizes += [(40, (2, 1, 2), (4, 3, 4), [3, 3, 3]), (256, (32, 32), (64, 64), [5, 5])]
    for channels, coarse, fine, size in sizes:
        for dtype in (torch.float32, torch.float64):
            for last in (False, True):
                random = torch.Generator().manual_seed(channels)
                drawn = [
                    torch.randn((2, count, *lengths), generator=random, dtype=dtype)
                    for count, lengths in ((channels, coarse), (prod(size), fine), (channels, fine))
                ]
                if last:
                    drawn = [tensor.movedim(1, -1).contiguous().movedim(-1, 1) for tensor in drawn]
                yield drawn[0], drawn[1], size, drawn[2]


def passed(problem: Passing, device: torch.device) -> tuple[reference.Result, tuple[Tensor, ...]]:
    """Return what the operators give on a device, forward and backward, on the CPU."""
    unary, weights, pairwise, spec = problem.to(device)
    found = run(unary, weights, pairwise, spec, keep=True)
    grad = gradient(problem).to(device)
    gradients = message_passing_backward(grad, found.p, found.q, weights, pairwise, *_packed(spec), True, True)
    return reference.Result(*(tensor.cpu() for tensor in found)), tuple(tensor.cpu() for tensor in gradients)


def gradient(problem: Passing) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.rand(problem.unary.shape, generator=random, dtype=problem.unary.dtype)


def same(what: str, mine: Tensor, expected: Tensor) -> None:
    """Demand the same bits."""
    if not torch.equal(mine, expected):
        wrong = (mine != expected).sum().item()
        largest = (mine.double() - expected.double()).abs().max().item()
        raise Failed(f"{what}: {wrong} of {mine.numel()} entries differ, by {largest:.3g} at most")


def close(what: str, mine: Tensor, expected: Tensor, bound: float) -> float:
    """Demand a difference within `bound` of the largest value, and return it as a share of that value."""
    scale = max(expected.abs().max().item(), 1e-30) if expected.numel() else 1.0
    share = (mine.double() - expected.double()).abs().max().item() / scale if expected.numel() else 0.0
    if mine.shape != expected.shape or not share <= bound:
        raise Failed(f"{what}: differs by {share:.3g} of the largest value, {bound:.3g} is allowed")
    return share


def said(problem: Passing) -> str:
    spec, labels = problem.spec, problem.unary.shape[-1]
    return f"{spec.method}, {labels} labels on {spec.shape}, window {spec.window}, {problem.unary.dtype}"


def build(device: torch.device, small: bool, kept: Kept) -> None:
    """Compile the library for this card and load it."""
    began = time.monotonic()
    try:
        file = native.build(device.type)
    except BuildError as error:
        raise NotRun(str(error)) from error
    library = native.load(file)
    kept.keep(file=file.name, compile_seconds=round(time.monotonic() - began, 1))
    link = gpu.work() / "library"  # leads nowhere once the cache has lost it
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(file.resolve())
    mirrors = {"ranp_pass_size": _native_passing.RanpPass, "ranp_reassembly_size": _native_reassembly.RanpReassembly}
    for name, mirror in mirrors.items():
        size = getattr(library, name)()
        if size != ctypes.sizeof(mirror):
            raise Failed(f"{name}: {size} bytes, Python's structure has {ctypes.sizeof(mirror)}")
    kept.keep(structures="as Python has them")


def agreement(device: torch.device, small: bool, kept: Kept) -> None:
    """Compare forwards bit by bit and backwards up to the order of their sums."""
    reordered = import_module("rounding").reordered  # of tests/

    worst = 0.0
    for count, problem in enumerate(cases(small), 1):
        unary, weights, pairwise, spec = problem
        mine, gradients = passed(problem, device)
        theirs = reference.forward(unary, weights, pairwise, spec)
        for name, ours, expected in zip(theirs._fields, mine, theirs, strict=True):
            same(f"{name} of {said(problem)}", ours, expected)
        expected_gradients = reference_backward.backward(gradient(problem), theirs.p, theirs.q, weights, pairwise, spec)
        bound = reordered(unary.dtype, unary.shape[-1])
        for name, ours, expected in zip(("unary", "weights", "V"), gradients, expected_gradients, strict=True):
            worst = max(worst, close(f"gradient of {name} of {said(problem)}", ours, expected, bound) / bound)
        kept.keep(message_passings=count, worst_share_of_the_bound=worst)
    reassemblies(device, small, kept)


def reassemblies(device: torch.device, small: bool, kept: Kept) -> None:
    for count, (x, kernels, size, grad) in enumerate(grids(small), 1):
        what = f"{tuple(x.shape)} to {tuple(grad.shape[2:])}, {x.dtype}"
        out = reassemble(x.to(device), kernels.to(device), size)
        if _native_reassembly.channels_last(out) != _native_reassembly.channels_last(x):
            raise Failed(f"{what}: the layout of the result is not that of the features")
        same(f"reassembly of {what}", out.cpu(), reassembly_reference.forward(x, kernels, size))
        found = reassemble_backward(grad.to(device), x.to(device), kernels.to(device), size, True, True)
        bound = 1e-4 if x.dtype == torch.float32 else 1e-12
        of_x = reassembly_reference.gradient_of_x(grad, kernels, size, x.shape[2:])
        close(f"gradient of x of {what}", found[0].cpu(), of_x, bound)
        of_kernels = reassembly_reference.gradient_of_kernels(grad, x, size)
        close(f"gradient of the kernels of {what}", found[1].cpu(), of_kernels, bound)
        kept.keep(reassemblies=count)


def emulated(device: torch.device, small: bool, kept: Kept) -> None:
    """Compile the CUDA sources for lanes that are threads, and ask of them what is asked of a card."""
    emulating = import_module("emulating")  # of tests/

    with tempfile.TemporaryDirectory() as folder:
        try:
            began = time.monotonic()
            for name in ("cuda", "reassembly"):
                (Path(folder) / name).mkdir()
            walkers, sums = (emulating.compiled(f"{name}.cu", Path(folder) / name) for name in ("cuda", "reassembly"))
        except FileNotFoundError as error:
            raise NotRun(f"{error}, which the emulated checks need") from error
        kept.keep(compile_seconds=round(time.monotonic() - began, 1))
        cpu = torch.device("cpu")
        narrow = [problem for problem in cases(small=True) if problem.unary.dtype == torch.float32]
        for count, problem in enumerate(narrow, 1):
            problem = problem._replace(unary=problem.unary.contiguous())  # as costs go to a GPU
            with emulating.emulated(walkers, shared=count % 2 == 0):
                mine, _ = passed(problem, cpu)
            theirs = reference.forward(*problem)
            for name, ours, expected in zip(theirs._fields, mine, theirs, strict=True):
                same(f"{name} of {said(problem)}", ours, expected)
            kept.keep(message_passings=count)
        with emulating.in_place_of_the_cpu(sums):
            for x, kernels, size, _ in grids(small=True):
                if x.dtype == torch.float32 and not x.is_contiguous():  # a GPU has the channels last
                    same("reassembly", reassemble(x, kernels, size), reassembly_reference.forward(x, kernels, size))
                    kept.keep(reassemblies=1)


def arrays(file: Path) -> dict[str, Tensor]:
    """Return the arrays of an .npz file, without NumPy: plain, in C order."""
    found = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            start = 10 + int.from_bytes(content[8:10], "little")
            header = ast.literal_eval(content[10:start].decode())
            types = {"<f8": torch.float64, "<f4": torch.float32, "|u1": torch.uint8, "<i8": torch.int64}
            if header["descr"] not in types or header["fortran_order"]:
                continue
            data = bytearray(content[start:])
            flat = torch.frombuffer(data, dtype=types[header["descr"]]) if data else torch.empty(0)
            found[name.removesuffix(".npy")] = flat.reshape(header["shape"])
    return found


def fixtures(device: torch.device, small: bool, kept: Kept) -> None:
    """Compare with the oracle's files, which an implementation of its own wrote in float64."""
    if not FIXTURES.is_dir():
        raise NotRun("../shared/fixtures/mrf is not here")
    index = json.loads((FIXTURES / "index.json").read_text())
    moves = tuple(tuple(move) for move in index["convention"]["directions"])
    count = 0
    for name, about in index["fixtures"].items():
        if about["method"] not in METHODS or (small and "_d4_" not in name):
            continue
        data = arrays(FIXTURES / f"{name}.npz")
        for dtype in (torch.float64, torch.float32):
            compare(name, about, data, moves[: about["n_dir"]], dtype, device)
        count += 1
        kept.keep(files=count)


def compare(
    name: str,
    about: dict[str, Any],
    data: dict[str, Tensor],
    moves: tuple[tuple[int, ...], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    height, width, labels = data["unary"].shape
    spec = Spec(
        about["method"], (height, width), moves, about["n_iter"], rho=about.get("rho", 1.0),
        last=about.get("tie") == "last", normalise=about.get("normalised", True),
    )  # fmt: skip
    tensors = data["unary"].reshape(1, -1, labels), data["weights"].reshape(1, len(moves), -1), data["V"]
    given = [tensor.to(device, dtype).requires_grad_("grad_unary" in data) for tensor in tensors]
    found = run(given[0], given[1], given[2], spec, keep=True)
    bound = 1e-12 if dtype == torch.float64 else 1e-4
    close(f"cost of {name}, {dtype}", found.cost.detach().cpu().reshape(data["cost"].shape), data["cost"], bound)
    if dtype == torch.float32:  # ties of the float64 oracle may fall the other way
        return
    same(f"labels of {name}", found.labels.cpu().reshape(height, width), data["labels"].long())
    if "grad_unary" in data:
        grad = data["grad_cost"].reshape(1, -1, labels).to(device, dtype)
        gradients = torch.autograd.grad(found.cost, given, grad)
        for what, mine in zip(("unary", "weights", "V"), gradients, strict=True):
            expected = data[f"grad_{what}"]
            close(f"gradient of {what} of {name}", mine.cpu().reshape(expected.shape), expected, 1e-11)


def operators(device: torch.device, small: bool, kept: Kept) -> None:
    """Run gradcheck in float64, and opcheck in both types."""
    spec = Spec("", (2, 3), DIRECTIONS[:4], 2)
    for method in METHODS[: 1 if small else None]:
        shaped = replace(spec, method=method)
        for dtype in (torch.float32, torch.float64):
            random = torch.Generator().manual_seed(1)
            sizes = ((1, 6, 3), (1, 4, 6), (3, 3))
            given = [torch.rand(size, generator=random, dtype=dtype).to(device).requires_grad_() for size in sizes]
            torch.library.opcheck(message_passing, (*given, *_packed(shaped), False))
            found = run(given[0], given[1], given[2], shaped)
            saved = (torch.ones_like(found.cost), found.p, found.q, given[1].detach(), given[2].detach())
            torch.library.opcheck(message_passing_backward, (*saved, *_packed(shaped), True, True))

        def function(unary: Tensor, weights: Tensor, pairwise: Tensor, shaped: Spec = shaped) -> Tensor:
            return run(unary, weights, pairwise, shaped).cost

        torch.autograd.gradcheck(function, tuple(given))
        kept.keep(**{method: "gradcheck, opcheck"})
    for dtype in (torch.float32, torch.float64):
        random = torch.Generator().manual_seed(2)
        features, kernels = (
            torch.rand(size, generator=random, dtype=dtype).to(device).requires_grad_()
            for size in ((1, 2, 2, 2), (1, 9, 4, 3))
        )
        torch.library.opcheck(reassemble, (features, kernels, [3, 3]))
    torch.autograd.gradcheck(lambda *tensors: reassemble(*tensors, [3, 3]), (features, kernels))
    kept.keep(reassemble="gradcheck, opcheck")


def large(small: bool) -> Iterator[Passing]:
    """Yield problems whose chains fill a card."""
    shape, labels = ((6, 8), 5) if small else ((256, 512), 32)
    for method in METHODS:
        random = torch.Generator().manual_seed(3)
        spec = Spec(method, shape, DIRECTIONS[:8], 2)
        unary, weights = (
            torch.rand(size, generator=random) for size in ((1, prod(shape), labels), (1, 8, prod(shape)))
        )
        yield Passing(unary, weights, torch.rand((labels, labels), generator=random), spec)


def repeats(device: torch.device, small: bool, kept: Kept) -> None:
    """Run everything ten times and compare the bits."""
    for problem in large(small):
        first = passed(problem, device)
        for number in range(9):
            again = passed(problem, device)
            for mine, expected in zip((*again[0], *again[1]), (*first[0], *first[1]), strict=True):
                same(f"run {number + 2} of {said(problem)}", mine, expected)
        kept.keep(**{problem.spec.method: "10 runs, the same bits"})
    *_, (x, kernels, size, grad) = grids(small)
    on = [tensor.to(device) for tensor in (grad, x, kernels)]
    expected = reassemble_backward(*on, size, True, True)
    for number in range(9):
        for mine, other in zip(reassemble_backward(*on, size, True, True), expected, strict=True):
            same(f"run {number + 2} of the reassembly", mine, other)
    kept.keep(reassembly="10 runs, the same bits")


def works(small: bool) -> list[tuple[str, Callable[..., tuple[Tensor, ...]], list[Tensor]]]:
    """Return what is run on streams and in graphs: a name, forward and backward as one function, and its tensors."""
    found: list[tuple[str, Callable[..., tuple[Tensor, ...]], list[Tensor]]] = []
    for problem in large(small):

        def both(
            unary: Tensor, weights: Tensor, pairwise: Tensor, grad: Tensor, spec: Spec = problem.spec
        ) -> tuple[Tensor, ...]:
            made = run(unary, weights, pairwise, spec)
            return made.cost, *message_passing_backward(
                grad, made.p, made.q, weights, pairwise, *_packed(spec), True, True
            )

        found.append((problem.spec.method, both, [*problem[:3], gradient(problem)]))
    *_, (x, kernels, size, grad) = grids(small)

    def sums(x: Tensor, kernels: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        return reassemble(x, kernels, size), *reassemble_backward(grad, x, kernels, size, True, True)

    return [*found, ("reassembly", sums, [x, kernels, grad])]


def streams(device: torch.device, small: bool, kept: Kept) -> None:
    """Run on streams of their own while another is busy, in CUDA graphs, and on a second device."""
    expected = {}
    for name, function, tensors in works(small):
        expected[name] = [out.cpu() for out in function(*(tensor.to(device) for tensor in tensors))]
    if device.type != "cuda":
        raise NotRun("streams, graphs and a second device are a card's")
    for name, function, tensors in works(small):
        pair = [torch.cuda.Stream(device) for _ in range(2)]
        outs = []
        for stream in pair:
            with torch.cuda.stream(stream):
                torch.cuda._sleep(10_000_000)  # inputs that come late: a launch on another stream would read too early
                outs.append(function(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors)))
        torch.cuda.synchronize(device)
        for out in outs:
            for mine, other in zip(out, expected[name], strict=True):
                same(f"{name} on a stream", mine.cpu(), other)
        kept.keep(**{f"{name} on streams": "the same bits"})
        same_in_a_graph(name, function, [tensor.to(device) for tensor in tensors], expected[name])
        kept.keep(**{f"{name} in a graph": "the same bits"})
    if torch.cuda.device_count() < 2:
        kept.keep(second_device="not run: there is one card")
        return
    for name, function, tensors in works(small):
        for mine, other in zip(function(*(tensor.to("cuda:1") for tensor in tensors)), expected[name], strict=True):
            same(f"{name} on the second device", mine.cpu(), other)
    kept.keep(second_device="the same bits")


def same_in_a_graph(
    name: str, function: Callable[..., tuple[Tensor, ...]], tensors: list[Tensor], expected: list[Tensor]
) -> None:
    """Capture with inputs of zero, replay with the right ones, while the allocator gives the rest to others."""
    held = [torch.zeros_like(tensor) for tensor in tensors]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        function(*held)  # loads the kernels
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs = function(*held)
    noise = [torch.randn_like(tensor) for tensor in tensors for _ in range(4)]
    for tensor, value in zip(held, tensors, strict=True):
        tensor.copy_(value)
    graph.replay()
    torch.cuda.synchronize()
    assert noise
    for mine, other in zip(outs, expected, strict=True):
        same(f"{name} in a graph", mine.cpu(), other)


def autocast(device: torch.device, small: bool, kept: Kept) -> None:
    """Run layers under autocast on halves: what their kernels sum in float32 is what float32 gives of the halves."""
    from ranp.adapters.mrf import MRFLayer
    from ranp.adapters.pooling import DPP, GatedPool, LpPool, PPool
    from ranp.adapters.upsampling import CARAFE, FADE

    torch.manual_seed(0)
    side, channels = (6, 3) if small else (64, 32)
    layers: dict[str, torch.nn.Module] = {
        "MRFLayer": MRFLayer("trwp", labels=channels, iterations=2, learn_weights=True),
        "PPool": PPool(2, dims=2, channels=channels),
        "LpPool": LpPool(2, dims=2, channels=channels),
        "DPP": DPP(2, dims=2, channels=channels),
        "GatedPool": GatedPool(2, dims=2),
        "CARAFE": CARAFE(channels, dims=2),
        "FADE": FADE(channels, channels, dims=2),
    }
    for name, layer in layers.items():
        layer.to(device)
        for dtype in (torch.bfloat16, torch.float16):
            x = torch.rand((1, channels, side, side)).to(device, dtype)
            more = [torch.rand((1, channels, 2 * side, 2 * side)).to(device, dtype)] if name == "FADE" else []
            x.requires_grad_()
            with torch.autocast(device.type, dtype):
                out = layer(x, *more)  # FADE: the decoder's features, and the encoder's
            out.float().sum().backward()
            wide = [tensor.detach().float() for tensor in (x, *more)]
            plain = layer(*wide)
            bound = 1e-6 if name == "MRFLayer" else 16 * torch.finfo(dtype).eps  # convolutions run in halves
            close(f"{name} under autocast, {dtype}", out.detach().float().cpu(), plain.detach().cpu(), bound)
            if x.grad is None or not x.grad.isfinite().all():
                raise Failed(f"{name} under autocast, {dtype}: the gradient is not finite")
        kept.keep(**{name: "bf16, fp16"})


def touch(device: torch.device, small: bool, kept: Kept) -> None:
    """Launch every kernel, for compute-sanitizer to watch; nothing is compared."""
    for problem in cases(small=True):
        passed(problem, device)
    for x, kernels, size, grad in grids(small=True):
        on = [tensor.to(device) for tensor in (grad, x, kernels)]
        reassemble(on[1], on[2], size)
        reassemble_backward(*on, size, True, True)
    kept.keep(touched="message passing, reassembly")


def memcheck(device: torch.device, small: bool, kept: Kept) -> None:
    """Watch the memory that kernels touch."""
    sanitized("memcheck", device, kept)


def racecheck(device: torch.device, small: bool, kept: Kept) -> None:
    """Watch the order in which lanes touch shared memory."""
    sanitized("racecheck", device, kept)


def sanitized(kind: str, device: torch.device, kept: Kept) -> None:
    program = gpu.tool("compute-sanitizer")
    if device.type == "cuda" and program is None:
        raise NotRun("no compute-sanitizer, which comes with the CUDA toolkit")
    watch = (
        [program, "--tool", kind, "--error-exitcode", "86", *TOOLS[kind]] if device.type == "cuda" and program else []
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.json"
        command = [
            *watch,
            sys.executable,
            gpu.__file__,
            "--step",
            "touch",
            "--device",
            str(device),
            "--write",
            str(file),
        ]
        environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # an array of its own for each tensor
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        state = json.loads(file.read_text()) if file.exists() else {"state": "failed", "why": "nothing was run"}
    lines = (done.stdout + done.stderr).splitlines()
    told = [line.strip("= ") for line in lines if "SUMMARY" in line or "Error" in line]
    kept.keep(summary=told[-1] if told else "", lines=told[:20])
    if done.returncode or state["state"] != "passed":
        raise Failed(told[0] if told else f"ended with {done.returncode}: {state['why'] or ' '.join(lines[-1:])}")
    if not watch:
        raise NotRun("compute-sanitizer watches a card")
