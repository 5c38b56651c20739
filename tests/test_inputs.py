"""What a network is given: the range of whole numbers goes with them through every change of shape."""

import pytest
import torch
from torch import nn

from ranp.errors import UsageError
from ranp.inputs import InputSpec, describe, draw, generator_of, range_of, ranged, refill, reshaped
from ranp.models.request import read_request


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool])
def test_whole_numbers_are_drawn_over_their_range(dtype: torch.dtype) -> None:
    below = 2 if dtype == torch.bool else 5
    given = ranged(torch.empty(40, 40, dtype=dtype, device="meta"), below)
    drawn = draw((given,), generator_of(0))[0]
    assert drawn.dtype == dtype
    assert sorted(drawn.unique().int().tolist()) == list(range(below))
    again = draw((drawn,), generator_of(1))[0]
    assert range_of(again) == below
    assert not torch.equal(again, drawn)
    assert torch.equal(draw((given,), generator_of(0))[0], drawn)


def test_whole_numbers_of_no_range_stay_as_they_are() -> None:
    given = torch.arange(6)
    assert torch.equal(draw(given, generator_of(0)), given)
    assert range_of(ranged(torch.zeros(3), 5)) is None


def test_the_range_is_described_kept_and_reshaped() -> None:
    given = {"ids": ranged(torch.zeros(2, 6, dtype=torch.int64), 50), "image": torch.zeros(2, 1, 4, 4)}
    described = describe(given)
    assert described == {
        "ids": InputSpec(shape=(2, 6), dtype="int64", below=50),
        "image": InputSpec(shape=(2, 1, 4, 4), dtype="float32"),
    }
    again = refill(described, InputSpec.empty)
    assert isinstance(again, dict)
    assert range_of(reshaped(again, lambda shape: (3, *shape[1:]))["ids"]) == 50
    assert InputSpec(shape=(1,), dtype="float32").model_dump() == {"shape": (1,), "dtype": "float32"}


@pytest.mark.parametrize(("dtype", "below"), [("int8", 129), ("uint8", 257), ("bool", 3)])
def test_a_plan_with_a_range_that_its_dtype_has_not_is_refused(dtype: str, below: int) -> None:
    with pytest.raises(UsageError, match=f"plan: input dtype {dtype} holds no {below - 1}"):
        InputSpec(shape=(1,), dtype=dtype, below=below).empty()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.many, self.few, self.body = nn.Embedding(30, 2), nn.Embedding(7, 2), nn.Conv2d(1, 2, 3).double()
        self.half = nn.Linear(2, 2).half()


def test_what_is_left_open_is_the_networks() -> None:
    asked = read_request("a:Net", size=("image=1x8x8", "ids=6:int64", "mask=6:bool", "low=2:float16"))
    assert asked.shapes == ((1, 1, 8, 8), (1, 6), (1, 6), (1, 2))
    assert asked.names == ("image", "ids", "mask", "low")
    fitted = asked.fitted(nn.Sequential(nn.Conv2d(1, 2, 3).double(), Net()))
    assert fitted.dtypes == (torch.float64, torch.int64, torch.bool, torch.float16)
    assert fitted.below == (None, 7, 2, None)
    inputs = fitted.inputs(seed=3)
    assert isinstance(inputs, dict)
    assert list(inputs) == ["image", "ids", "mask", "low"]
    assert inputs["ids"].max() < 7
    assert asked.fitted(nn.Linear(1, 1)).below == (None, 2, 2, None)
    assert asked.fitted(nn.ReLU()).dtypes[0] == torch.float32
