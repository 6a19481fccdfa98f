"""Views that the network itself decides on."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ._table import _spread


@dataclass(frozen=True)
class AdversarialView:
    """Strong view by the small change of a row that the student is least sure about.

    For data without a change that is known to keep the class: the network itself tells
    where to change a row, from the gradient of its predictions (virtual adversarial
    perturbation). A fit takes about 1.6 times as long with it.

    Parameters
    ----------
    size : float, default=0.3
        Root mean square of the perturbation of a row, in standard deviations: of each
        column of a table, of all values of a batch of images.
    noise : float, default=0.0
        Standard deviation of Gaussian noise added before, in the same units.

    References
    ----------
    T. Miyato, S. Maeda, M. Koyama and S. Ishii, "Virtual Adversarial Training: A
    Regularization Method for Supervised and Semi-Supervised Learning", TPAMI 2018, with
    one power iteration.
    """

    size: float = 0.3
    noise: float = 0.0

    # Length of the probe whose gradient shows the direction, of that of the view.
    probe: ClassVar[float] = 0.1
    capturable: ClassVar[bool] = True

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the batch with noise: what can be done without a network."""
        if not (self.noise and len(x)):
            return x
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return x + noise * (self.noise * _spread(x))

    def perturb(self, x: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the batch, each row moved to where the predictions differ most.

        Parameters
        ----------
        x : Tensor of shape (n_rows, ...)
        logits : callable
            The student, from a batch to logits of shape (n_rows, n_classes).

        Returns
        -------
        perturbed : Tensor of shape (n_rows, ...)
        """
        if not len(x):
            return x
        units = _spread(x)
        length = self.size * math.sqrt(x[0].numel())
        step = self.probe * length * _normalized(torch.randn_like(x))
        with torch.enable_grad():
            step.requires_grad_()
            with _random_state_kept(x):  # so that dropout is the same in both passes
                target = logits(x).detach().float().log_softmax(dim=1)
            moved = logits(x + units * step).float().log_softmax(dim=1)
            divergence = F.kl_div(moved, target, reduction="sum", log_target=True)
            (gradient,) = torch.autograd.grad(divergence, step)
        return x + units * (length * _normalized(gradient))


@contextmanager
def _random_state_kept(x: Tensor) -> Iterator[None]:
    """Take back, at the end, the random state of the device of x.

    Not in a step that is recorded as a CUDA graph, which cannot do that: there the
    network draws nothing.
    """
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        yield
        return
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        yield


def _normalized(x: Tensor) -> Tensor:
    """Source of length 1; rows of zeros stay."""
    rows = x.flatten(1)
    # By the largest entry first: squares of small ones would round to 0.
    rows = rows / rows.abs().amax(dim=1, keepdim=True).clamp_min(1e-37)
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-37)
    return rows.view_as(x)
