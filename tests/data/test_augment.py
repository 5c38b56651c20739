"""Augmented samples: what moves together, what stays, and how often and how strongly each transform is drawn."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ranp.data import augment
from ranp.data.augment import STRENGTHS, Strength, augmented
from ranp.errors import UsageError

QUIET = Strength(0, 10, (1, 1), (0, 0), (0, 0, (1, 1)), (0, (1, 1)), (0, (1, 1)), (0, 0, (1, 1)), (0, (1, 1), 0))
KINDS = ("light", "nnunet")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(rng(seed).standard_normal(shape).astype(np.float32))


class Drawn:
    """A generator that counts as always or never drawing, and gives the middle of every range or a value of choice."""

    def __init__(self, chance: float, uniform: Callable[..., Any] = lambda low, high, size=None: (low + high) / 2):
        self.chance, self._uniform = chance, uniform

    def random(self, size: int | None = None) -> Any:
        return self.chance if size is None else np.full(size, self.chance)

    def uniform(self, low: float, high: float, size: Any = None) -> Any:
        value = self._uniform(low, high)
        return value if size is None else np.full(size, value)

    def standard_normal(self, shape: tuple[int, ...]) -> Any:
        return np.ones(shape)


def with_strength(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> None:
    monkeypatch.setitem(augment.STRENGTHS, "nnunet", replace(QUIET, **parts))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    task=st.sampled_from(["segmentation", "regions", "classification", "stereo", "regression"]),
    size=st.sampled_from([(8, 12), (6, 8, 10), (2, 10, 10), (16, 4)]),
)
def test_shapes_dtypes_labels_and_seeds(seed: int, kind: str, task: str, size: tuple[int, ...]) -> None:
    if task == "stereo" and len(size) == 3:
        return
    channels = 2
    targets = {
        "segmentation": torch.from_numpy(rng(1).choice([0, 1, 7, 255], size)),
        "regions": torch.from_numpy(rng(1).integers(0, 2, (3, *size)).astype(np.float32)),
        "classification": torch.tensor(5),
        "stereo": image(*size).abs(),
        "regression": image(1, *size),
    }
    inputs = tuple(image(channels, *size, seed=k) for k in range(2 if task == "stereo" else 1))
    before, target = [each.clone() for each in inputs], targets[task]
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
    out, truth = augmented((inputs, target), kind, rng(seed), task)
    again, truth_again = augmented((inputs, target), kind, rng(seed), task)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)
    assert all(map(torch.equal, out, again))
    assert torch.equal(truth, truth_again)
    assert all(map(torch.equal, inputs, before))
    for new, old in zip((*out, truth), (*inputs, target), strict=True):
        assert type(new) is Tensor
        assert new.shape == old.shape
        assert new.dtype == old.dtype
        assert new.isfinite().all()
    if task in ("segmentation", "regions", "classification"):
        assert set(truth.unique().tolist()) <= set(target.unique().tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(24, 24), (16, 16, 16), (4, 24, 24)])
def test_labels_move_with_the_image(kind: str, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is its own labels is so still, but where linear values lie between two labels."""
    monkeypatch.setitem(STRENGTHS, kind, replace(QUIET, moves=1, degrees=STRENGTHS[kind].degrees, scale=(0.7, 1.4)))
    target = torch.zeros(size, dtype=torch.int64)
    target[tuple(slice(n // 4, 3 * n // 4) for n in size)] = 1
    target[tuple(slice(n // 2, None) for n in size)] = 2
    moved = []
    for seed in range(8):
        (out,), truth = augmented(((target[None].float(),), target), kind, rng(seed), "segmentation")
        whole = (out[0] - out[0].round()).abs() < 1e-3
        assert (out[0].round().long() == truth)[whole].float().mean() > 0.97
        moved.append(not torch.equal(truth, target))
    assert all(moved)


def test_a_turn_and_a_scaling_are_those_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    with_strength(monkeypatch, moves=1, degrees=20, scale=(1.25, 1.25))
    smooth = scipy.ndimage.gaussian_filter(rng().standard_normal((33, 33)), 3)
    drawn = Drawn(0.9, lambda low, high: high)  # chances of 0.9 mirror nothing
    monkeypatch.setitem(STRENGTHS, "nnunet", replace(STRENGTHS["nnunet"], moves=1))
    (out,), _ = augmented(((torch.from_numpy(smooth)[None].float(),), torch.tensor(0)), "nnunet", drawn, "segmentation")  # type: ignore[arg-type]
    best = []
    for angle in (np.deg2rad(20), -np.deg2rad(20)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / 1.25  # zoomed in
        expected = scipy.ndimage.affine_transform(smooth, turn, (np.eye(2) - turn) @ [16, 16], order=1, mode="reflect")
        best.append(np.abs(out[0].numpy() - expected)[8:-8, 8:-8].max() / np.abs(expected).max())
    assert min(best) < 0.02


@pytest.mark.parametrize(
    ("size", "degrees", "axes"),
    [
        ((32, 32), 180, [0]),
        ((32, 20), 15, [0]),
        ((16, 16, 16), 30, [0, 1, 2]),
        ((4, 16, 16), 180, [0]),
        ((16, 4, 16), 180, [1]),
    ],
)
def test_angles_follow_the_shape_of_the_patch(
    size: tuple[int, ...], degrees: float, axes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import monai.transforms

    seen: list[dict[str, Any]] = []

    class Noted(monai.transforms.Affine):
        def __init__(self, **given: Any) -> None:
            seen.append(given)
            super().__init__(**given)

    monkeypatch.setattr(monai.transforms, "Affine", Noted)
    monkeypatch.setitem(STRENGTHS, "nnunet", replace(STRENGTHS["nnunet"], moves=1))
    sample = ((image(1, *size),), torch.zeros(size, dtype=torch.int64))
    augmented(sample, "nnunet", Drawn(0.99 - 1e-9, lambda low, high: high), "segmentation")  # type: ignore[arg-type]
    (found,) = seen
    angles = np.rad2deg(found["rotate_params"])
    assert [axis for axis, angle in enumerate(angles) if angle] == axes
    assert angles[axes] == pytest.approx(degrees)
    planar = len(size) == 3 and len(axes) == 1
    expected = [1 if planar and axis in axes else 1 / 1.4 for axis in range(len(size))]
    assert found["scale_params"] == pytest.approx(expected)


def alone(monkeypatch: pytest.MonkeyPatch, given: Tensor, **parts: Any) -> Tensor:
    """Return an image after one transform that is always drawn, at the middle of its range, and no mirroring."""
    with_strength(monkeypatch, **parts)
    (out,), _ = augmented(((given,), torch.tensor(0)), "nnunet", Drawn(0.6), "segmentation")  # type: ignore[arg-type]
    return out


@pytest.mark.parametrize("size", [(9, 11), (7, 8, 9)])
class TestIntensities:
    def test_brightness_and_contrast(self, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        given = image(2, *size)
        assert torch.allclose(alone(monkeypatch, given, brightness=(1, (1.2, 1.4))), given * 1.3)
        found = alone(monkeypatch, given, contrast=(1, (1.2, 1.4)))
        for channel, old in zip(found, given, strict=True):
            assert torch.allclose(channel, (old * 1.3).clamp(old.min(), old.max()), atol=1e-5)

    def test_gamma_and_its_inverse(self, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        given = image(2, *size)
        for inverted in (0, 1):
            found = alone(monkeypatch, given, gamma=(1, (1.2, 1.4), inverted))
            for channel, old in zip(found.double(), given.double(), strict=True):
                share = (old - old.min()) / (old.max() - old.min())
                power = 1 - (1 - share) ** 1.3 if inverted else share**1.3
                expected = power * (old.max() - old.min()) + old.min()
                assert torch.allclose(channel, expected, atol=1e-4)

    def test_noise_has_the_variance_that_was_drawn(
        self, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = image(2, *size)
        assert torch.allclose(alone(monkeypatch, given, noise=(1, 0.08)), given + 0.2)  # the root of half of it

    def test_blur_is_a_gaussian(self, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        given = image(2, *size)
        found = alone(monkeypatch, given, blur=(1, 1, (0.8, 1.2)))
        for channel, old in zip(found, given, strict=True):
            wide = {"sigma": np.sqrt(1 + 1 / 12), "mode": "constant", "truncate": 6.0}  # MONAI averages over a voxel
            expected = scipy.ndimage.gaussian_filter(old.double().numpy(), **wide)
            expected /= scipy.ndimage.gaussian_filter(np.ones(size), **wide)
            assert np.abs(channel.numpy() - expected).max() < 0.02
        assert torch.equal(alone(monkeypatch, given, blur=(1, 0, (0.8, 1.2))), given)  # no channel is chosen

    def test_low_resolution(self, size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        steps = torch.arange(float(size[0]))[(None, slice(None), *[None] * (len(size) - 1))].expand(1, *size).clone()
        found = alone(monkeypatch, steps, low=(1, 1, (0.4, 0.6)))
        assert found.shape == steps.shape
        assert not torch.equal(found, steps)
        assert (found - steps).abs().max() < 3
        assert torch.equal(alone(monkeypatch, steps, low=(1, 1, (1, 1))), steps)


def test_mirroring_by_task_and_kind() -> None:
    """With every axis drawn: which ones are turned round."""

    def mirrored(shape: tuple[int, ...], kind: str, task: str) -> list[int]:
        target = torch.arange(int(np.prod(shape[1:]))).reshape(shape[1:])
        given = target[None].float().expand(shape).clone()
        old = STRENGTHS[kind]
        try:
            STRENGTHS[kind] = QUIET
            inputs = (given, given) if task == "stereo" else (given,)
            truth = torch.tensor(0) if task == "classification" else target.float() if task == "stereo" else target
            out, moved = augmented((inputs, truth), kind, Drawn(0.4), task)  # type: ignore[arg-type]
        finally:
            STRENGTHS[kind] = old
        assert all(torch.equal(each, out[0]) for each in out)
        if task != "classification":
            assert torch.equal(moved.float(), out[0][0])
        every = [[axis for axis in range(len(shape) - 1) if code >> axis & 1] for code in range(2 ** (len(shape) - 1))]
        (axes,) = [axes for axes in every if torch.equal(given.flip([axis + 1 for axis in axes]), out[0])]
        return axes

    assert mirrored((2, 3, 4, 5), "nnunet", "segmentation") == [0, 1, 2]
    assert mirrored((2, 3, 4, 5), "light", "segmentation") == [0, 1, 2]
    assert mirrored((2, 4, 5), "nnunet", "segmentation") == [0, 1]
    assert mirrored((2, 4, 5), "light", "segmentation") == [1]
    assert mirrored((2, 4, 5), "nnunet", "stereo") == [0]
    assert mirrored((2, 4, 5), "light", "stereo") == [0]
    assert mirrored((2, 3, 4, 5), "nnunet", "classification") == [1, 2]
    assert mirrored((2, 3, 4, 5), "light", "classification") == [2]


@pytest.mark.parametrize("kind", KINDS)
def test_clips_change_alike_in_all_frames(kind: str) -> None:
    frame, still = image(3, 1, 12, 12), 0
    clip = frame.expand(3, 5, 12, 12).clone()
    for seed in range(30):
        (out,), label = augmented(((clip,), torch.tensor(4)), kind, rng(seed), "classification")
        assert label == 4
        assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-5)
        still += torch.equal(out, clip)
    assert still < 20


@pytest.mark.parametrize("kind", KINDS)
def test_stereo_pairs_stay_rectified(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are constant: only whole rows change places, in both images and the disparities, which keep their values."""
    monkeypatch.setitem(STRENGTHS, kind, replace(STRENGTHS[kind], noise=(0, 0)))
    rows = torch.arange(8.0)[:, None].expand(8, 12)
    disparity = rows.clone()
    disparity[0] = float("inf")
    seen = set()
    for seed in range(40):
        (left, right), moved = augmented(((rows[None] + 1, rows[None] + 1), disparity), kind, rng(seed), "stereo")
        turned = torch.equal(moved, disparity.flip(0))
        assert turned or torch.equal(moved, disparity)
        assert torch.allclose(left, left[..., :1].expand_as(left), atol=1e-3)
        assert (left[0, :4].mean() > left[0, 4:].mean()) == turned
        assert torch.equal(left, right)
        seen.add(turned)
    assert seen == {True, False}


def test_how_often_nnunet_draws() -> None:
    """Of 600 samples the share in which each transform was drawn alone, within four standard deviations."""
    given = image(1, 4, 4)
    expected = {"moves": 1 - 0.8**2, "blur": 0.1, "low": 0.125}
    expected |= dict.fromkeys(("noise", "brightness", "contrast", "gamma"), 0.15)
    old, generator = STRENGTHS["nnunet"], rng(5)
    for name, share in expected.items():
        try:
            STRENGTHS["nnunet"] = replace(QUIET, **{name: getattr(old, name), "degrees": None, "scale": old.scale})
            count = 0
            for _ in range(600):
                (out,), _ = augmented(((given,), torch.tensor(0)), "nnunet", generator, "segmentation")
                flips = [given, given.flip(1), given.flip(2), given.flip(1, 2)]
                count += not any(torch.allclose(out, each, atol=1e-6) for each in flips)
        finally:
            STRENGTHS["nnunet"] = old
        assert abs(count / 600 - share) < 4 * np.sqrt(share * (1 - share) / 600), name


def test_the_published_parameters() -> None:
    assert STRENGTHS["nnunet"] == Strength(
        moves=0.2, degrees=None, scale=(0.7, 1.4), noise=(0.15, 0.1), blur=(0.2, 0.5, (0.5, 1.5)),
        brightness=(0.15, (0.7, 1.3)), contrast=(0.15, (0.65, 1.5)), low=(0.25, 0.5, (0.5, 1)),
        gamma=(0.15, (0.7, 1.5), 0.15),
    )  # fmt: skip


def test_none_words_and_images_of_two_sizes() -> None:
    sample = ((image(1, 8, 8),), torch.zeros(8, 8, dtype=torch.int64))
    assert augmented(sample, "none", rng(), "segmentation") is sample
    words = ((torch.arange(6),), torch.tensor(0))
    assert augmented(words, "nnunet", rng(), "classification") is words
    ids, step = torch.arange(6), torch.tensor(0.5)
    out, _ = augmented(((image(1, 8, 8), ids, step), torch.tensor(0)), "nnunet", rng(3), "segmentation")
    assert out[1] is ids
    assert out[2] is step
    with pytest.raises(UsageError, match=r"^augment='lite': expected none, light or nnunet; did you mean 'light'\?"):
        augmented(sample, "lite", rng(), "segmentation")
    with pytest.raises(UsageError, match=r"^augment='light': images of 4x4 and 8x8 can't be moved alike"):
        augmented(((image(1, 8, 8), image(1, 4, 4)), torch.tensor(0)), "light", rng(), "segmentation")
