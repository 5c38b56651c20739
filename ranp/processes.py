"""Several processes that work on one thing: which of them this is, and what they tell each other, in a fixed order.

`torchrun` starts them and says in the environment who each is. They are one until `together` is entered, so that a
program of the user's own that calls ranp in one of its processes is left alone. What is gathered is in the order of
ranks, and so the same at each.

A message of an error is said by the first process that has one, and by no other.
"""

import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ranp.errors import ProcessLost, UsageError, named, words_of

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")
Item = TypeVar("Item")
_LONGEST = timedelta(days=1)  # that one may work while others wait, as in a validation; the dead are known at once
_joined = False


def started() -> int:
    """Return how many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return started() == 1 or int(os.environ["RANK"]) == 0


def count() -> int:
    """Return how many processes work together."""
    return started() if _joined else 1


def rank() -> int:
    """Return this process' number among them, from 0."""
    return int(os.environ["RANK"]) if _joined else 0


@contextmanager
def together() -> Iterator[None]:
    """Work together with the other processes that torchrun started: inside, each does its share.

    After an error, by which the process is to end, torchrun's word to end is not heeded any more: the error is to be
    said first.

    Raises:
        ProcessLost: one of them has ended.
    """
    global _joined
    if started() == 1:
        yield
        return
    import torch
    from torch import distributed

    def end(*_: object) -> None:
        raise ProcessLost(_ENDED)

    before = signal.signal(signal.SIGTERM, end)  # torchrun's word when another has failed
    nccl = torch.cuda.is_available() and distributed.is_nccl_available()
    with attended():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=_LONGEST)
    _joined = True
    try:
        yield
        gather(None)  # none leaves while another still works, and may fail
        distributed.destroy_process_group()  # not after an error: it could wait for the dead
        signal.signal(signal.SIGTERM, before)
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    finally:
        _joined = False


_ENDED = "another process of this run has ended, and all end with it; what it said stands above"


@contextmanager
def attended() -> Iterator[None]:
    """Say in a line that another process has ended, where torch finds that it can't be reached.

    Raises:
        ProcessLost: likewise.
    """
    try:
        yield
    except RuntimeError as error:
        from torch.distributed import DistError

        if started() > 1 and (isinstance(error, DistError) or "gloo" in str(error)):
            raise ProcessLost(_ENDED) from error
        raise


def speaks() -> bool:
    """Whether an error of this process is to be said: the first that asks is told so, as all end by one error."""
    if started() == 1:
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # the store is rank 0's, and may be gone
        return is_first()
    try:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), None, False)
        said: int = store.add(f"ranp/said/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1)
    except RuntimeError:
        return is_first()
    return said == 1


def gather(value: Value) -> list[Value]:
    """Return what each process gives, by rank.

    Raises:
        ProcessLost: one of them has ended.
    """
    if count() == 1:
        return [value]
    from torch import distributed

    told: list[Any] = [None] * count()
    with attended():
        distributed.all_gather_object(told, value)
    return told


def from_first(make: Callable[[], Value]) -> Value:
    """Let the first process make something, an error too, and return it at all.

    Raises:
        ProcessLost: one of them has ended.
    """
    if count() == 1:
        return make()
    value, error = None, None
    try:
        value = make() if rank() == 0 else None
    except Exception as raised:
        error = raised
    made, failed = gather((value, error if error is None else _sendable(error)))[0]
    if failed is not None:
        raise error or failed
    return made  # type: ignore[return-value]


def each_alone(work: Callable[[Item], Value], items: Sequence[Item]) -> list[Value]:
    """Let each process do its share of items, and return what came of every one, in their order, at all.

    Item k is that of rank k mod n, which works on it as a process by itself. An error of one is raised at all when the
    others are done, that of the earliest item where there are several.

    Raises:
        ProcessLost: one of them has ended.
    """
    global _joined
    own, count_, joined = rank(), count(), _joined
    made: dict[int, Value] = {}
    failed: tuple[int, Exception] | None = None
    _joined = False
    try:
        for number in range(own, len(items), count_):
            try:
                made[number] = work(items[number])
            except Exception as error:
                failed = number, error
                break
    finally:
        _joined = joined
    told = gather((made, failed if failed is None or count_ == 1 else (failed[0], _sendable(failed[1]))))
    wrong = [error for _, error in told if error is not None]
    if wrong:
        number, sent = min(wrong, key=lambda error: error[0])
        raise failed[1] if failed is not None and failed[0] == number else sent
    whole = {number: value for values, _ in told for number, value in values.items()}
    return [whole[number] for number in range(len(items))]


OTHERS: Any = type("Others", (), {"__repr__": lambda _: "OTHERS"})()
"""Stands in the place of a batch that is another process' to work on, or of what is made of it."""


def share(batches: Iterable[Any], rank: int, count: int) -> Iterable[Any]:
    """Return the batches that are one process' and OTHERS in the place of the rest; batch k is that of rank k mod n.

    Batches with a method `shared(rank, count)` are asked for those of the rank alone; of others all are drawn.
    """
    if count == 1:
        return batches
    if hasattr(batches, "shared"):
        own: Iterable[Any] = batches.shared(rank, count)
        return own
    return (batch if number % count == rank else OTHERS for number, batch in enumerate(batches))


def in_order(parts: Iterable[Mapping[Any, "Tensor"]]) -> Iterator[Mapping[Any, "Tensor"]]:
    """Yield every process' parts at all, in their order: part k is that of rank k mod n.

    Args:
        parts: float64 tensors by name, or OTHERS. An error of one is raised at all, that of the
            earliest part where there are several.

    Raises:
        ProcessLost: one of them has ended.
    """
    own = iter(parts)
    if count() == 1:
        yield from own
        return
    more = True
    while more:
        part, error = None, None
        try:
            for place in range(count()):
                item = next(own, _END)
                if item is _END:
                    more = False
                    break
                part = item if place == rank() else part
        except Exception as raised:
            error = raised
        shapes = None if part is None else {name: tuple(tensor.shape) for name, tensor in part.items()}
        told = gather((shapes, None if error is None else _sendable(error), _place_of(part)))
        for owner, (_, failed, _) in enumerate(told):
            if failed is not None:
                raise error if owner == rank() and error is not None else failed
        here = next((where for _, _, where in told if where is not None), "cpu")
        for owner, (sizes, _, _) in enumerate(told):
            if sizes is not None:
                yield _sent(part, sizes, owner, here if part is None else _place_of(part))


_END: Any = object()


def _place_of(part: Mapping[Any, "Tensor"] | None) -> str | None:
    return None if not part else next(iter(part.values())).device.type


def _sent(
    part: Mapping[Any, "Tensor"] | None, shapes: Mapping[Any, tuple[int, ...]], owner: int, where: Any
) -> Mapping[Any, "Tensor"]:
    """Send a part from one to all, as one vector."""
    import torch
    from torch import distributed

    sizes = [int(torch.Size(shape).numel()) for shape in shapes.values()]
    vector = torch.empty(sum(sizes), dtype=torch.float64, device=where)
    if owner == rank():
        assert part is not None
        vector = torch.cat([part[name].reshape(-1) for name in shapes])
    with attended():
        distributed.broadcast(vector, owner)
    pieces = vector.split(sizes)
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def mean(tensor: "Tensor") -> "Tensor":
    """Return the mean of the processes' tensors, at all; one that is not finite at any is not at all."""
    if count() == 1:
        return tensor
    from torch import distributed

    total = tensor.detach().clone()
    with attended():
        distributed.all_reduce(total)
    return total / count()


def share_of(size: int) -> slice:
    """Return which samples of a batch are this process'.

    Raises:
        UsageError: the batch can't be divided among the processes.
    """
    each, left = divmod(size, count())
    if left or not each:
        raise UsageError(f"{named('batch_size', size)}: expected a multiple of {count()}, the number of processes")
    return slice(rank() * each, (rank() + 1) * each)


def own_device(word: str) -> str:
    """Return the device of this process: `cuda` is a GPU of its own.

    Raises:
        UsageError: there are fewer GPUs than processes on this machine, or one is named for all.
    """
    if count() == 1 or not word.startswith("cuda"):
        return word
    import torch

    here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if word != "cuda":
        raise UsageError(f"{named('device', word)}: {here} processes need a GPU each; expected cuda")
    if gpus < here:
        raise UsageError(f"{named('device', word)}: {here} processes need a GPU each, and there are {gpus}")
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # where what is received is put
    return f"cuda:{os.environ['LOCAL_RANK']}"


def _sendable(error: Exception) -> Exception:
    """Return an error as another process can be told it."""
    try:
        copied = pickle.loads(pickle.dumps(error))
    except Exception:
        copied = None
    return error if type(copied) is type(error) else RuntimeError(f"{type(error).__name__}: {words_of(error)}")
