"""A training in two processes against the same in one."""

from pathlib import Path

import pytest
import torch
from processes import errors_in, torchrun
from torch import nn

from ranp.errors import UsageError
from ranp.options import Training
from ranp.training import train_

SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import nn
from ranp import processes
from ranp.commands._console import guarded
from ranp.options import Training
from ranp.training import Keep, train_

class Net(nn.Module):
    def __init__(self, dropout=0.0, norm=False):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.never = nn.Linear(2, 2)  # a parameter that the loss does not depend on
        self.middle = nn.Sequential(nn.BatchNorm2d(6) if norm else nn.Identity(), nn.ReLU(), nn.Dropout(dropout))

    def forward(self, x):
        return self.last(self.middle(self.first(x)))

def network(**options):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Net(**options).double()

class Drawn:  # from the global generator, as a user's transforms
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        while True:
            yield torch.randn(self.size, 1, 6, 6, dtype=torch.float64), torch.randint(0, 3, (self.size, 6, 6))

def loss(outputs, target):
    return F.cross_entropy(outputs, target)

def validate(model):
    assert processes.rank() == 0, "the first alone measures"
    return {"score": float(sum(p.detach().sum() for p in model.parameters()))}

def train(steps=7, net=None, size=4, **options):
    own = {n: options.pop(n) for n in list(options) if n in Training.model_fields}
    training = Training(steps=steps, lr=0.05, weight_decay=0.01, **own)
    return train_(net or network(), Drawn(size), loss, training, seed=5, **options)

def near(one, other):
    return one.keys() == other.keys() and all(torch.allclose(one[n], other[n], rtol=1e-9, atol=1e-11) for n in one)

def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)

"""
AGREES = """
ways = [{}, {"accumulate": 3}, {"optimizer": "sgd", "momentum": 0.9, "clip": 0.1}, {"ema": 0.9},
        {"validate": validate, "validate_every": 3}]
alone = [train(**way) for way in ways]
with processes.together():
    for way, one in zip(ways, alone, strict=True):
        both = train(**way)
        assert near(both.last, one.last), way
        assert near(both.best, one.best), way
        assert torch.allclose(torch.tensor([p["loss"] for p in both.history.curve]),
                              torch.tensor([p["loss"] for p in one.history.curve])), way
        assert both.history.samples == one.history.samples
        assert [v["step"] for v in both.history.validations] == [v["step"] for v in one.history.validations]
        told = processes.gather(both.last)
        assert same(told[0], told[1]), way

    class Stop(Exception):
        pass

    def stopping(moment):
        if moment.step == 4:
            raise Stop

    path = Path(sys.argv[1]) / "state"
    options = lambda: {"net": network(dropout=0.4, norm=True), "ema": 0.9, "validate": validate, "validate_every": 2}
    whole = train(**options())
    try:
        train(**options(), keep=Keep(path, 2), watch=stopping)
    except Stop:
        pass
    later = train(**options(), keep=Keep(path, 2, resume=True))
    assert later.history.samples == whole.history.samples
    assert later.history.curve == whole.history.curve
    if processes.rank() == 0:
        assert same(later.last, whole.last) and same(later.best, whole.best)

    drawn = []  # what dropout draws is another thing in each
    class Spy(nn.Dropout):
        def forward(self, x):
            y = super().forward(x)
            drawn.append((y == 0).tolist())
            return y
    net = network()
    net.middle[2] = Spy(0.5)
    train(2, net)
    ours, theirs = processes.gather(drawn)
    assert len(ours) == 2 and all(one != other for one, other in zip(ours, theirs, strict=True))
    try:
        train(size=3)
    except Exception as error:
        assert str(error) == "batch_size=3: expected a multiple of 2, the number of processes"
    else:
        raise AssertionError
print("well" * processes.is_first(), end="")
"""
DIES = """
def dying(moment):
    if moment.step == 4 and processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)

with guarded(), processes.together():
    train(8, keep=Keep(Path(sys.argv[1]) / "state", 3), watch=dying)
"""


def test_two_processes_train_to_the_weights_of_one(tmp_path: Path) -> None:
    (tmp_path / "agrees.py").write_text(SCRIPT + AGREES)
    code, out, err = torchrun(tmp_path / "agrees.py", tmp_path)
    assert (code, out) == (0, "well"), err


def test_a_killed_process_ends_a_training_and_the_last_state_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(SCRIPT + DIES)
    code, _, err = torchrun(tmp_path / "dies.py", tmp_path)
    assert code == 1
    assert len(errors_in(err)) == 1, err
    assert "another process of this run has ended" in errors_in(err)[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dies.py", "state"]
    (tmp_path / "goes_on.py").write_text(SCRIPT + GOES_ON)
    code, out, err = torchrun(tmp_path / "goes_on.py", tmp_path)
    assert (code, out) == (0, "well"), err


GOES_ON = """
with processes.together():
    whole = train(8)
    later = train(8, keep=Keep(Path(sys.argv[1]) / "state", 3, resume=True))
    assert same(later.last, whole.last)
print("well" * processes.is_first(), end="")
"""


def test_synchronised_norms_are_refused_where_torch_has_none() -> None:
    with pytest.raises(
        UsageError, match="sync_bn=True: torch's SyncBatchNorm works on GPUs only; expected device='cuda'"
    ):
        train_(nn.Linear(2, 2), [], lambda *_: torch.zeros(()), Training(steps=1, sync_bn=True))
