"""What a library computes is compared with PyTorch before it is believed; these compare the CPU's."""

import logging
from typing import Any

import pytest
import torch

from ranp.kernels import _native_passing as native_passing
from ranp.kernels import _proof as proof
from ranp.kernels import native

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been compared yet, and what is refused here is so only here."""
    if native.library("cpu") is None:
        pytest.skip(f"no library: {native.reason('cpu')}")
    monkeypatch.setenv("RANP_NATIVE", "auto")
    monkeypatch.setattr(native, "_loaded", dict(native._loaded))
    monkeypatch.setattr(native, "_reasons", {})
    proof._difference.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_library_that_computes_the_same_stays(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    proof.prove(CPU, dtype)
    assert native.library("cpu") is not None
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "spoilt", "words"),
    [
        ("forward", 0, "isgmr with 5 labels of float32 has other bits than PyTorch on cpu"),
        ("backward", 2, "isgmr with 5 labels of float32 has other gradients than PyTorch on cpu"),
    ],
)
def test_one_that_does_not_is_replaced_by_pytorch(
    name: str, spoilt: int, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    true = getattr(native_passing, name)

    def wrong(*given: Any, **named: Any) -> Any:
        made = list(true(*given, **named))
        made[spoilt].view(-1)[-1] += 1.0
        return type(true(*given, **named))(*made) if name == "forward" else tuple(made)

    monkeypatch.setattr(native_passing, name, wrong)
    with caplog.at_level(logging.WARNING, "ranp.kernels"):
        proof.prove(CPU, torch.float32)
        proof.prove(CPU, torch.float32)
    assert [record.getMessage() for record in caplog.records] == [
        f"native cpu kernels are not used, PyTorch is: {words}"
    ]
    assert native.library("cpu") is None
    assert native.reason("cpu") == words


def test_where_it_is_required_that_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANP_NATIVE", "require")
    monkeypatch.setattr(proof, "_difference", lambda device, dtype: "trwp with 5 labels of float32 has other bits")
    with pytest.raises(native.NativeError, match="trwp with 5 labels of float32 has other bits than PyTorch on cpu"):
        proof.prove(CPU, torch.float32)
