"""What `ranp inspect` asks for: the channel graph of a network told by modules, and pictures of it."""

from typing import Any

from ranp.files import check_file_place, write_text
from ranp.graph import couplings
from ranp.graph.build import trace
from ranp.jobs._subject import read_subject
from ranp.jobs.options import Inspect, Network
from ranp.report import drawing


def look(options: Inspect) -> dict[str, Any]:
    """Trace the network, write the pictures that are asked for, and return the groups in plain values.

    Raises:
        UsageError: a mistake in the options, or an output that exists.
        UnsupportedError: the network can't be traced.
    """
    for option, path in (("dot", options.dot), ("svg", options.svg)):
        if path is not None:
            check_file_place(path, force=options.force, option=option)
    subject = read_subject(options.only(Network), full=options.full, size=options.input)
    graph = trace(subject.network, subject.inputs, freeze=options.freeze, outputs=options.outputs)
    groups = couplings.couplings(graph)
    chosen = couplings.about(groups, options.module) if options.module else groups
    if options.dot is not None:
        write_text(options.dot, drawing.dot(chosen))
    if options.svg is not None:
        write_text(options.svg, drawing.svg(chosen, couplings.layers_in_order(graph)))
    return {"model": options.model, **couplings.to_dict(graph, chosen)}
