"""The steps of gpu.py that run the product on a device, through its command line: prune, bench, train, and memory.

The network is the 3D-UNet of the published BraTS setting; on an H200 a slim one of 5 % of the FLOPs took 1.8 times less
time than the full one in the default layout, and 4.9 times less with aligned widths, bf16 and channels last.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpu
import torch
from gpu import Failed, Kept, NotRun
from torch import nn

if TYPE_CHECKING:
    from ranp.options import Amp  # needs pydantic

PROGRAM = (
    "import sys; sys.path[:0] = [{root!r}, {benchmarks!r}]; import gpu; gpu.reachable(); "
    "from ranp.commands.start import run; sys.exit(run())"
)
NEEDED = ("pydantic", "typer", "rich", "yaml", "safetensors", "monai", "numpy")


def ranp(verb: str, *words: object) -> Any:
    """Run the program and return what it prints with --json."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise NotRun(f"not installed: {', '.join(missing)}")
    program = PROGRAM.format(root=str(gpu.ROOT), benchmarks=str(gpu.ROOT / "benchmarks"))
    command = [sys.executable, "-c", program, verb, *map(str, words), "--json", "--quiet"]
    environment = {**os.environ, "RANP_NATIVE": "auto"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise Failed(f"ranp {verb} ended with {done.returncode}: {lines[-1] if lines else 'without a word'}")
    return json.loads(done.stdout)


def short(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report without its long lists."""
    return {key: value for key, value in report.items() if len(json.dumps(value)) < 2000}


def slim() -> Path:
    """Return the run that `prune` leaves."""
    folder = gpu.work() / "slim"
    if not folder.is_dir():
        raise NotRun("the step `prune` has left no run")
    return folder


def patch(small: bool) -> int:
    return 16 if small else 128


def prune(device: torch.device, small: bool, kept: Kept) -> None:
    """Prune to 5 % of the FLOPs, widths in multiples of 8."""
    shutil.rmtree(gpu.work() / "slim", ignore_errors=True)
    gpu.work().mkdir(parents=True, exist_ok=True)
    goal = ("--sparsity", 0.5) if small else ("--flops", "5%", "--align", 8)
    network = ("--set", "base_width=4", "--in-channels", 4, "--classes", 5) if small else ("--preset", "brats-15")
    report = ranp(
        "prune", "unet3d", *network, "--patch", patch(small), "--batches", 1 if small else 4, *goal,
        "--device", device, "--out", gpu.work() / "slim",
    )  # fmt: skip
    kept.keep(report=short(report))


def bench(device: torch.device, small: bool, kept: Kept) -> None:
    """Time both networks in every setting, batch 2."""
    runs = ("--runs", 1, "--batch", 1) if small else ("--runs", 10, "--seconds", 1.5, "--batch", 2)
    found = ranp("bench", slim(), "--input", patch(small), *runs, "--device", device)
    rows = [
        {
            "network": row["network"],
            "what": row["what"],
            "layout": "channels last" if row["channels_last"] else "default",
            "type": "float32" if row["amp"] == "off" else row["amp"],
            "ms": row.get("median_ms"),
        }
        for row in found["rows"]
    ]
    first = {row["what"]: row["ms"] for row in reversed(rows) if row["network"] == "full"}  # the default setting
    for row in rows:
        row["x full, default"] = first[row["what"]] / row["ms"] if row["ms"] and first.get(row["what"]) else None
    kept.keep(rows=rows)


def train(device: torch.device, small: bool, kept: Kept) -> None:
    """Train the slim network for some steps as one would: bf16, channels last, compiled."""
    compiled = () if small else ("--compile",)
    steps = 2 if small else 30
    found = ranp(
        "train", slim(), "--steps", steps, "--amp", "bf16", "--channels-last", *compiled, "--patch", patch(small),
        "--batch-size", 1 if small else 2, "--val-every", steps, "--device", device, "--out", gpu.work() / "trained",
        "--force",
    )  # fmt: skip
    kept.keep(report=short(found))


def networks() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Amp]]:
    """Return what is measured: a factory, the input, autocast."""
    from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet

    from ranp import models

    def unet(width: int, norm: str, dropout: float = 0.0) -> nn.Module:
        widths = [width * 2**level for level in range(5)]
        made: nn.Module = UNet(3, 1, 4, widths, (2,) * 4, num_res_units=2, norm=norm, dropout=dropout)
        return made

    def dynunet() -> nn.Module:
        made: nn.Module = DynUNet(
            3, 1, 4, [3] * 6, [1, *[2] * 5], [2] * 5, filters=[32, 64, 128, 256, 320, 320], res_block=False
        )
        return made

    cube, large = (2, 1, 96, 96, 96), (2, 1, 128, 128, 128)
    return {
        "unet16, instance norm": (lambda: unet(16, "instance"), cube, "off"),
        "unet16, instance norm, bf16": (lambda: unet(16, "instance"), cube, "bf16"),
        "unet16, batch norm": (lambda: unet(16, "batch"), cube, "off"),
        "unet16, batch norm, dropout": (lambda: unet(16, "batch", 0.2), cube, "off"),
        "unet16, 128^3": (lambda: unet(16, "instance"), large, "off"),
        "unet32, 128^3": (lambda: unet(32, "instance"), large, "off"),
        "basicunet": (lambda: BasicUNet(3, 1, 4), cube, "off"),
        "segresnet16": (lambda: SegResNet(3, 16, 1, 4), cube, "off"),
        "mobilenetv2 3D": (lambda: models.build("mobilenetv2-3d", preset="ucf101"), (8, 3, 16, 112, 112), "off"),
        "dynunet320, bf16": (dynunet, large, "bf16"),
    }


def memory(device: torch.device, small: bool, kept: Kept) -> None:
    """Predict the memory of a training step, and take two."""
    from ranp.cost import Step, measure_training_memory, peak_training_memory

    rows: list[dict[str, Any]] = []
    for name, (factory, shape, amp) in networks().items():
        if small and not name.startswith("unet16, instance"):
            continue
        torch.manual_seed(0)
        model, given = factory(), torch.rand((1, *shape[1:2], 32, 32, 32) if small else shape)
        step = Step(amp=amp)
        predicted = peak_training_memory(model, given, step).peak / 2**20
        allocated = measure_training_memory(model, given, step, device).bytes / 2**20
        row = {"network": name, "input": "x".join(map(str, given.shape)), "predicted MiB": round(predicted)}
        row |= {"allocated MiB": round(allocated), "ratio": allocated / predicted}
        rows.append(row)
        kept.keep(rows=rows)
        del model, given
        gc.collect()
