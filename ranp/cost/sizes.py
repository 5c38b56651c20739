"""Sizes of tensors as polynomials in widths."""

from math import prod

from ranp.cost.polynomials import Polynomial, Widths, as_polynomial
from ranp.graph.flow import Flow, varying
from ranp.graph.graph import Graph
from ranp.graph.tape import Record


class Sizes:
    """How many elements the tensors of a graph have under a plan.

    Args:
        graph: of the network.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.widths = Widths(graph)

    def elements(self, flow: Flow) -> Polynomial:
        """Return the number of elements of a tensor."""
        covered: set[int] = set()
        total = as_polynomial(1)
        for units in flow.fields:
            axes = varying(units)
            if covered.intersection(axes):  # what two fields say about one dimension is no product
                return self.widths.other(lambda kept: prod(self.graph.slim_shape(flow, kept)))
            covered.update(axes)
            total = total * self.widths.of(units)
        return total * prod(size for axis, size in enumerate(flow.shape) if axis not in covered)

    def axis(self, flow: Flow, dim: int, groups: int = 1) -> Polynomial:
        """Return the length of one dimension, or of the first of its equal groups."""
        dim %= len(flow.shape)
        over = flow.over(dim)
        if not over:
            return as_polynomial(flow.shape[dim] // groups)
        # A field over further dimensions is tied along them by whatever reads channels.
        units = over[0][tuple(slice(None) if axis == dim else 0 for axis in range(over[0].ndim))]
        return self.widths.of(units.reshape(groups, -1)[0])

    def channels(self, flow: Flow) -> Polynomial:
        """Return the length of the channel dimension, the second one; of a vector, its length."""
        return self.axis(flow, 1 if len(flow.shape) > 1 else 0) if flow.shape else as_polynomial(1)

    def parameter(self, name: str) -> Polynomial:
        """Return the number of elements of a parameter."""
        members = self.graph.parameters.get(name)
        if members is None:
            return as_polynomial(prod(self.graph.shapes[name]))
        lengths = dict(members.dims)
        if members.grouped is not None:
            lengths[1] = members.grouped[0]  # the plan keeps equally many of every group
        total = as_polynomial(1)
        for dim, size in enumerate(members.shape):
            total = total * (self.widths.of(lengths[dim]) if dim in lengths else size)
        return total

    def source(self, record: Record) -> Polynomial:
        """Return the number of elements of an op's first operand."""
        if record.inputs:
            return self.elements(record.inputs[0])
        known = [name for name in record.weights if name in self.graph.parameters or name in self.graph.shapes]
        return self.parameter(known[0]) if known else self.elements(record.outputs[0])
