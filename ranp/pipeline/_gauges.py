"""What limits need beside the graph: memory at its peak and time, of plans before they are built and of what was."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import nn

from ranp import cost
from ranp.graph.build import trace
from ranp.graph.graph import Graph
from ranp.inputs import Inputs
from ranp.options import Selection
from ranp.selection import FIGURES

_PLAIN, _ON_CPU = cost.Step(), cost.stopwatch("cpu")


@dataclass(frozen=True)
class Gauges:
    """How networks are followed and measured.

    Args:
        inputs: costs are counted at their shapes.
        step: of the training whose memory is limited.
        timer: takes the time of a network, or of a layer.
    """

    inputs: Inputs
    step: cost.Step = _PLAIN
    timer: cost.Timer = _ON_CPU

    def price(self, graph: Graph, model: nn.Module, options: Selection) -> cost.CostFunction:
        """Return what plans of a network cost, with the meters that options ask for."""
        price, names = cost.compile(graph), set(options.limits)
        if "infer_memory" in names:
            price.meters["infer_memory"] = cost.Peak.of(graph, price, model, self.inputs, None)
        if "train_memory" in names:
            price.meters["train_memory"] = cost.Peak.of(graph, price, model, self.inputs, self.step)
        if "latency" in names or options.reweight == "latency":
            price.meters["latency"] = cost.LatencyTable.measured(graph, price, model, self.inputs, self.timer)
        return price

    def built(self, network: nn.Module, names: Iterable[str]) -> dict[str, int]:
        """Return what a network costs itself, by the name of each limit: counted, followed, and measured."""
        graph = trace(network, self.inputs)
        counted = cost.compile(graph)(np.ones(graph.count, dtype=bool))
        found = {}
        for name in names:
            if name == "infer_memory":
                found[name] = cost.inference_peak(network, self.inputs)
            elif name == "train_memory":
                found[name] = cost.training_peak(network, self.inputs, self.step)
            else:
                found[name] = (
                    round(self.timer(network, self.inputs)) if name == "latency" else getattr(counted, FIGURES[name])
                )
        return found
