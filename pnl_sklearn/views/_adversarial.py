"""Adversarial view: the perturbation to which the student is most sensitive."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ._table import standard_deviation


@dataclass(frozen=True)
class AdversarialView:
    """Strong view by virtual adversarial perturbation.

    Each sample is moved by a fixed distance in the direction in which the student's
    prediction changes most. The direction is estimated by one power iteration. Use this
    view if no augmentation is known to keep the class. It adds two forward passes and
    one backward pass to each step of a student.

    Parameters
    ----------
    size : float, default=0.3
        Root mean square of the perturbation of a sample, in standard deviations of
        the batch: of each feature of a table, of all pixels of images.
    noise : float, default=0.0
        Standard deviation of Gaussian noise that is added before, in the same units.

    References
    ----------
    T. Miyato, S. Maeda, M. Koyama and S. Ishii, "Virtual Adversarial Training: A
    Regularization Method for Supervised and Semi-Supervised Learning", TPAMI 2018.

    Examples
    --------
    >>> import torch
    >>> from pnl_sklearn.views import AdversarialView
    >>> network = torch.nn.Linear(3, 2)
    >>> view = AdversarialView(size=0.2)
    >>> view.perturb(torch.rand(8, 3), network).shape
    torch.Size([8, 3])
    """

    size: float = 0.3
    noise: float = 0.0

    capturable: ClassVar[bool] = True

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Add Gaussian noise to the batch.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch of a table or of images.
        generator : torch.Generator or None, default=None
            Random number generator on the device of `x`; torch's default if None.

        Returns
        -------
        noisy : float32 Tensor of the same shape
            The batch with noise; `x` itself if `noise` is 0.
        """
        if not (self.noise and len(x)):
            return x
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        return x + noise * (self.noise * standard_deviation(x))

    def perturb(self, x: Tensor, logits: Callable[[Tensor], Tensor]) -> Tensor:
        """Move each sample in the direction that changes its prediction most.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch of a table or of images.
        logits : callable
            The student: it maps a batch to logits of shape (n_samples, n_classes).

        Returns
        -------
        perturbed : float32 Tensor of the same shape
            The batch plus the perturbations.
        """
        if not len(x):
            return x
        units = standard_deviation(x)
        length = self.size * math.sqrt(x[0].numel())
        # The gradient of the divergence is 0 at the sample itself. It is therefore
        # computed at a random point near the sample.
        step = 0.1 * length * _scale_to_unit_norm(torch.randn_like(x))
        with torch.enable_grad():
            step.requires_grad_()
            # Both passes need the same dropout masks.
            with _preserve_random_state(x):
                clean = logits(x).detach().float().log_softmax(dim=1)
            moved = logits(x + units * step).float().log_softmax(dim=1)
            divergence = F.kl_div(moved, clean, reduction="sum", log_target=True)
            (gradient,) = torch.autograd.grad(divergence, step)
        return x + units * (length * _scale_to_unit_norm(gradient))


@contextmanager
def _preserve_random_state(x: Tensor) -> Iterator[None]:
    """Restore the state of the random number generators at the end of the block.

    The generators are those of the CPU and of the device of `x`. The state cannot be
    restored while a CUDA graph is captured. This is not needed, since only networks
    without dropout and noise are captured with this view.
    """
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        yield
        return
    with torch.random.fork_rng([x.device] if x.is_cuda else []):
        yield


def _scale_to_unit_norm(x: Tensor) -> Tensor:
    """Scale each sample to Euclidean norm 1; samples of zeros stay zeros."""
    vectors = x.flatten(1)
    # Dividing by the largest entry first keeps squares of small entries above 0.
    vectors = vectors / vectors.abs().amax(dim=1, keepdim=True).clamp_min(1e-37)
    vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-37)
    return vectors.view_as(x)
