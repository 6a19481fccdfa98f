"""Interfaces of views, and the identity."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor


class View(Protocol):
    """A random augmentation of a batch, weak or strong.

    Any callable with this signature is a view. Parameters should be random for each
    sample, and sampled by torch, so that ``random_state`` determines them.

    A class may declare ``capturable = True`` if it does the same operations on every
    batch: it neither branches on the values of the batch nor copies them to the CPU. A
    training step with it can then be captured as a CUDA graph.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return an augmented batch.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch, on its device and in the units of X. It must not be changed in
            place.

        Returns
        -------
        augmented : float32 Tensor of the same shape
            The augmented samples, in the same order.
        """


@runtime_checkable
class StudentView(Protocol):
    """A strong view that uses the predictions of the student.

    At each step, ``__call__`` augments the batch. Then ``perturb`` augments the result
    for each student.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return an augmented batch, without the student; see :class:`View`.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch, on its device and in the units of X. It must not be changed in
            place.

        Returns
        -------
        augmented : float32 Tensor of the same shape
            The augmented samples, in the same order.
        """

    def perturb(self, x: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a batch that is augmented by the student's predictions.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            Return value of ``__call__``.
        logits : callable
            The student: it maps a batch to logits of shape (n_samples, n_classes).

        Returns
        -------
        perturbed : float32 Tensor of the same shape
            The augmented samples, in the same order.
        """


def identity(x: Tensor) -> Tensor:
    """Return the batch unchanged. ``weak_view=None`` stands for this view.

    Parameters
    ----------
    x : Tensor of shape (n_samples, ...)
        A batch.

    Returns
    -------
    x : Tensor of shape (n_samples, ...)
        The same tensor, not a copy.
    """
    return x
