"""Generated objects with parts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ranp import data
from ranp.data._objects import OBJECTS
from ranp.data._shapes import categories_of
from ranp.data._solids import Form, Solid, _paint, ball, box, cone, dome, ring, turned, voxels
from ranp.data.parts import CATEGORIES, FIRST, PARTS
from ranp.errors import UsageError

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line
THIN = np.zeros(3)


@pytest.mark.parametrize(
    ("form", "volume"),
    [
        (box, 8),
        (ball, 4 / 3 * np.pi),
        (dome, 2 / 3 * np.pi),
        (cone(), 2 * np.pi),
        (cone(0), 2 / 3 * np.pi),
        (cone(0.5), 2 / 3 * np.pi * (1 + 0.5 + 0.25)),
        (cone(1, 0.2), 2 * np.pi * (1 - 0.8**2)),
        (ring(0.25), 2 * np.pi**2 * 0.75 * 0.25),  # 2 pi^2 R r^2, which is stretched by 1/r along z
        (ring(0.25, arch=True), np.pi**2 * 0.75 * 0.25),
    ],
)
def test_the_volumes_of_the_solids(form: Form, volume: float) -> None:
    grid = (np.arange(120) + 0.5) / 60 - 1
    u = np.stack(np.meshgrid(grid, grid, grid, indexing="ij"))
    assert form(u, THIN).mean() * 8 == pytest.approx(volume, rel=0.01)


@given(st.integers(0, 2**32 - 1))
def test_painting_looks_at_every_voxel_that_it_must(seed: int) -> None:
    rng = np.random.default_rng(seed)
    form = (box, ball, dome, cone(0.3), cone(1, 0.2), ring(0.3))[rng.integers(6)]
    turn = turned(0, rng.uniform(0, 360)) @ turned(1, rng.uniform(0, 360)) @ turned(2, rng.uniform(0, 360))
    half, centre, steps = rng.uniform(0.2, 3, 3), rng.uniform(-1, 8, 3), rng.uniform(0.5, 1.5, 3)
    parts = np.full((5, 6, 7), -1, dtype=np.int64)
    _paint(parts, Solid(4, form, (0, 0, 0), tuple(half)), turn, centre, steps)
    thin = 0.9 * steps.max()
    half = np.maximum(half, thin)
    for z, y, x in np.ndindex(parts.shape):
        point = np.array([x + 0.5, y + 0.5, z + 0.5]) * steps - centre
        inside = form((turn @ point / half)[:, None], thin / half)[0]
        assert (parts[z, y, x] == 4) == inside


def test_a_turn_takes_x_to_y_to_z_to_x() -> None:
    x, y, z = np.eye(3)
    assert np.allclose(turned(2, 90) @ x, y)
    assert np.allclose(turned(0, 90) @ y, z)
    assert np.allclose(turned(1, 90) @ z, x)


@pytest.mark.parametrize("category", CATEGORIES)
def test_an_object_has_the_parts_of_its_category(category: str) -> None:
    number = len(CATEGORIES[category][1])
    seen = set()
    for seed in range(12):
        solids = OBJECTS[category](np.random.default_rng(seed))
        seen |= {solid.part for solid in solids}
        parts = voxels(solids, (40, 40, 40), np.random.default_rng(seed))
        shown = set(np.unique(parts)) - {-1}
        assert shown <= {solid.part for solid in solids}
        assert len(shown) >= 2
    assert seen == set(range(number))


def test_parts_stand_where_their_names_say() -> None:
    for seed in range(8):
        height = {}
        for category in ("Table", "Rocket", "Mug", "Lamp", "Cap"):
            solids = OBJECTS[category](np.random.default_rng(seed))
            parts = voxels(solids, (48, 48, 48), np.random.default_rng(seed))
            names = CATEGORIES[category][1]
            height |= {f"{category} {name}": -np.argwhere(parts == k)[:, 1].mean() for k, name in enumerate(names)
                       if (parts == k).any()}  # fmt: skip
        assert height["Table top"] > height["Table leg"]
        assert height["Rocket nose"] > height["Rocket body"] > height["Rocket fin"]
        assert height["Lamp shade"] > height["Lamp base"]


@pytest.mark.parametrize("patch", [(16, 24, 32), (24, 32), (4, 4, 4), (2, 3), (8, 40, 20)])
@pytest.mark.parametrize("background", [False, True])
def test_batches(patch: tuple[int, ...], background: bool) -> None:
    source = data.shapes(patch, 1, 7, batches=3, batch_size=4, background=background)
    for image, labels in source:
        assert image.shape == (4, 1, *patch)
        assert image.dtype == torch.float32
        assert labels.shape == (4, *patch)
        assert labels.dtype == torch.int64
        assert set(image.unique().tolist()) <= {0.0, 1.0}
        empty = image[:, 0] == 0
        assert torch.equal(labels == (0 if background else 255), empty)
        assert (~empty).flatten(1).any(dim=1).all()
        assert labels[~empty].min() >= background
        assert labels[~empty].max() < 7


@pytest.mark.parametrize(("classes", "background"), [(2, False), (3, True), (15, False), (50, False), (51, True)])
def test_every_label_occurs(classes: int, background: bool) -> None:
    source = data.shapes((24, 24, 24), 1, classes, batches=400, background=background)
    seen: set[int] = set()
    for _, labels in source:
        seen |= set(labels.unique().tolist())
        if len(seen - {255}) == classes:
            break
    assert seen - {255} == set(range(classes))


def test_fifty_classes_are_those_of_shapenet() -> None:
    assert PARTS == 50
    assert categories_of(50) == tuple(CATEGORIES)
    assert (FIRST["Motorbike"], FIRST["Table"]) == (30, 47)
    assert data.part_names(50)[30] == "motorbike gas tank"
    for _, labels in data.shapes((16, 16, 16), batches=20):
        kinds = {name.split()[0] for name in (data.part_names()[k] for k in labels.unique().tolist() if k != 255)}
        assert len(kinds) == 1


@given(st.integers(2, 50))
def test_categories_have_as_many_parts_as_are_asked_for(parts: int) -> None:
    chosen = categories_of(parts)
    assert sum(len(CATEGORIES[kind][1]) for kind in chosen) == (48 if parts == 49 else parts)
    assert list(chosen) == [kind for kind in CATEGORIES if kind in chosen]
    assert len(data.part_names(parts + 1, background=True)) == (49 if parts == 49 else parts + 1)


def test_the_same_objects_in_any_order_and_the_generators_of_others_stay() -> None:
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, four = data.shapes((16, 16, 16), batches=4), data.shapes((16, 16, 16), batches=1, batch_size=4)
    (images, labels), backwards = next(iter(four)), [one.sample(k) for k in (3, 2, 1, 0)]
    for k, ((image,), label) in zip((3, 2, 1, 0), backwards, strict=True):
        assert torch.equal(images[k], image)
        assert torch.equal(labels[k], label)
    assert not torch.equal(images[0], next(iter(data.shapes((16, 16, 16), seed=1)))[0][0])
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


def test_an_object_fills_most_of_the_patch_wherever_it_stands() -> None:
    places = []
    for image, _ in data.shapes((32, 32, 32), batches=30):
        filled = image[0, 0].nonzero()
        sides = filled.max(dim=0).values - filled.min(dim=0).values + 1
        assert 16 <= sides.max() <= 32
        places.append(filled.double().mean(dim=0))
    assert (torch.stack(places).std(dim=0) > 1).all()


@pytest.mark.parametrize("patch", [(20, 20, 20), (24, 30)])
def test_further_channels_are_smoothed_occupancy(patch: tuple[int, ...]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    image, labels = next(iter(data.shapes(patch, 3)))
    plain, same = next(iter(data.shapes(patch, 1)))
    assert torch.equal(image[:, :1], plain)
    assert torch.equal(labels, same)
    for k in (1, 2):
        expected = ndimage.gaussian_filter(plain[0, 0].double().numpy(), k, mode="constant")
        assert np.abs(image[0, k].numpy() - expected).max() < 1e-3  # its tails are cut elsewhere


def around(source: data.Source, reach: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every voxel that is filled: what is filled around it, its place and 1, in float64; and its label."""
    rows, answers = [], []
    for image, labels in source:
        windows = torch.nn.functional.pad(image[0, 0].double(), [reach] * 6)
        for axis in range(3):
            windows = windows.unfold(axis, 2 * reach + 1, 1)
        filled = labels[0] != 255
        place = filled.nonzero().double() / 24
        rows.append(torch.cat([windows.reshape(*filled.shape, -1)[filled], place, torch.ones(len(place), 1)], dim=1))
        answers.append(labels[0][filled])
    return torch.cat(rows), torch.cat(answers)


@pytest.mark.parametrize(("classes", "most"), [(4, 0.5), (15, 0.25)])
def test_no_linear_model_of_what_is_around_a_voxel_tells_the_parts(classes: int, most: float) -> None:
    """Least squares to one-hot labels, scored on other objects: the mean over labels of intersection over union."""
    rows, answers = around(data.shapes((24, 24, 24), 1, classes, batches=60))
    new_rows, new_answers = around(data.shapes((24, 24, 24), 1, classes, batches=30, seed=1))
    normal = rows.T @ rows + 1e-3 * torch.eye(rows.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(normal, rows.T @ torch.nn.functional.one_hot(answers, classes).double())
    guessed = (new_rows @ weights).argmax(dim=1)
    both = [((guessed == k) & (new_answers == k)).sum() / ((guessed == k) | (new_answers == k)).sum()
            for k in new_answers.unique()]  # fmt: skip
    assert torch.stack(both).mean() < most


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "--classes 1: shapes have 2 to 50"),
        ({"classes": 2, "background": True}, "--classes 2: shapes have 3 to 51"),
        ({"classes": 51}, "--classes 51: shapes have 2 to 50"),
        ({"channels": 0}, "--in-channels 0: expected at least 1"),
        ({"seed": -1}, "--seed -1: expected 0 or more"),
        ({"spatial_dims": 3}, "--patch 8x8: the network takes 3 spatial dimensions"),
    ],
)
def test_mistakes(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        next(iter(data.shapes((8, 8), **arguments)))
