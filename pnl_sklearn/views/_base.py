"""What a view is."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor


class View(Protocol):
    """A random augmentation of a batch, weak or strong: any callable like this.

    A view may declare ``capturable = True`` in its class, for CUDA graphs: it then does
    the same operations on every batch, without a look at values.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return an augmented batch.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch, on its device and in the units of X. It must not be written to.

        Returns
        -------
        augmented : float32 Tensor of the same shape
        """


@runtime_checkable
class StudentView(Protocol):
    """A strong view that depends on what the student predicts."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return an augmented batch, as far as that needs no network."""

    def perturb(self, x: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the augmented batch after a look at the student's predictions.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            What ``__call__`` returned.
        logits : callable
            The student, from a batch to logits of shape (n_samples, n_classes).

        Returns
        -------
        perturbed : float32 Tensor of the same shape
        """


def identity(x: Tensor) -> Tensor:
    """Return the batch as it is: the view of ``None``."""
    return x
