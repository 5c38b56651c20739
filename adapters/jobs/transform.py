"""What `ranp transform` asks for: a network whose strides are dilations, with the weights it had.

    RUN/config.yaml           every option, resolved (re-run with `ranp transform --config`)
    RUN/dilated.safetensors   the weights
    RUN/report.json           what became of each layer, and how far both networks differ where there was a value before
    RUN/network               what MODEL needs of the run folder it was taken from, if it was

Loading executes no code that the run names but built-ins and networks of MONAI; any other factory is repeated by the
user.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ranp import runs
from ranp.adapters.dilation import dilate, dilated
from ranp.adapters.jobs._parts import Part, load_run_, read_part, save_run
from ranp.adapters.jobs.folder import DENSE
from ranp.adapters.jobs.options import Transform
from ranp.errors import UsageError
from ranp.files import read_json
from ranp.inputs import flatten, generator_of
from ranp.models.request import read_size
from ranp.models.weights import load_weights_


def run(options: Transform) -> dict[str, Any]:
    """Turn the strides of a network into dilations, compare the two, and keep the new one as a run.

    Args:
        options: of the command.

    Returns:
        the report: layers changed, sizes of the outputs before and after, difference; `out`, None if dry.

    Raises:
        UsageError: as `read_part` and `dilate`, or an existing folder.
        UnsupportedError: as `dilate`.
        CheckFailed: likewise.
    """
    runs.check_out(options.out, force=options.force, known_by=DENSE)
    part = read_part(
        options.model, "MODEL", preset=options.preset, settings=options.settings, in_channels=options.in_channels,
        classes=options.classes, size=options.input, size_option="input",
    )  # fmt: skip
    wanted = read_size(options.output_stride, len(part.shape) - 1, "output_stride")
    network = part.build(options.seed)
    loaded = [] if options.weights is None else [load_weights_(network, options.weights)]
    network.eval()
    image = torch.randn(1, *part.shape, generator=generator_of(options.seed))
    made = dilated(network, wanted, image)
    with torch.no_grad():
        before, after = (flatten(each(image)) for each in (network, made.network))
    report = {
        "network": {"model": part.model, "preset": part.preset, "settings": part.settings},
        "output_stride": list(wanted),
        "inputs": [[1, *part.shape]],
        "outputs": {"before": [list(each.shape) for each in before], "after": [list(each.shape) for each in after]},
        "changed": made.changed,
        "params": sum(p.numel() for p in made.network.parameters()),
        "verify": {"max_rel_diff": made.difference, "compared": made.compared, "outputs": made.exact},
        **({"weights": loaded} if loaded else {}),
    }
    if not options.dry_run:
        parts = {"network": part.model}
        save_run(options.out, made.network, DENSE, options.to_config(), report, parts, force=options.force)
    return {**report, "out": None if options.dry_run else str(options.out)}


def load_dilated(run: str, network: str | None = None) -> nn.Module:
    """Build the network of a run folder with its weights; the factory later commands take as MODEL.

    Args:
        run: the folder.
        network: repeats the run's own MODEL where that is neither a built-in nor a network of MONAI nor a run.

    Raises:
        UsageError: no such run, a file that is not ours, weights that do not fit, or a factory to be repeated.
    """
    folder = Path(run)
    report = read_json(folder / runs.REPORT)
    try:
        part, known = Part.kept_in(folder, "network", report), report["network"]["model"]
        wanted = tuple(map(int, report["output_stride"]))
    except (KeyError, TypeError, ValueError, IndexError):
        raise UsageError(f"{folder / runs.REPORT}: not a report of `ranp transform`") from None
    if network is not None and network != known:
        raise UsageError(f"{run}: is made of {known}, not {network}")
    dense = dilate(part.build(trusted=network is not None), wanted, example_inputs=part.example)
    load_run_(dense, folder / DENSE)
    return dense.eval()
