"""Fused networks as run folders: build one from two MODEL words, check it, save it, load it again.

    RUN/config.yaml         every option, resolved (re-run with `ranp fuse --config`)
    RUN/fused.safetensors   weights of both networks and the stack
    RUN/report.json         sizes, and how far the stack is from the identity on a random input
    RUN/a, RUN/b            what A or B needs of the run folder it was taken from, if it was: RUN does without that

Loading executes no code that the run names but built-ins and networks of MONAI; any other factory is repeated by the
user.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ranp import runs
from ranp.adapters.fusion import FusedSegmenter, GridSuperpixels, SlicSuperpixels, fuse
from ranp.adapters.jobs._parts import load_run_, run_folder, save_run
from ranp.adapters.jobs.folder import WEIGHTS
from ranp.adapters.jobs.options import Fuse, Fused
from ranp.errors import CheckFailed, UsageError, named, saying
from ranp.files import read_yaml
from ranp.inputs import check_device, flatten, specs
from ranp.models.folders import kind_of
from ranp.models.request import Request, read_request
from ranp.models.spec import resolve
from ranp.models.weights import load_weights_
from ranp.options import read_pairs

TOLERANCE = 1e-5
"""Largest |difference| / largest |logit| the untrained stack may make, in the network's own precision."""


def segmenter_of(options: Fused, *, trusted: bool = True) -> Request:
    """Return what A asks for.

    Args:
        options: of A.
        trusted: whether the user named A, so that its factory may be asked for its channels.

    Raises:
        UsageError: as `read_request`.
    """
    run = _pruned_run(options.a, "a", options.model_a)
    if run is not None:
        return _request_of_run(run, "a", options.set_a or options.preset_a or options.weights_a)
    return read_request(
        options.a, preset=options.preset_a, settings=read_pairs(options.set_a, "set_a", None),
        in_channels=options.in_channels, classes=options.classes, size=options.input, trusted=trusted,
    )  # fmt: skip


def superpixels_of(options: Fused, segmenter: Request) -> Request | None:
    """Return what B asks for, on the input of A; a built-in takes as many channels as A, unless it is told.

    Args:
        options: of B.
        segmenter: what A asks for.

    Raises:
        UsageError: as `read_request`, or options of B without B.
    """
    if options.b is None:
        for option in ("model_b", "set_b", "preset_b", "weights_b"):
            if getattr(options, option):
                raise UsageError(f"{named(option)}: expected a second network B to go with it")
        return None
    run = _pruned_run(options.b, "b", options.model_b)
    if run is not None:
        return _request_of_run(run, "b", options.set_b or options.preset_b or options.weights_b)
    settings, channels = read_pairs(options.set_b, "set_b", None), options.in_channels
    built_in = ":" not in options.b and kind_of(options.b) is None
    if channels is None and built_in and options.preset_b is None and "in_channels" not in settings:
        channels = segmenter.shapes[0][1]
    return read_request(
        options.b, preset=options.preset_b, settings=settings, in_channels=channels, size=segmenter.shapes[0][2:],
    )  # fmt: skip


def hidden_widths(options: Fused) -> tuple[int, ...] | None:
    """Return the widths of the stack as numbers.

    Raises:
        UsageError: no whole numbers between commas.
    """
    if options.widths is None:
        return None
    parts = options.widths.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"{named('widths', options.widths)}: expected whole numbers between commas, such as 64,64")
    return tuple(int(part) for part in parts)


def run(options: Fuse) -> dict[str, Any]:
    """Do what `ranp fuse` does: build, check, save, and say what came of it.

    Returns:
        the report: options, input shape, where superpixels come from, output shape, parameters by part, the stack's
        deviation, where the run is (None if dry).

    Raises:
        UsageError: as `build`, an unknown device, or an existing folder.
        CheckFailed: as `check`.
    """
    runs.check_out(options.out, force=options.force, known_by=WEIGHTS)
    place, own = check_device(options.device), Fused(**options.only(Fused))
    loaded: list[str] = []
    fused = build(own, device=place, tell=loaded.append)
    image = flatten(segmenter_of(own).inputs(own.seed, place))[0]
    report = {
        "options": own.model_dump(mode="json"),
        "inputs": [list(image.shape)],
        "superpixels": describe(fused.superpixels),
        **check(fused, image),
        **({"weights": loaded} if loaded else {}),
    }
    if not options.dry_run:
        parts = {"a": own.a, "b": own.b}
        save_run(options.out, fused, WEIGHTS, own.model_dump(mode="json"), report, parts, force=options.force)
    return {**report, "out": None if options.dry_run else str(options.out)}


def build(
    options: Fused,
    *,
    trust_a: bool = True,
    trust_b: bool = True,
    device: torch.device | str = "cpu",
    tell: Callable[[str], None] = lambda _: None,
) -> FusedSegmenter:
    """Build both networks, load their weights, and fuse them; in evaluation mode.

    Args:
        options: what to build.
        trust_a: whether the user wrote the MODEL word A; False for that of a run.
        trust_b: likewise B.
        device: where to.
        tell: called with a line for each checkpoint, what was found in it.

    Raises:
        UsageError: what the options, the networks, the weights or `fuse` refuse.
    """
    request = segmenter_of(options, trusted=trust_a)
    second = superpixels_of(options, request)
    if len(request.shapes) != 1:
        raise UsageError(f"{named('A', options.a)}: expected a network of one image, this takes {len(request.shapes)}")
    segmenter = _network(request, options.model_a, options.weights_a, "weights_a", options.seed, trust_a, tell)
    superpixels = None
    if second is not None:
        superpixels = _network(second, options.model_b, options.weights_b, "weights_b", options.seed + 1, trust_b, tell)
        superpixels = superpixels.to(device).eval()
    segmenter = segmenter.to(device).eval()
    return fuse(
        segmenter, superpixels, example=flatten(request.inputs(options.seed, device))[0], interval=options.interval,
        segments=options.segments, compactness=options.compactness, widths=hidden_widths(options),
        activation=options.activation, count=options.count, ignore=options.ignore, seed=options.seed,
    ).eval()  # fmt: skip


def check(fused: FusedSegmenter, image: Tensor) -> dict[str, Any]:
    """Run the fused network once, compare its logits before consistency with the segmenter's, and count parameters.

    Raises:
        CheckFailed: the stack changes the logits by more than `TOLERANCE` of the largest.
        UsageError: the parts do not fit: superpixel maps of another size, maps that are not integers.
    """
    with torch.no_grad():
        expected = fused.segmenter(image)
        difference = float((fused.refined(image) - expected).abs().max())
        with saying(UsageError, "the fused network does not run"):
            output = fused(image)
    largest = float(expected.abs().max())
    relative = difference / largest if largest else difference
    if not relative <= TOLERANCE:
        raise CheckFailed(f"the stack changes the logits by {relative:.1e} of the largest, more than {TOLERANCE:g}")
    parts = {name: fused.get_submodule(name) for name in ("segmenter", "superpixels", "transparent")}
    return {
        "output": list(output.shape),
        "params": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        "verify": {"max_abs_diff": difference, "max_rel_diff": relative},
    }


def describe(superpixels: nn.Module) -> str:
    """Say in a few words where superpixels come from."""
    if isinstance(superpixels, SlicSuperpixels):
        return f"SLIC, about {superpixels.segments} an image"
    if isinstance(superpixels, GridSuperpixels):
        return f"scores of a network, over a grid of {superpixels.interval} pixels"
    return "integer maps of a module"


def load_fused(run: str, a: str | None = None, b: str | None = None) -> FusedSegmenter:
    """Build the fused network of a run folder with its weights; the factory later commands take as MODEL.

    Args:
        run: the folder.
        a: repeats the run's own A (of a pruned run its --model-a) where that is neither a built-in nor a network of
            MONAI.
        b: likewise B.

    Raises:
        UsageError: no such run, a file that is not ours, weights that do not fit, or a factory to be repeated.
    """
    options = read_options(Path(run))
    for word, given in ((options.model_a or options.a, a), (options.model_b or options.b, b)):
        if given is not None and given != word:
            raise UsageError(f"{run}: was fused from {word}, not from {given}")
    copies = {part: str(Path(run, part)) for part in ("a", "b") if Path(run, part).is_dir()}
    own = options.model_copy(update={"weights_a": None, "weights_b": None, **copies})
    fused = build(own, trust_a=a is not None, trust_b=b is not None)
    load_run_(fused, Path(run) / WEIGHTS)
    return fused


def read_options(run: Path) -> Fused:
    """Read the options of a run folder.

    Raises:
        UsageError: no such file, or not one that `ranp fuse` wrote.
    """
    path = run / runs.CONFIG
    try:
        return Fused.model_validate(read_yaml(path))
    except UsageError as error:
        raise UsageError(f"{error}; expected a folder that `ranp fuse` wrote") from None
    except ValidationError as error:
        raise UsageError(f"{path}: not options of `ranp fuse` ({str(error).splitlines()[0]})") from None


def _pruned_run(word: str, part: str, model: str | None) -> str | None:
    """Return the folder of a pruned network that a word names, None for a MODEL; refuse a checkpoint alone."""
    folder = run_folder(word)
    if folder is None and Path(word).is_file() and Path(word).suffix != ".py":
        raise UsageError(
            f"{named(part.upper(), word)}: a checkpoint does not say what network it is of: name that, and give the "
            f"file by {named(f'weights_{part}')}"
        )
    if folder is not None and ((kind := kind_of(folder)) is None or not kind.factory):
        return str(folder)
    if model is not None:
        raise UsageError(
            f"{named(f'model_{part}', model)}: only of use where {part.upper()} is the run of a pruned network"
        )
    return None


def _request_of_run(run: str, part: str, given: object) -> Request:
    """Read a pruned network's run folder as MODEL: it brings its settings, weights and input."""
    if given:
        options = ", ".join(named(f"{option}_{part}") for option in ("set", "preset", "weights"))
        raise UsageError(f"{options}: {run} is a run and brings its own")
    return Request(run, None, {}, tuple(spec.shape for spec in specs(runs.read(run).plan.inputs)))


def _network(
    request: Request,
    model: str | None,
    weights: Path | None,
    option: str,
    seed: int,
    trusted: bool,
    tell: Callable[[str], None],
) -> nn.Module:
    if Path(request.model).is_dir():
        return runs.load(request.model, model if trusted else None)
    network = resolve(request.model, request.settings, preset=request.preset, seed=seed, trusted=trusted)
    if weights is not None:
        tell(load_weights_(network, weights, option))
    return network
