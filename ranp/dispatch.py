"""A mode that sees every op that runs, without PyTorch's compiler, which is a second to import."""

from torch.utils._python_dispatch import TorchDispatchMode


class Mode(TorchDispatchMode):
    """A dispatch mode whose own code is never compiled, because no network runs compiled under it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether `__torch_dispatch__` is hidden from the compiler, which is imported for it."""
        return False
