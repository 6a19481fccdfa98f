"""Selection of pseudo-negative labels from the teacher's probabilities."""

from collections.abc import Callable
from numbers import Integral
from typing import ClassVar, Protocol, runtime_checkable

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from ._losses import candidate_loss, negative_learning_loss


@runtime_checkable
class Selection(Protocol):
    """Interface of a selection of pseudo-negative labels.

    A function that maps probabilities to a mask can be used, too. Its labels are
    learned with :func:`~pnl_sklearn.objectives.negative_learning_loss`.

    A class may declare ``capturable = True`` if it does the same operations on every
    batch. A training step with it can then be captured as a CUDA graph.

    Attributes
    ----------
    loss : callable
        Loss of the pseudo-negative labels. It maps the student's logits and the bool
        mask, both of shape (n_samples, n_classes), to a scalar.
    """

    loss: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Select pseudo-negative labels.

        Parameters
        ----------
        probabilities : Tensor of shape (n_samples, n_classes)
            Predictions of the teacher, multiplied by the graph posterior if there is
            one.

        Returns
        -------
        negatives : bool Tensor of shape (n_samples, n_classes)
            True where the class is a pseudo-negative label of the sample. At least one
            class of each sample is False.
        """


class RandomNegatives(BaseEstimator):
    """Random classes other than the pseudo-label, as in the paper.

    The pseudo-label is the class that the teacher predicts. The classes are sampled
    uniformly and without replacement, independently at each step.

    Parameters
    ----------
    n_negatives : int, default=2
        Number of pseudo-negative labels per sample, at most n_classes - 1.

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
        """Select pseudo-negative labels at random.

        Parameters
        ----------
        probabilities : Tensor of shape (n_samples, n_classes)
            Predictions of the teacher.
        generator : torch.Generator, default=None
            Random number generator on the device of `probabilities`. None takes
            torch's default generator, which ``fit`` seeds by ``random_state``.

        Returns
        -------
        negatives : bool Tensor of shape (n_samples, n_classes)
            True where the class is a pseudo-negative label of the sample.

        Raises
        ------
        ValueError
            If `n_negatives` is not an int of at least 1.
        """
        n_negatives = _check_n_negatives(self.n_negatives, probabilities)
        order = torch.rand(
            probabilities.shape, generator=generator, device=probabilities.device
        )
        order.scatter_(1, probabilities.argmax(dim=1, keepdim=True), 2.0)
        return _lowest(order, n_negatives)


class LowestNegatives(BaseEstimator):
    """Classes of lowest predicted probability.

    Parameters
    ----------
    n_negatives : int, default=2
        Number of pseudo-negative labels per sample, at most n_classes - 1.

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
            True where the class is a pseudo-negative label of the sample.

        Raises
        ------
        ValueError
            If `n_negatives` is not an int of at least 1.
        """
        n_negatives = _check_n_negatives(self.n_negatives, probabilities)
        return _lowest(probabilities, n_negatives)


class AdaptiveNegatives(BaseEstimator):
    """Classes outside of the smallest set with total probability 1 - tolerance.

    The classes in this set are the candidates. A confident prediction leaves a single
    candidate, which is a pseudo-label. An uncertain prediction leaves many candidates,
    and yields few or no pseudo-negative labels. The loss is
    :func:`~pnl_sklearn.objectives.candidate_loss`.

    Parameters
    ----------
    tolerance : float, default=0.05
        Largest total probability of the classes that are not candidates, in (0, 1). If
        it is larger, uncertain predictions yield more pseudo-negative labels.

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
            True where the class is a pseudo-negative label of the sample.

        Raises
        ------
        ValueError
            If `tolerance` is not between 0 and 1.
        """
        if not 0 < self.tolerance < 1:
            raise ValueError(
                f"AdaptiveNegatives: tolerance={self.tolerance!r} is not between 0 and "
                "1. It is the largest total probability of the classes that are not "
                "candidates, such as 0.05."
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
    """Return the loss of the labels of a selection."""
    return select.loss if isinstance(select, Selection) else negative_learning_loss


def product_of_experts(probabilities: Tensor, log_posterior: Tensor) -> Tensor:
    """Multiply predictions by a posterior and normalize.

    Parameters
    ----------
    probabilities : Tensor of shape (n_samples, n_classes)
    log_posterior : Tensor of shape (n_samples, n_classes)
        Finite logarithms, which need not be normalized.

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
    """Set the probabilities of excluded classes to 0, and normalize.

    Parameters
    ----------
    probabilities : Tensor of shape (n_samples, n_classes)
    excluded : bool Tensor of shape (n_samples, n_classes)
        True where a sample is known not to be of the class. Each sample has at least
        one class that is not excluded.

    Returns
    -------
    probabilities : Tensor of shape (n_samples, n_classes)
        Uniform over the other classes if their probabilities are 0.
    """
    tiny = torch.finfo(probabilities.dtype).tiny
    left = probabilities.clamp_min(tiny).masked_fill(excluded, 0.0)
    return left / left.sum(dim=1, keepdim=True)


def _check_n_negatives(n_negatives: int, probabilities: Tensor) -> int:
    if not isinstance(n_negatives, Integral) or n_negatives < 1:
        raise ValueError(
            f"n_negatives={n_negatives!r} is less than 1 or not whole. It is the "
            "number of pseudo-negative labels per sample, such as 2."
        )
    return min(n_negatives, probabilities.shape[1] - 1)


def _lowest(order: Tensor, n: int) -> Tensor:
    """Return a mask of the n lowest entries of each sample."""
    lowest = order.topk(n, dim=1, largest=False).indices
    return torch.zeros_like(order, dtype=torch.bool).scatter_(1, lowest, True)
