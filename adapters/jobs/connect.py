"""What `ranp connect` asks for: a decoder over an encoder's features, whose connections are searched on the data.

    RUN/config.yaml              every option, resolved (re-run with `ranp connect --config`)
    RUN/connectivity.json        the connections, kept and dropped, with their gates
    RUN/connected.safetensors    weights of encoder and decoder
    RUN/report.json              costs of the decoders, scores, curves of the search
    RUN/report.html, decoder.svg the same for people, and the picture of the decoder
    RUN/encoder                  what ENCODER needs of the run folder it was taken from, if it was

Loading executes no code that the run names but built-ins and networks of MONAI; any other factory is repeated by the
user.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from ranp import runs
from ranp.adapters.connectivity import (
    Connected,
    ConnectivityMask,
    connect,
    connect_by,
    decoder_costs,
    draw,
    drop,
    emit,
    every_edge,
    find_taps,
    search_,
    transfer,
)
from ranp.adapters.jobs._parts import Part, load_run_, read_part, save_run
from ranp.adapters.jobs.folder import MASK
from ranp.adapters.jobs.options import Connect
from ranp.data.sources import Opened
from ranp.errors import UsageError, named
from ranp.figures import operations, size, spell
from ranp.files import read_json
from ranp.inputs import Shape, check_device
from ranp.jobs.options import Train
from ranp.jobs.prepared import Prepared
from ranp.jobs.train import ready
from ranp.models.weights import load_weights_
from ranp.report import Html, document, element
from ranp.training import Moment

WEIGHTS = "connected.safetensors"
PAGE, PICTURE = "report.html", "decoder.svg"
DECODERS = ("dense", "slim", "naive")


def run(options: Connect, watch: Callable[[Moment], None] | None = None) -> dict[str, Any]:
    """Search, or take over, the connections of a decoder, and keep encoder and decoder as a run.

    Args:
        options: of the command.
        watch: called after every step of the search.

    Returns:
        the report: features, connections, gap, costs of the decoders, scores; `out`, None if dry.

    Raises:
        UsageError: what options, data, encoder or mask refuse; an existing folder.
        CheckFailed: the loss is not a number.
    """
    runs.check_out(options.out, force=options.force, known_by=MASK)
    check_device(options.device)
    if options.mask is not None:
        encoder, classes, network, mask, found = _taken_over(options)
    else:
        encoder, classes, network, mask, found = _searched(options, watch)
    report = {
        "encoder": {"model": encoder.model, "preset": encoder.preset, "settings": encoder.settings},
        "classes": classes,
        "inputs": [[1, *encoder.shape]],
        "features": [str(tap) for tap in mask.features],
        "connections": {
            str(stage): [mask.said(stage, source) for source in sources] for stage, sources in mask.kept.items()
        },
        "edges": {"kept": sum(map(len, mask.kept.values())), "searched": len(mask.edges)},
        "fallback": list(mask.fallback),
        "gap": mask.gap,
        "decoders": _costs(mask, encoder, classes),
        "params": {
            "encoder": sum(p.numel() for p in network.encoder.parameters()),
            "decoder": sum(p.numel() for p in network.decoder.parameters()),
        },
        **found,
    }  # fmt: skip
    if not options.dry_run:
        picture = draw(mask)
        more = {MASK: mask.to_json(), PICTURE: picture, PAGE: _page(report, picture)}
        parts = {"encoder": encoder.model}
        save_run(options.out, network, WEIGHTS, options.to_config(), report, parts, more, force=options.force)
    return {**report, "out": None if options.dry_run else str(options.out)}


Made = tuple[Part, int, Connected, ConnectivityMask, dict[str, Any]]


def _searched(options: Connect, watch: Callable[[Moment], None] | None) -> Made:
    """Search on the data."""
    kept: dict[str, Any] = {}

    def build(source: Opened) -> tuple[nn.Module, tuple[Shape, ...]]:
        channels = source.channels()
        encoder = read_encoder(options, channels[0] if len(channels) == 1 else None)
        classes = options.classes or source.classes()
        if classes is None:
            raise UsageError(f"{named('classes')}: is missing, and the data do not say how many there are")
        network = connect(
            _with_weights(options, encoder), encoder.example, classes, at=options.at or None, seed=options.seed,
            width=options.width, act=options.act, gate_noise=options.noise,
        )  # fmt: skip
        kept.update(encoder=encoder, classes=classes, network=network)
        return network, (encoder.shape,)

    shared = {name: getattr(options, name) for name in Train.model_fields.keys() & Connect.model_fields.keys()}
    asked = Train(**{**shared, "model": options.encoder, "settings": {}, "classes": None, "in_channels": None})
    prepared = ready(asked, build)
    encoder, classes, network = kept["encoder"], kept["classes"], kept["network"]
    assert isinstance(network, Connected)
    if options.dry_run:
        edges = every_edge(len(network.decoder.taps))
        gates = [[1.0] * len(sources) for sources in edges.values()]
        return encoder, classes, network, _dropped(options, network, gates), _said(prepared)
    found = search_(
        network, prepared.batches, prepared.loss, prepared.training, strength=options.strength, alpha=options.alpha,
        threshold=options.threshold, merge=not options.keep_equal, subset=not options.keep_subsets,
        encoder_rate=options.encoder_rate, gate_rate=options.gate_rate, per_epoch=prepared.per_epoch,
        validate=prepared.validation, validate_every=options.val_every, device=options.device, seed=options.seed,
        watch=watch,
    )  # fmt: skip
    network.to("cpu").eval()
    slim = emit(network, found.mask, encoder.example, init=options.decoder_init, seed=options.seed).eval()
    history = found.trained.history
    said = {**_said(prepared), "validations": history.validations, "curve": history.curve}
    if prepared.validation is not None and options.decoder_init == "inherit":
        said["inherited"] = prepared.validation(slim.to(options.device))
        slim.to("cpu")
    return encoder, classes, slim, found.mask, said


def _dropped(options: Connect, network: Connected, gates: list[list[float]]) -> ConnectivityMask:
    return drop(gates, network.decoder.taps, width=options.width, act=options.act, merge=False, subset=False)


def _said(prepared: Prepared) -> dict[str, Any]:
    measured = prepared.validation
    return {
        "trained_on": prepared.trained_on,
        "validated_on": None if measured is None else measured.said,
        "loss": prepared.options.loss,
        "steps": prepared.training.steps,
    }


def _taken_over(options: Connect) -> Made:
    """Take the connections of a mask, over the features of equal stride."""
    assert options.mask is not None
    encoder = read_encoder(options, None)
    if options.classes is None:
        raise UsageError(f"{named('classes')}: is missing; nothing is searched, so no data say how many there are")
    place = options.mask / MASK if options.mask.is_dir() else options.mask
    network = _with_weights(options, encoder)
    mask = transfer(ConnectivityMask.load(place), find_taps(network, encoder.example, options.at or None))
    made = connect_by(mask, network, encoder.example, options.classes, seed=options.seed).eval()
    return encoder, options.classes, made, mask, {"mask": str(options.mask)}


def read_encoder(options: Connect, channels: int | None) -> Part:
    """Return what ENCODER asks for.

    Args:
        options: of the command.
        channels: of the data, for a built-in that is not told.

    Raises:
        UsageError: as `read_part`.
    """
    return read_part(
        options.encoder, "ENCODER", preset=options.preset, settings=options.settings, in_channels=options.in_channels,
        size=options.patch, size_option="patch", channels=channels,
    )  # fmt: skip


def _with_weights(options: Connect, encoder: Part) -> nn.Module:
    network = encoder.build(options.seed)
    if options.weights is not None:
        load_weights_(network, options.weights)
    return network


def _costs(mask: ConnectivityMask, encoder: Part, classes: int) -> dict[str, dict[str, int]]:
    """Return what decoders cost for an image: all connections, those that stay, and those evaluated the naive way."""
    shared: dict[str, Any] = {"width": mask.width, "out_channels": classes}
    image, taps = encoder.shape[1:], mask.features
    costs = (
        decoder_costs(taps, every_edge(len(taps)), image, **shared),
        decoder_costs(taps, mask.kept, image, **shared),
        decoder_costs(taps, mask.kept, image, naive=True, **shared),
    )
    return dict(zip(DECODERS, map(asdict, costs), strict=True))


def load_connected(run: str, encoder: str | None = None, classes: int = 0) -> Connected:
    """Build the network of a run folder with its weights; the factory later commands take as MODEL.

    Args:
        run: the folder.
        encoder: repeats the run's own ENCODER where that is neither a built-in nor a network of MONAI nor a run.
        classes: in the place of the run's, as `ranp transfer` asks; the last layer then has weights of its own.

    Raises:
        UsageError: no such run, a file that is not ours, weights that do not fit, or a factory to be repeated.
    """
    folder = Path(run)
    report, mask = read_json(folder / runs.REPORT), ConnectivityMask.load(folder / MASK)
    try:
        asked, known = Part.kept_in(folder, "encoder", report), report["encoder"]["model"]
        own = int(report["classes"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise UsageError(f"{folder / runs.REPORT}: not a report of `ranp connect`") from None
    if encoder is not None and encoder != known:
        raise UsageError(f"{run}: is over {known}, not {encoder}")
    whole = asked.build(trusted=encoder is not None)
    network = connect_by(mask, whole, asked.example, own)
    load_run_(network, folder / WEIGHTS)
    if classes not in (0, own):
        trained, network = network.state_dict(), connect_by(mask, whole, asked.example, classes)
        fresh = network.state_dict()
        network.load_state_dict({**fresh, **{k: v for k, v in trained.items() if fresh[k].shape == v.shape}})
    return network.eval()


def _page(report: dict[str, Any], picture: str) -> str:
    """Return the run as a page that loads nothing."""

    def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Html:
        cells = [element("tr", [element("td", cell) for cell in row]) for row in rows]
        return element("table", element("tr", [element("th", word) for word in head]), cells)

    title = f"A decoder over {report['encoder']['model']}"
    costs = [
        (name, f"{c['params']:,}", operations(c["macs"]), operations(c["upsampling"]), size(4 * c["activations"]))
        for name, c in report["decoders"].items()
    ]
    rows = [(f"stage {stage}", ", ".join(sources)) for stage, sources in report["connections"].items()]
    edges = report["edges"]
    return document(
        title,
        element("h1", title),
        element("p", f"An image of {spell(report['inputs'][0][1:])}; {gap_said(report)}.", class_="dim"),
        Html(picture),
        element("h2", f"{edges['kept']} connections of {edges['searched']}"),
        table(("stage", "takes"), rows),
        element("h2", "Decoders"),
        table(("decoder", "parameters", "multiply-adds", "upsampling", "activations in a training"), costs),
    )


def gap_said(report: dict[str, Any]) -> str:
    """Say how far dropped and kept gates are apart."""
    if report["gap"] is None:
        return "all gates are on one side of the threshold" if report["edges"]["searched"] else "nothing was searched"
    below, above = report["gap"]
    times = f", {above / below:.3g} times as large" if below else ""
    return f"largest gate dropped {below:.3g} of its range, smallest kept {above:.3g}{times}"
