"""The setting `upsampling`: what other packages announce, and nothing that is named here."""

import importlib.metadata

import pytest
import torch
from torch import Tensor, nn

from ranp import models
from ranp.errors import UsageError
from ranp.models.upsampling import GROUP, upsampled


class Marked(nn.Module):
    """A network that remembers what image it was made for."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.network, self.sizes = network, tuple(image.shape)


class Entry:
    """An entry point of another package."""

    name = "marked"

    def load(self) -> type[Marked]:
        return Marked


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Entry()] if group == GROUP else [])


@pytest.mark.usefixtures("announced")
def test_what_is_announced_is_called_with_the_network_and_an_image() -> None:
    flat = models.build("unet2d", base_width=2, depth=3, upsampling="marked")
    deep = models.build("unet3d", base_width=2, depth=2, in_channels=2, upsampling="marked")
    assert isinstance(flat, Marked)
    assert isinstance(deep, Marked)
    assert (flat.sizes, deep.sizes) == ((1, 3, 8, 8), (1, 2, 4, 4, 4))


@pytest.mark.usefixtures("announced")
def test_another_name_is_one_line() -> None:
    with pytest.raises(UsageError, match="upsampling='marks': expected one of marked; did you mean 'marked'"):
        models.build("unet2d", upsampling="marks")


def test_where_nothing_is_announced_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])
    with pytest.raises(UsageError, match="upsampling='fade': expected none: no package announces one"):
        models.build("unet2d", upsampling="fade")


def test_without_it_the_network_is_the_same() -> None:
    network = nn.Identity()
    assert upsampled(network, None, torch.empty(0)) is network


def test_ours_are_announced() -> None:
    assert {"carafe", "fade", "fade-lite"} <= {entry.name for entry in importlib.metadata.entry_points(group=GROUP)}
