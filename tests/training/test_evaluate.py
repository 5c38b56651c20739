"""Evaluations of networks that know the answer, and of cases where something is missing."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranp.data.dataset import Case
from ranp.data.sources import Drawing, FromFiles, Reading, open_source
from ranp.data.volumes import Sampling
from ranp.errors import UsageError
from ranp.training import ALL, Evaluation, Scores, Windows, evaluate

nibabel = pytest.importorskip("nibabel")
PATCH = torch.empty(1, 1, 8, 8, 8, device="meta")


class Bright(nn.Module):
    """Class 1 where an image is above a level, of so many classes."""

    def __init__(self, level: float, classes: int = 2) -> None:
        super().__init__()
        self.level, self.classes = level, classes
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        above = (image[:, :1] - self.level) * 100 * self.weight
        others = [torch.full_like(above, -1e3)] * (self.classes - 2)
        return torch.cat([torch.zeros_like(above), above, *others], dim=1)


def write(path: Path, values: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 1.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), path)


def volumes(root: Path, count: int = 3, spacing: tuple[float, ...] = (1.0, 1.0, 2.0), labelled: int = 1) -> FromFiles:
    """Boxes of 100 in noise, whose labels are the boxes."""
    rng = np.random.default_rng(0)
    for k in range(count):
        labels = np.zeros((18, 14, 11), np.uint8)
        labels[3 : 9 + k, 4:10, 2:7] = labelled
        write(
            root / "images" / f"case{k}.nii.gz", (labels > 0) * np.float32(100) + rng.normal(size=labels.shape), spacing
        )
        write(root / "labels" / f"case{k}.nii.gz", labels, spacing)
    opened = open_source(str(root))
    assert isinstance(opened, FromFiles)
    return opened


def test_a_network_that_is_right_has_the_best_figures(tmp_path: Path) -> None:
    scores = evaluate(Bright(1.0), volumes(tmp_path), PATCH)
    assert (scores.task, scores.classes, scores.first, scores.unit) == ("segmentation", ("class 0", "class 1"), 1, "mm")
    assert scores.score == 1
    assert scores.mean("hd95") == 0
    assert scores.figures()["edge_f1"] == scores.overall["miou"] == 1
    assert scores.overall["mean_accuracy"] == scores.overall["boundary_iou"] == 1
    assert [case.name for case in scores.cases] == ["case0", "case1", "case2"]
    assert scores.source == "3 cases of volumes"


def test_distances_are_in_the_millimetres_of_the_file(tmp_path: Path) -> None:
    class Moved(Bright):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image.roll(1, dims=-1))

    source = volumes(tmp_path, spacing=(1.0, 1.0, 3.0))
    patch = torch.empty(1, 1, 18, 14, 11, device="meta")
    scores = evaluate(Moved(1.0), source, patch)
    assert scores.spread("hd95", 1).mean == 3
    assert scores.unit == "mm"


def test_a_network_that_is_wrong_is_ranked_by_case(tmp_path: Path) -> None:
    class Half(Bright):  # sees every other plane
        def forward(self, image: Tensor) -> Tensor:
            odd = torch.arange(image.shape[2]) % 2 == 1
            return super().forward(image.clone().masked_fill_(odd[:, None, None], -9.0))

    scores = evaluate(Half(1.0), volumes(tmp_path), torch.empty(1, 1, 18, 14, 11, device="meta"))
    values = [case.value for case in scores.cases]
    for case, depth in zip(scores.cases, (6, 7, 8), strict=True):
        kept = len([plane for plane in range(3, 3 + depth) if plane % 2 == 0])
        assert case.value == pytest.approx(2 * kept / (kept + depth), rel=1e-6)
    assert [scores.cases[k].value for k in scores.ranked()] == sorted(values, reverse=True)
    spread = scores.spread("dice", 1)
    assert (spread.mean, spread.sd) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))


def test_resampled_cases_are_measured_on_their_own_grid(tmp_path: Path) -> None:
    volumes(tmp_path)
    source = open_source(str(tmp_path), reading=Reading(sampling=Sampling(spacing=(1.0, 1.0, 1.0))))
    assert isinstance(source, FromFiles)
    asked = Evaluation(Bright(1.0), source, PATCH)
    _, judged = next(asked.judged())
    assert judged.inputs[0].shape[1:] == (18, 14, 21)
    assert judged.prediction.shape == judged.truth.target.shape == (18, 14, 11)
    assert evaluate(Bright(1.0), source, PATCH).score > 0.9


def test_classes_that_never_occur_are_said_and_count_for_nothing(tmp_path: Path) -> None:
    scores = evaluate(Bright(1.0, classes=4), volumes(tmp_path), PATCH)
    assert scores.never == ("class 2", "class 3")
    assert math.isnan(scores.spread("dice", 2).mean)
    assert scores.score == 1
    assert scores.to_dict()["classes"][2]["dice"] == {"mean": None, "sd": None, "cases": 0}
    assert "dice/class 2" not in scores.figures()


def test_what_is_on_one_side_alone_is_infinitely_far_and_said(tmp_path: Path) -> None:
    scores = evaluate(Bright(1e9), volumes(tmp_path), PATCH)
    assert scores.score == 0
    assert scores.spread("hd95", 1) == (
        pytest.approx(math.nan, nan_ok=True),
        pytest.approx(math.nan, nan_ok=True),
        0,
        3,
    )
    assert ["case0", "class 1", "0", "0", "inf", "0"] in scores.rows()
    assert "hd95" not in scores.figures()


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    source = volumes(tmp_path)
    marked = [Case(case.name, case.files, case.target, "training") for case in source.dataset.cases]
    source.dataset = replace(source.dataset, cases=tuple(marked))
    with pytest.raises(UsageError, match="split='testing': no case to measure on; those with a target are of training"):
        evaluate(Bright(1.0), source, PATCH)
    assert evaluate(Bright(1.0), source, PATCH, split="training").score == 1
    assert evaluate(Bright(1.0), source, PATCH, split=ALL).score == 1


def test_regions_are_measured_one_by_one(tmp_path: Path) -> None:
    volumes(tmp_path, labelled=4)
    source = open_source(str(tmp_path), reading=Reading(regions="WT=1+4,ET=4"))

    class Both(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image - 1, image - 1e9], dim=1)

    scores = evaluate(Both(), source, PATCH)
    assert (scores.task, scores.classes) == ("regions", ("WT", "ET"))
    assert [scores.spread("dice", k).mean for k in (0, 1)] == [1, 0]
    assert scores.score == 0.5


def test_what_is_generated_is_drawn_from_other_numbers() -> None:
    source = open_source("phantom")
    asked = Evaluation(Bright(0.0, 3), source, PATCH, Drawing(batches=2, batch_size=2, seed=5))
    judged = [each for _, each in asked.judged()]
    assert [each.name for each in judged] == [f"sample {number}" for number in range(1, 5)]
    trained_on = torch.cat([inputs for inputs, _ in source.batches([(1, 8, 8, 8)], (3, 8, 8, 8), asked.how)])
    assert not any(torch.equal(each.inputs[0], seen) for each in judged for seen in trained_on)
    again = [each.inputs[0] for _, each in asked.judged([1, 3])]
    assert [torch.equal(a, judged[k].inputs[0]) for a, k in zip(again, (1, 3), strict=True)] == [True, True]


def test_parts_are_called_by_their_names() -> None:
    network = nn.Conv3d(1, 5, 1)
    scores = evaluate(network, open_source("shapes", settings={"background": True}), PATCH, how=Drawing(batches=2))
    assert scores.classes == ("background", "bag handle", "bag body", "cap panels", "cap peak")
    assert scores.first == 1


def test_modes_of_every_module_are_left_as_they_were() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2)).train()
    network[1].eval()
    evaluate(network, open_source("phantom"), PATCH, how=Drawing(batches=1), surfaces=False)
    assert [module.training for module in network.modules()] == [True, True, False]
    assert network[1].num_batches_tracked == 0


def test_without_surfaces_only_overlaps_are_measured(tmp_path: Path) -> None:
    scores = evaluate(Bright(1.0), volumes(tmp_path), PATCH, surfaces=False)
    assert scores.measures == ("dice", "iou")
    assert not [name for name in scores.overall if name.startswith("edge")]


def test_the_same_figures_come_of_any_batch_of_windows(tmp_path: Path) -> None:
    source = volumes(tmp_path)
    torch.manual_seed(0)
    network = nn.Conv3d(1, 2, 3, padding=1)
    one, three = (evaluate(network, source, PATCH, windows=Windows(batch=n)) for n in (1, 3))
    assert one.score == pytest.approx(three.score, abs=1e-3)


LOADER = """
import torch
def batches(kind):
    g = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 6, 6, generator=g)
    target = {"labels": (image[:, 0] > 0.5).long(), "channel": (image > 0.5).float(), "class": torch.tensor([1, 0]),
              "values": image * 2, "masks": torch.cat([image > 0.5, image > 0.9], 1).float()}[kind]
    return [(image, target)] * 2
"""


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "loading.py").write_text(LOADER)
    return f"{tmp_path / 'loading.py'}:batches"  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("kind", "network", "task", "score"),
    [
        ("labels", lambda x: torch.cat([0.5 - x, x - 0.5], 1), "segmentation", 1.0),
        ("channel", lambda x: x - 0.5, "segmentation", 1.0),
        ("class", lambda x: x.flatten(1)[:, :2].new_tensor([[0.0, 1.0], [1.0, 0.0]]), "classification", 1.0),
        ("values", lambda x: x, "regression", None),
        ("masks", lambda x: torch.cat([x - 0.5, x - 0.9], 1), "regions", 1.0),
    ],
)
def test_a_loader_is_measured_by_what_its_shapes_say(
    loader: str, kind: str, network: Any, task: str, score: float | None
) -> None:
    class Function(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.as_tensor(network(image))

    scores = evaluate(Function(), open_source(loader, settings={"kind": kind}), torch.empty(2, 1, 6, 6, device="meta"))
    assert scores.task == task
    assert len(scores.cases) == 4
    if score is None:
        inputs, target = open_source(loader, settings={"kind": kind}).batches([], (), Drawing(batches=1)).first()  # type: ignore[union-attr]
        score = -float((inputs - target).abs().mean())
    assert scores.score == pytest.approx(score)


def test_a_stereo_pair_is_padded_to_what_the_network_takes_and_cropped_back(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    from ranp.data.answers import write_pfm

    rng = np.random.default_rng(0)
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        image.fromarray(rng.integers(0, 255, (21, 37, 3), dtype=np.uint8)).save(tmp_path / side / "a.png")
    (tmp_path / "disparity").mkdir()
    write_pfm(tmp_path / "disparity" / "a.pfm", np.full((21, 37), 3.0, np.float32))

    class Five(nn.Module):
        """Takes multiples of 8 alone, and says 5 everywhere."""

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            height, width = left.shape[2:]
            grid = left.view(len(left), 3, height // 8, 8, width // 8, 8)
            return grid.mean(1).reshape(len(left), height, width) * 0 + right.mean(1) * 0 + 5

    pair = tuple(torch.empty(1, 3, 16, 16, device="meta") for _ in range(2))
    scores = evaluate(Five(), open_source(str(tmp_path)), pair)
    assert scores.task == "stereo"
    assert {name: scores.overall[name] for name in ("epe", "acc1", "acc3", "d1")} == {
        "epe": 2.0, "acc1": 0.0, "acc3": 1.0, "d1": 0.0,
    }  # fmt: skip
    assert scores.score == -2
    assert scores.cases[0].figures.keys() >= {"epe_noc", "d1_noc"}


def test_clips_of_a_video_vote(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    for label, level in (("bright", 200), ("dark", 20)):
        (tmp_path / label).mkdir()
        with av.open(str(tmp_path / label / "a.avi"), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = 16, 16, "bgr0"
            for number in range(40):
                frame = np.full((16, 16, 3), level if number < 30 else 220 - level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())

    class Level(nn.Module):
        def forward(self, clip: Tensor) -> Tensor:
            mean = clip.mean((1, 2, 3, 4))
            return torch.stack([mean, -mean], 1)

    source = open_source(str(tmp_path))
    assert isinstance(source, FromFiles)
    views = source.dataset.views(source.dataset.read(source.dataset.cases[0]), [(3, 8, 14, 14)])
    assert [view[0][0].shape for view in views] == [(3, 8, 14, 14)] * 5
    assert [bool(view[0][0].mean() > 0) for view in views] == [True, True, True, True, False]
    scores = evaluate(Level(), source, torch.empty(1, 3, 8, 14, 14, device="meta"))
    assert scores.score == 1
    votes = torch.stack([Level()(view[0][0][None])[0].softmax(0) for view in views]).mean(0)
    assert scores.cases[0].figures["probability"][0] == pytest.approx(float(votes[0]), rel=1e-5)


def test_shapes_are_measured_by_category(tmp_path: Path) -> None:
    from ranp.data.parts import CATEGORIES, FIRST

    rng = np.random.default_rng(0)
    for category in ("Bag", "Cap"):
        folder = tmp_path / category
        folder.mkdir()
        for k in range(2):
            parts = rng.integers(0, len(CATEGORIES[category][1]), 60) + FIRST[category]
            rows = np.concatenate([rng.normal(size=(60, 3)), np.zeros((60, 3)), parts[:, None]], axis=1)
            np.savetxt(folder / f"s{k}.txt", rows)
    source = open_source(f"shapenet:{tmp_path}", settings={"categories": ["Bag", "Cap"]})
    torch.manual_seed(0)
    scores = evaluate(nn.Conv3d(1, 4, 3, padding=1), source, PATCH)
    by_category: dict[str, list[float]] = {}
    for case in scores.cases:
        own = (0, 1) if case.group == "Bag" else (2, 3)
        parts = [1.0 if math.isnan(v := case.figures["iou"][k]) else v for k in own]
        by_category.setdefault(case.group, []).append(sum(parts) / 2)
    means = {group: sum(values) / len(values) for group, values in by_category.items()}
    assert {group: scores.overall[f"miou/{group}"] for group in means} == pytest.approx(means)
    assert scores.overall["category_miou"] == pytest.approx(sum(means.values()) / 2)


def test_scores_are_plain_values(tmp_path: Path) -> None:
    import json

    scores = evaluate(Bright(1.0), volumes(tmp_path), PATCH)
    assert isinstance(scores, Scores)
    json.dumps(scores.to_dict(), allow_nan=False)
    assert all(type(value) is float for value in scores.figures().values())
