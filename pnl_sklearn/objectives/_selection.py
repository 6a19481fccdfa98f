"""Selections of pseudo-negative labels: the partner's probabilities in, a mask out.

A selection is any callable that maps probabilities of shape (n_rows, n_classes) to a
boolean mask of the same shape, True where the class is a pseudo-negative label ("this
row is not of class k"). Its attribute ``loss``, where it has one, is the loss that its
masks are learned with; :func:`~pnl_sklearn.objectives.negative_learning_loss` otherwise.
"""

from collections.abc import Callable
from numbers import Integral

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from ._losses import candidate_loss, negative_learning_loss


class RandomNegatives(BaseEstimator):
    """The paper's selection: m of the C - 1 classes that are not the pseudo-label.

    They are drawn uniformly, without replacement, anew at each step.

    Parameters
    ----------
    n_negatives : int, default=2
        m, the number of pseudo-negative labels of a row; C - 1 where that is less.

    References
    ----------
    H. Xu et al., "Semi-Supervised Learning with Pseudo-Negative Labels for Image
    Classification", Knowledge-Based Systems 260, 2023.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn import RandomNegatives
    >>> probabilities = torch.tensor([[0.7, 0.2, 0.1]])
    >>> RandomNegatives(n_negatives=2)(probabilities)
    tensor([[False,  True,  True]])
    """

    loss = staticmethod(negative_learning_loss)

    def __init__(self, n_negatives=2):
        self.n_negatives = n_negatives

    def __call__(
        self, probabilities: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the mask.

        Parameters
        ----------
        probabilities : Tensor of shape (n_rows, n_classes)
            Predictions of the partner.
        generator : torch.Generator, default=None
            Source of the draws; torch's default generator if None (inside ``fit`` that
            is a fork, seeded by ``random_state``).

        Returns
        -------
        negatives : bool Tensor of shape (n_rows, n_classes)
        """
        n_negatives = _count(self.n_negatives, probabilities)
        order = torch.rand(
            probabilities.shape, generator=generator, device=probabilities.device
        )
        order.scatter_(1, probabilities.argmax(dim=1, keepdim=True), 2.0)
        return _first(order, n_negatives)


class LowestNegatives(BaseEstimator):
    """The m classes that the partner finds least probable.

    Parameters
    ----------
    n_negatives : int, default=2
        m, the number of pseudo-negative labels of a row; C - 1 where that is less.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn import LowestNegatives
    >>> LowestNegatives(n_negatives=1)(torch.tensor([[0.7, 0.2, 0.1]]))
    tensor([[False, False,  True]])
    """

    loss = staticmethod(negative_learning_loss)

    def __init__(self, n_negatives=2):
        self.n_negatives = n_negatives

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Return the mask, bool of shape (n_rows, n_classes), for probabilities so."""
        n_negatives = _count(self.n_negatives, probabilities)
        return _first(probabilities, n_negatives)


class AdaptiveNegatives(BaseEstimator):
    """All classes outside the smallest set whose probability reaches 1 - tolerance.

    A confident row yields C - 1 pseudo-negative labels, which is a pseudo-label; a row
    about which the partner knows nothing yields none. The student learns that "the
    class is one of the candidates" (:func:`~pnl_sklearn.objectives.candidate_loss`).

    Parameters
    ----------
    tolerance : float, default=0.05
        Probability, in (0, 1), that the candidates may miss.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn import AdaptiveNegatives
    >>> probabilities = torch.tensor([[0.97, 0.02, 0.01], [0.50, 0.48, 0.02]])
    >>> AdaptiveNegatives(tolerance=0.05)(probabilities)
    tensor([[False,  True,  True],
            [False, False,  True]])
    """

    loss = staticmethod(candidate_loss)

    def __init__(self, tolerance=0.05):
        self.tolerance = tolerance

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Return the mask, bool of shape (n_rows, n_classes), for probabilities so."""
        if not 0 < self.tolerance < 1:
            raise ValueError(
                f"AdaptiveNegatives: tolerance={self.tolerance!r} is not between 0 and "
                "1; it is the probability that the candidate classes may miss, 0.05 "
                "for example."
            )
        ordered, classes = probabilities.float().sort(dim=1, descending=True)
        mass_before = ordered.cumsum(dim=1) - ordered
        outside = mass_before >= 1 - self.tolerance
        outside[:, 0] = False
        return torch.zeros_like(outside).scatter_(1, classes, outside)


SELECTIONS: dict[str, Callable] = {
    "adaptive": AdaptiveNegatives,
    "random": RandomNegatives,
    "lowest": LowestNegatives,
}


def product_of_experts(probabilities: Tensor, log_beliefs: Tensor) -> Tensor:
    """Multiply predictions by beliefs and scale them to sum to 1.

    Parameters
    ----------
    probabilities : Tensor of shape (n_rows, n_classes)
    log_beliefs : Tensor of shape (n_rows, n_classes)
        Logarithms; of all classes finite.

    Returns
    -------
    probabilities : Tensor of shape (n_rows, n_classes)
    """
    return (probabilities.log() + log_beliefs).softmax(dim=1)


def mask_and_renormalize(probabilities: Tensor, excluded: Tensor) -> Tensor:
    """Take excluded classes out of predictions and scale the others to sum to 1.

    Parameters
    ----------
    probabilities : Tensor of shape (n_rows, n_classes)
    excluded : bool Tensor of shape (n_rows, n_classes)
        True where a row is known not to be of the class; never for all of them.

    Returns
    -------
    probabilities : Tensor of shape (n_rows, n_classes)
        Uniform over the classes left where these had no probability.
    """
    tiny = torch.finfo(probabilities.dtype).tiny
    left = probabilities.clamp_min(tiny).masked_fill(excluded, 0.0)
    return left / left.sum(dim=1, keepdim=True)


def _count(n_negatives: int, probabilities: Tensor) -> int:
    if not isinstance(n_negatives, Integral) or n_negatives < 1:
        raise ValueError(
            f"n_negatives={n_negatives!r} is less than 1 or not whole; it is the "
            "number of pseudo-negative labels of a row, 2 for example."
        )
    return min(n_negatives, probabilities.shape[1] - 1)


def _first(order: Tensor, n: int) -> Tensor:
    """Mask of the n lowest entries of each row."""
    lowest = order.topk(n, dim=1, largest=False).indices
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, lowest, True)
