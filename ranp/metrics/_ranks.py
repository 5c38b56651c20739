"""How often the right class is the first, or among the first five, by torchmetrics."""

from torch import Tensor

TOP = 5


def rank_figures(scores: Tensor, target: Tensor) -> dict[str, float]:
    """Compare scores of classes with the classes of samples.

    Args:
        scores: (N, classes); two or more.
        target: (N,) int64.

    Returns:
        `top1`, and `top5` where there are more than five classes: shares of the samples.

    >>> import torch
    >>> rank_figures(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    {'top1': 0.5}
    """
    from torchmetrics.functional.classification import multiclass_accuracy  # most of a second to import

    classes = scores.shape[1]
    wanted = {"top1": 1, **({"top5": TOP} if classes > TOP else {})}
    return {
        name: float(multiclass_accuracy(scores.double(), target, classes, top_k=k, average="micro"))
        for name, k in wanted.items()
    }


def class_accuracy(scores: Tensor, target: Tensor) -> list[float]:
    """Return for every class the share of its samples that are told to be it; NaN where it has none."""
    predicted = scores.argmax(1)
    return [
        float((predicted[target == number] == number).double().mean()) if (target == number).any() else float("nan")
        for number in range(scores.shape[1])
    ]
