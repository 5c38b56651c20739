"""What runs of one network share: an op that is given the same again is known, and says what its rule would."""

from typing import Any

import pytest
import torch
from graph_zoo import every

from ranp.graph.build import trace
from ranp.graph.graph import Graph
from ranp.graph.trace import Trace

CASES = ["CalledTwice", "CircularPadding", "CountsPadding", "DeepSupervision", "HeadsByHand", "ReadsAValue", "Siamese"]
CASES += ["TrainingHead", "monai.SegResNetDS", "monai.ViT"]


class Forgetful(dict[Any, Any]):
    """Knows nothing again."""

    def get(self, key: Any, default: Any = None) -> Any:
        return default

    def copy(self) -> "Forgetful":
        return Forgetful()


def told(graph: Graph) -> dict[str, Any]:
    """Return what a graph says of a network, in values that can be compared."""
    return {
        "groups": [(group.name, group.units.tolist()) for group in graph.groups],
        "parameters": {
            name: {dim: units.tolist() for dim, units in members.dims.items()}
            for name, members in graph.parameters.items()
        },
        "frozen": graph.frozen.tolist(),
        "balance": sorted((rows.shape, rows.tobytes()) for rows in graph.balance),
        "sizes": [size.name for size in graph.sizes],
        "notes": graph.notes,
        "runs": {
            name: [(record.op, record.module, record.site, record.mixing) for record in run.records]
            for name, run in graph.runs.items()
        },
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_an_op_that_is_known_says_what_its_rule_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = every()[name]
    torch.manual_seed(0)
    net = case.build().eval()
    known = told(trace(net, case.inputs()))
    start = Trace.__init__

    def forgetful(self: Trace, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        self.known = Forgetful()

    monkeypatch.setattr(Trace, "__init__", forgetful)
    assert known == told(trace(net, case.inputs()))
