"""Protocols of views, and the view that changes nothing."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor


class View(Protocol):
    """A random augmentation of a batch, weak or strong.

    Any callable of this signature is a view, a function too.

    A class of views may declare ``capturable = True``: a training step with it can be
    captured as a CUDA graph. The view then does the same operations on every batch. It
    neither branches on the content of the batch nor copies any of it to the CPU.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return an augmented batch.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch, on its device and in the units of X. A view must not write to it.

        Returns
        -------
        augmented : float32 Tensor of the same shape
            The augmented samples, in the same order.
        """


@runtime_checkable
class StudentView(Protocol):
    """A strong view that uses the predictions of the student.

    At each step ``__call__`` augments the batch first. Then ``perturb`` augments the
    result once for each student.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return an augmented batch, without the student; see :class:`View`.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch, on its device and in the units of X. A view must not write to it.

        Returns
        -------
        augmented : float32 Tensor of the same shape
            The augmented samples, in the same order.
        """

    def perturb(self, x: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
        """Return a batch augmented with the help of the student.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            What ``__call__`` returned.
        logits : callable
            The student: it maps a batch to logits of shape (n_samples, n_classes).

        Returns
        -------
        perturbed : float32 Tensor of the same shape
            The augmented samples, in the same order.
        """


def identity(x: Tensor) -> Tensor:
    """Return the batch unchanged: the view that ``None`` stands for.

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
