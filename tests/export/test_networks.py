"""Dynamic exports of networks that are no float32 chain of one named image: each is run at other sizes than its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import ranp
from ranp import runs
from ranp.errors import UnsupportedError
from ranp.export import export_run

pytest.importorskip("onnxruntime")


class Chain(nn.Module):
    """A convolution, something in between, a convolution."""

    def __init__(self, dims: int = 2, width: int = 8) -> None:
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.first, self.other, self.last = conv(1, 8, 3, padding=1), conv(1, 8, 3, padding=1), conv(width, 2, 1)
        self.mix = nn.Linear(8, 8)

    def forward(self, image: Tensor) -> Tensor:
        return self.last(self.between(functional.relu(self.first(image))))

    def between(self, x: Tensor) -> Tensor:
        return x


class Stars(Chain):
    def forward(self, *images: Tensor) -> Tensor:
        return self.last(functional.relu(self.first(images[0]) + self.other(images[-1])))


class NameAndStars(Chain):
    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        return self.last(functional.relu(self.first(image) + self.other(others[0])))


class Keywords(Chain):
    def forward(self, **images: Tensor) -> Tensor:
        return self.last(self.first(images["image"]))


class Haar(Chain):
    """The four bands of each channel, by one kernel that is repeated as often as there are channels."""

    def __init__(self, back: bool = False) -> None:
        super().__init__(width=8 if back else 32)
        signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
        self.register_buffer("bands", signs.view(4, 1, 2, 2))
        self.back = back

    def between(self, x: Tensor) -> Tensor:
        kernel = self.bands.repeat(x.shape[1], 1, 1, 1)  # (4 C, 1, 2, 2)
        y = functional.conv2d(x, kernel, stride=2, groups=x.shape[1])
        return functional.conv_transpose2d(y, kernel, stride=2, groups=x.shape[1]) if self.back else y


class Permuted(Chain):
    """Channels last for a linear layer, then a pool, whose layout depends on strides and those on sizes of 1."""

    def between(self, x: Tensor) -> Tensor:
        x = self.mix(x.movedim(1, -1)).movedim(-1, 1)
        return (functional.adaptive_avg_pool2d if x.ndim == 4 else functional.adaptive_avg_pool3d)(x, 1)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "half": (lambda: Chain().half(), (torch.zeros(1, 1, 8, 8, dtype=torch.half),)),
    "double": (lambda: Chain().double(), (torch.zeros(1, 1, 8, 8, dtype=torch.double),)),
    "bfloat16": (lambda: Haar().bfloat16(), (torch.zeros(1, 1, 8, 8, dtype=torch.bfloat16),)),
    "one of *args": (Stars, (torch.zeros(1, 1, 8, 8),)),
    "two of *args": (Stars, (torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))),
    "a name and *args": (NameAndStars, (torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))),
    "Haar": (Haar, (torch.zeros(1, 1, 8, 8),)),
    "Haar and back": (lambda: Haar(back=True), (torch.zeros(1, 1, 8, 8),)),
    "pool of a permuted map": (Permuted, (torch.zeros(1, 1, 8, 8),)),
    "pool of a permuted volume": (lambda: Permuted(3), (torch.zeros(1, 1, 8, 8, 8),)),
    "channels last": (
        lambda: Chain().to(memory_format=torch.channels_last),
        (torch.zeros(1, 1, 8, 8).contiguous(memory_format=torch.channels_last),),
    ),
}


def saved(make: Callable[[], nn.Module], example: Any, path: Path) -> runs.Run:
    found = ranp.prune(make(), example, rule="random", sparsity=0.4, allow_less=True)
    return runs.read(ranp.save(path, found.slim, found.plan, found.report))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_dynamic_file_computes_what_the_network_does(name: str, tmp_path: Path) -> None:
    make, example = NETWORKS[name]
    run = saved(make, example, tmp_path / "run")
    found = export_run(
        run, onnx=tmp_path / "net.onnx", torch_export=tmp_path / "net.pt2", dynamic=True, model=make()
    )  # each is compared at other sizes and batches before it is kept
    step = "2n" if name == "Haar and back" else "n"
    for entry in found.values():
        assert entry["passed"]
        assert {rule for axis, rule in entry["sizes"].items() if axis != "batch"} == {step}
        assert len({tuple(case["shapes"][0]) for case in entry["parity"]}) >= 3
        assert {case["shapes"][0][0] for case in entry["parity"]} == {1, 2}


def test_what_exporters_cannot_leave_free_is_said(tmp_path: Path) -> None:
    run = saved(Keywords, {"image": torch.zeros(1, 1, 8, 8)}, tmp_path / "run")
    with pytest.raises(UnsupportedError, match=r"dynamic=True: .* sizes of \*\*kwargs free"):
        export_run(run, onnx=tmp_path / "net.onnx", dynamic=True, model=Keywords())
    assert export_run(run, onnx=tmp_path / "net.onnx", model=Keywords())["onnx"]["passed"]
