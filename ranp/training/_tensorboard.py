"""Curves of a training as events that TensorBoard shows, by torch's own writer of them."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ranp.errors import UsageError, named, need
from ranp.training._loop import Moment


class Events:
    """Writes where a training stands into a folder; called after every step, as `train_`'s `watch`.

    The loss, the learning rate and the speed are written after every step, each validation once. Of several rounds the
    steps count on.

    Args:
        folder: of the events, made if it is not there.

    Raises:
        MissingExtra: TensorBoard is not installed.
        UsageError: the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        need("tensorboard", "tensorboard")
        self._folder = folder
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def __call__(self, moment: Moment) -> None:
        """Write a step."""
        step = moment.before + moment.step
        writer = self._begun(step)
        values = {"loss": moment.loss, "learning rate": moment.rate, "samples per second": moment.per_second}
        if moment.measured == moment.step:
            values |= {f"validation/{name}": value for name, value in moment.validation.items()}
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    def _begun(self, step: int) -> Any:
        """Return the writer; what a training that was stopped wrote from this step on is taken back."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            try:
                self._writer = SummaryWriter(str(self._folder), purge_step=step)
            except OSError as error:
                raise UsageError(f"{named('tensorboard', self._folder)}: {error.strerror}") from None
        return self._writer
