"""A run folder comes back as it was, and nothing in it is ever executed."""

import json
import pickle
import random
import shutil
from pathlib import Path

import pytest
import torch
from small_networks import NAMES, small
from torch import nn

import ranp
from ranp import models, runs
from ranp.errors import UsageError
from ranp.jobs import transfer as transfer_job
from ranp.jobs.options import Transfer
from ranp.report import write_report

pytestmark = pytest.mark.usefixtures("typed")  # messages are those of the command line

CONFIG = {"model": "unet3d", "settings": {"base_width": 8, "depth": 2, "classes": 2}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ranp.Result]:
    model = models.build("unet3d", **CONFIG["settings"])
    result = ranp.prune(model, torch.zeros(1, 1, 8, 8, 8), sparsity=0.5, method="l1")
    path = tmp_path_factory.mktemp("runs") / "run"
    runs.save(path, result.slim, result.plan, result.report.to_dict(), CONFIG)
    return path, result


@pytest.fixture
def run(saved: tuple[Path, ranp.Result], tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved[0], tmp_path / "run"))


def test_load_gives_the_slim_network_with_its_weights(saved: tuple[Path, ranp.Result]) -> None:
    path, result = saved
    loaded = ranp.load(path)
    assert isinstance(loaded, type(result.slim))
    assert_same(loaded, result.slim)
    x = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loaded.eval()(x), result.slim.eval()(x))


def assert_same(loaded: nn.Module, saved: nn.Module) -> None:
    """Every bit of the weights; outputs may differ in the last ones, as weights lie elsewhere in memory when read."""
    mine, theirs = loaded.state_dict(), saved.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_of_any_module_with_the_model_given_again(name: str, tmp_path: Path) -> None:
    model, example = small(name)
    result = ranp.prune(model, example, sparsity=0.3, method="l1")
    ranp.save(tmp_path / "run", result.slim, result.plan, result.report.to_dict())
    fresh, _ = small(name, seed=9)
    loaded = ranp.load(tmp_path / "run", model=fresh)
    assert ranp.verify(model, loaded, result.plan, example).max_rel_diff < 1e-9


def wide(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, 2, 1))


@pytest.mark.parametrize("again", [wide, f"{__file__}:wide", wide(6)], ids=["factory", "words", "module"])
def test_the_model_is_given_again_as_module_factory_or_words(again: runs.Model, tmp_path: Path) -> None:
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    result = ranp.prune(wide(6), x, sparsity=0.4, method="l1")
    config = {"model": f"{__file__}:wide", "settings": {"width": 6}}
    ranp.save(tmp_path / "run", result.slim, result.plan, result.report.to_dict(), config)
    with pytest.raises(UsageError, match="repeat it"):
        ranp.load(tmp_path / "run")
    loaded = ranp.load(tmp_path / "run", model=again)
    assert_same(loaded, result.slim)
    torch.testing.assert_close(loaded(x), result.slim(x))
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_what_makes_no_network_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="expected a class or a function"):
        ranp.load(run, model=3)  # type: ignore[arg-type]


def test_files_of_a_run(saved: tuple[Path, ranp.Result]) -> None:
    path, _ = saved
    assert sorted(each.name for each in path.iterdir()) == [
        "config.yaml",
        "plan.json",
        "report.json",
        "slim.safetensors",
    ]
    report = json.loads((path / "report.json").read_text())
    assert {"params", "flops", "memory_bytes"} <= set(report["full"]) & set(report["slim"])
    assert {"asked", "achieved"} <= set(report["sparsity"])
    assert {"total", "kept", "frozen"} <= set(report["units"])
    assert {"max_abs_diff", "max_rel_diff"} <= set(report["verify"])
    assert {"trace", "score", "select", "slim", "verify"} <= set(report["seconds"])


class Explosive:
    """Unpickles to a call that leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_in_place_of_weights_is_refused(run: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    (run / "slim.safetensors").write_bytes(pickle.dumps(Explosive(mark)))
    with pytest.raises(UsageError):
        ranp.load(run)
    rehash(run)
    with pytest.raises(UsageError, match="damaged"):
        ranp.load(run)
    assert not mark.exists()


def test_yaml_objects_are_refused(run: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    (run / "config.yaml").write_text(f"model: !!python/object/apply:pathlib.Path.touch [{mark}]\n")
    with pytest.raises(UsageError, match="not plain YAML"):
        ranp.load(run)
    assert not mark.exists()


@pytest.mark.parametrize(
    "spec", ["os:getcwd", "subprocess:Popen", "../evil.py:factory", "monai.networks.nets:os", "torch.nn:Sequential"]
)
def test_other_factories_are_never_called_from_a_file(run: Path, spec: str) -> None:
    (run / "config.yaml").write_text(f"model: '{spec}'\nsettings: {{}}\n")
    rehash(run)
    with pytest.raises(UsageError, match=r"MODEL|model|built-in|factory"):
        ranp.load(run)


def test_a_model_given_again_is_used(run: Path) -> None:
    (run / "config.yaml").write_text("model: my.module:factory\n")
    rehash(run)
    model = models.build("unet3d", **CONFIG["settings"])
    assert isinstance(ranp.load(run, model=model), nn.Module)


@pytest.mark.parametrize("name", ["config.yaml", "plan.json", "slim.safetensors", "report.json"])
def test_a_flipped_bit_is_found_wherever_it_is(run: Path, name: str) -> None:
    data, draw = (run / name).read_bytes(), random.Random(0)
    for _ in range(40):
        flipped = bytearray(data)
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        if _same_values(name, flipped, data):  # a space for a tab, say
            continue
        (run / name).write_bytes(flipped)
        for use in (ranp.load, _transferred, write_report):
            with pytest.raises(UsageError) as error:
                use(run)
            assert "\n" not in str(error.value)


def _same_values(name: str, one: bytes, other: bytes) -> bool:
    if name != "report.json":
        return False
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def _transferred(run: Path) -> None:
    transfer_job.prepare(Transfer(run=run, out=run.parent / "other"))


@pytest.mark.parametrize("name", ["config.yaml", "plan.json", "slim.safetensors", "report.json"])
def test_a_truncated_file_is_found_wherever_it_ends(run: Path, name: str) -> None:
    data, draw = (run / name).read_bytes(), random.Random(1)
    for end in [0, 1, len(data) - 2, *(draw.randrange(len(data) - 1) for _ in range(10))]:
        (run / name).write_bytes(data[:end])
        with pytest.raises(UsageError) as error:
            ranp.load(run)
        assert "\n" not in str(error.value)


def rehash(run: Path) -> None:
    """Make the stored hashes those of the files, as someone who tampers would."""
    report = json.loads((run / "report.json").read_text())
    report["hashes"] = {name: runs.sha256(run / name) for name in runs.HASHED}
    (run / "report.json").write_text(json.dumps(runs.sealed(report)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        (10 * 2**30).to_bytes(8, "little") + b"{}",
        (20).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}',
    ],
    ids=["empty", "no header", "10 GB header", "half a header"],
)
def test_damaged_weights_are_one_line(run: Path, content: bytes) -> None:
    (run / "slim.safetensors").write_bytes(content)
    rehash(run)
    with pytest.raises(UsageError, match="damaged") as error:
        ranp.load(run)
    assert "\n" not in str(error.value)


def test_truncated_weights_are_one_line(run: Path) -> None:
    data = (run / "slim.safetensors").read_bytes()
    (run / "slim.safetensors").write_bytes(data[: len(data) // 2])
    rehash(run)
    with pytest.raises(UsageError, match="damaged"):
        ranp.load(run)


def test_links_out_of_the_folder_are_refused(run: Path, tmp_path: Path) -> None:
    (run / "plan.json").rename(tmp_path / "elsewhere.json")
    (run / "plan.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UsageError, match=r"plan\.json"):
        ranp.load(run)


@pytest.mark.parametrize("name", ["config.yaml", "plan.json", "slim.safetensors", "report.json"])
def test_a_missing_file_is_named(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(UsageError, match=name):
        ranp.load(run)


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such run folder"):
        ranp.load(tmp_path / "nothing")


def test_existing_run_needs_force(saved: tuple[Path, ranp.Result], run: Path) -> None:
    _, result = saved
    with pytest.raises(UsageError, match="--force"):
        runs.save(run, result.slim, result.plan, {}, CONFIG)
    runs.save(run, result.slim, result.plan, {}, CONFIG, force=True)
    assert json.loads((run / "report.json").read_text()).keys() == {"hashes", "ranp"}


class Leaves(nn.Module):
    """Leaves its input in itself, and a table that it makes once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head, self.table = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = x
        if self.table is None:
            self.table = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype, device=x.device)
        return self.head(self.conv(x) + self.table)


@pytest.mark.parametrize("ran", ["full", "slim", "both", "neither"])
@pytest.mark.parametrize("size", [8, 9])
def test_what_a_forward_left_is_not_written(ran: str, size: int, tmp_path: Path) -> None:
    full, example, image = Leaves().eval(), torch.zeros(1, 1, 8, 8), torch.full((1, 1, size, 8), 7.0)
    if ran in ("full", "both"):
        full(image)
    result = ranp.prune(full, example, sparsity=0.4, method="l1")
    slim = result.slim.eval()
    if ran in ("slim", "both"):
        slim(image)
    assert ranp.verify(full, slim, result.plan, example).passed
    path = ranp.save(tmp_path / "run", slim, result.plan, result.report)
    assert not any((each == 7).any() for each in runs.read(path).weights().values())
    for again in (Leaves(), full):
        loaded = ranp.load(path, model=again).eval()
        assert torch.equal(loaded(example), slim(example))


class ByData(nn.Module):
    """Takes a mean from its first input, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head, self.mean = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 2, 1), None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mean is None:
            self.mean = x.mean().detach()
        return self.head((self.conv(x) - self.mean).relu())


def test_what_a_forward_took_from_its_first_input_is_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result = ranp.prune(ByData(), torch.zeros(1, 1, 8, 8), sparsity=0.4, method="l1")
    result.slim(torch.full((1, 1, 8, 8), 7.0))
    path = ranp.save(tmp_path / "run", result.slim, result.plan, result.report)
    loaded = ranp.load(path, model=ByData())
    x = torch.randn(1, 1, 8, 8)
    assert loaded.mean == 7
    assert torch.equal(loaded(x), result.slim(x))
    with pytest.raises(UsageError, match="mean has no place in the network"):
        ranp.load(path, model=type("Other", (ByData,), {"mean": property(lambda self: 1, lambda self, value: None)})())


def pruned_net() -> tuple[nn.Module, ranp.Result]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3))
    return net, ranp.prune(net, torch.zeros(1, 1, 8, 8), sparsity=0.4, method="l1")


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, torch.optim.swa_utils.AveragedModel, lambda net: torch.compile(net, backend="eager")],
    ids=["data parallel", "averaged", "compiled"],
)
def test_a_wrapper_around_the_slim_network_is_taken_off(wrap: object, tmp_path: Path) -> None:
    net, result = pruned_net()
    assert callable(wrap)
    path = ranp.save(tmp_path / "run", wrap(result.slim), result.plan, result.report)
    loaded = ranp.load(path, model=net)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), result.slim.parameters(), strict=True))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda net, slim: net, r"0\.weight is \(8, 1, 3, 3\); the plan makes it \([1-7], 1, 3, 3\)"),
        (
            lambda net, slim: nn.Sequential(slim, nn.Conv2d(2, 2, 1)),
            r"it has 0\.0\.weight, which the plan does not make",
        ),
        (lambda net, slim: slim[:3], r"it has no 3\.weight, which the plan makes"),
        (lambda net, slim: nn.Sequential(*slim, nn.Conv2d(2, 2, 1)), r"it has 4\.weight, which the plan does not make"),
    ],
    ids=["full", "inside", "part", "more"],
)
def test_what_the_plan_does_not_make_is_refused(made: object, said: str, tmp_path: Path) -> None:
    net, result = pruned_net()
    assert callable(made)
    with pytest.raises(UsageError, match=said):
        ranp.save(tmp_path / "run", made(net, result.slim), result.plan, result.report)
    assert not (tmp_path / "run").exists()


def test_a_plan_from_a_file_knows_names_and_shapes(tmp_path: Path) -> None:
    net, result = pruned_net()
    plan = ranp.Plan.from_json(result.plan.to_json())
    other = ranp.prune(net, torch.zeros(1, 1, 8, 8), method="l1", sparsity=0.2)
    for made, said in (
        (nn.Sequential(result.slim), r"it has 0\.0\.weight, which the plan does not make"),
        (net, r"0\.bias is \(8,\); the plan makes it \([1-7],\)"),
        (other.slim, r"; the plan makes it"),
        (result.slim[:3], r"it has no 3\.bias, which the plan makes"),
    ):
        with pytest.raises(UsageError, match=said):
            ranp.save(tmp_path / "run", made, plan, result.report)
    assert not (tmp_path / "run").exists()
    assert ranp.save(tmp_path / "run", result.slim, plan, result.report).is_dir()


def test_a_plan_of_a_former_version_knows_names(tmp_path: Path) -> None:
    _, result = pruned_net()
    plan = ranp.Plan.from_json(result.plan.model_copy(update={"shapes": {}}).to_json())
    with pytest.raises(UsageError, match=r"it has no 0\.weight, which the plan makes"):
        ranp.save(tmp_path / "run", nn.Sequential(result.slim), plan, result.report)
    assert ranp.save(tmp_path / "run", result.slim, plan, result.report).is_dir()


def test_what_is_loaded_has_the_hooks_and_marks_of_the_network_it_is_built_from(tmp_path: Path) -> None:
    net, result = pruned_net()
    ranp.save(tmp_path / "run", result.slim, result.plan, result.report)
    seen: list[str] = []
    net[0].weight.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
    net[0].bias.register_post_accumulate_grad_hook(lambda _: seen.append("accumulated"))
    net[0].weight.no_decay = True
    net[3].weight.requires_grad_(False)
    net[0].register_forward_hook(lambda *_: seen.append("forward"))
    net.to(memory_format=torch.channels_last)
    loaded = ranp.load(tmp_path / "run", model=net)
    assert all(map(torch.equal, loaded.parameters(), result.slim.parameters()))
    assert loaded[0].weight.no_decay
    assert not loaded[3].weight.requires_grad
    (1e6 * loaded(torch.randn(1, 1, 8, 8))).sum().backward()
    assert loaded[0].weight.grad.abs().max() <= 1e-3
    assert seen == ["forward", "accumulated"]
    moved = ranp.transfer(result.plan, net, torch.zeros(1, 1, 8, 8))
    assert moved.slim[0].weight.no_decay
