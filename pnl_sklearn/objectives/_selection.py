"""Selection of pseudo-negative labels: the teacher's probabilities in, a mask out."""

from collections.abc import Callable
from numbers import Integral
from typing import ClassVar, Protocol, runtime_checkable

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from ._losses import candidate_loss, negative_learning_loss


@runtime_checkable
class Selection(Protocol):
    """Choice of pseudo-negative labels, with the loss that they are learned with.

    A plain function from probabilities to a mask does as well: its labels are learned
    with :func:`~pnl_sklearn.objectives.negative_learning_loss`.

    Attributes
    ----------
    loss : callable
        From logits and a mask, both of shape (n_samples, n_classes), to a scalar.
    """

    loss: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Select pseudo-negative labels.

        Parameters
        ----------
        probabilities : Tensor of shape (n_samples, n_classes)
            Predictions of the teacher, times the graph posterior if there is one.

        Returns
        -------
        negatives : bool Tensor of shape (n_samples, n_classes)
            True where the class is a pseudo-negative label ("not of class k").
        """


class RandomNegatives(BaseEstimator):
    """Selection of the paper: m of the C - 1 classes that are not the pseudo-label.

    They are drawn uniformly, without replacement, anew at each step.

    Parameters
    ----------
    n_negatives : int, default=2
        m, the number of pseudo-negative labels of a sample; C - 1 where that is less.

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
    capturable: ClassVar[bool] = True

    def __init__(self, n_negatives=2):
        self.n_negatives = n_negatives

    def __call__(
        self, probabilities: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw pseudo-negative labels.

        Parameters
        ----------
        probabilities : Tensor of shape (n_samples, n_classes)
            Predictions of the teacher.
        generator : torch.Generator, default=None
            Source of random numbers. None takes torch's default generator, which
            ``fit`` seeds by ``random_state``.

        Returns
        -------
        negatives : bool Tensor of shape (n_samples, n_classes)
        """
        n_negatives = _check_n_negatives(self.n_negatives, probabilities)
        order = torch.rand(
            probabilities.shape, generator=generator, device=probabilities.device
        )
        order.scatter_(1, probabilities.argmax(dim=1, keepdim=True), 2.0)
        return _lowest(order, n_negatives)


class LowestNegatives(BaseEstimator):
    """The m classes that the teacher finds least probable.

    Parameters
    ----------
    n_negatives : int, default=2
        m, the number of pseudo-negative labels of a sample; C - 1 where that is less.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn import LowestNegatives
    >>> LowestNegatives(n_negatives=1)(torch.tensor([[0.7, 0.2, 0.1]]))
    tensor([[False, False,  True]])
    """

    loss = staticmethod(negative_learning_loss)
    capturable: ClassVar[bool] = True

    def __init__(self, n_negatives=2):
        self.n_negatives = n_negatives

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Select pseudo-negative labels.

        Parameters
        ----------
        probabilities : Tensor of shape (n_samples, n_classes)
            Predictions of the teacher.

        Returns
        -------
        negatives : bool Tensor of shape (n_samples, n_classes)
        """
        n_negatives = _check_n_negatives(self.n_negatives, probabilities)
        return _lowest(probabilities, n_negatives)


class AdaptiveNegatives(BaseEstimator):
    """All classes outside the smallest set whose probability reaches 1 - tolerance.

    The classes in the set are the candidates. A confident prediction yields C - 1
    pseudo-negative labels, which is a pseudo-label; an uncertain one yields few or
    none. The student learns that "the class is one of the candidates"
    (:func:`~pnl_sklearn.objectives.candidate_loss`).

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
    capturable: ClassVar[bool] = True

    def __init__(self, tolerance=0.05):
        self.tolerance = tolerance

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Select pseudo-negative labels.

        Parameters
        ----------
        probabilities : Tensor of shape (n_samples, n_classes)
            Predictions of the teacher.

        Returns
        -------
        negatives : bool Tensor of shape (n_samples, n_classes)
        """
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


def selection_loss(select: Callable) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss that a selection's labels are learned with."""
    return select.loss if isinstance(select, Selection) else negative_learning_loss


def product_of_experts(probabilities: Tensor, log_posterior: Tensor) -> Tensor:
    """Multiply predictions by a posterior and normalize.

    Parameters
    ----------
    probabilities : Tensor of shape (n_samples, n_classes)
    log_posterior : Tensor of shape (n_samples, n_classes)
        Logarithms, all finite; they need not be normalized.

    Returns
    -------
    probabilities : Tensor of shape (n_samples, n_classes)

    References
    ----------
    G. Hinton, "Training Products of Experts by Minimizing Contrastive Divergence",
    Neural Computation 14, 2002.
    """
    return (probabilities.log() + log_posterior).softmax(dim=1)


def mask_and_renormalize(probabilities: Tensor, excluded: Tensor) -> Tensor:
    """Set excluded classes to probability 0 and normalize the others.

    Parameters
    ----------
    probabilities : Tensor of shape (n_samples, n_classes)
    excluded : bool Tensor of shape (n_samples, n_classes)
        True where a sample is known not to be of the class; never for all of them.

    Returns
    -------
    probabilities : Tensor of shape (n_samples, n_classes)
        Uniform over the remaining classes where these had no probability.
    """
    tiny = torch.finfo(probabilities.dtype).tiny
    left = probabilities.clamp_min(tiny).masked_fill(excluded, 0.0)
    return left / left.sum(dim=1, keepdim=True)


def _check_n_negatives(n_negatives: int, probabilities: Tensor) -> int:
    if not isinstance(n_negatives, Integral) or n_negatives < 1:
        raise ValueError(
            f"n_negatives={n_negatives!r} is less than 1 or not whole; it is the "
            "number of pseudo-negative labels of a sample, 2 for example."
        )
    return min(n_negatives, probabilities.shape[1] - 1)


def _lowest(order: Tensor, n: int) -> Tensor:
    """Mask the n lowest entries of each sample."""
    lowest = order.topk(n, dim=1, largest=False).indices
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, lowest, True)
