"""The class distribution that mean predictions of unlabeled rows are drawn to."""

import math

import torch
from torch import Tensor

from ..utils._distributed import SINGLE_PROCESS, Processes


class ClassPrior:
    """The class distribution that mean predictions are drawn to.

    It stays as given, or follows the running mean m of the partners' predictions as
    m ** e, normalized. The exponent e tells how far the classes are from balanced:
    with d = 1 - entropy(m) / log(C), it is d^4 / (d^4 + 0.01^4), near 0 (uniform) on
    balanced rows and near 1 where some classes are several times as frequent as
    others. The pull has the `strength` 1 - e, since a mean that is drawn to a power of
    itself ends up uniform, times ((C - 1) / 9)^2 where there are fewer than ten
    classes: two or three are seldom equally frequent, and seldom lost. Once `settled`
    the exponent stays: by then the predictions are themselves drawn to the prior. Late
    in training `relaxation` lessens the strength: classes that were kept from being
    lost may then be a little more or less frequent than others.

    Parameters
    ----------
    prior : Tensor of shape (n_classes,)
        Distribution to start from.
    follows : bool
        Whether it follows the predictions.
    ranks : Processes, default=SINGLE_PROCESS
        Whose predictions it follows.
    """

    momentum = 0.99
    half_way = 0.01

    def __init__(
        self, prior: Tensor, follows: bool, ranks: Processes = SINGLE_PROCESS
    ) -> None:
        self.prior = prior
        self.follows = follows
        self.ranks = ranks
        self.settled = False
        self.relaxation: float | Tensor = 1.0
        self._mean = prior.clone()
        self._exponent = torch.zeros((), device=prior.device)

    @property
    def strength(self) -> Tensor:
        """Share, of shape (), of the weight that the pull to the prior has."""
        if not self.follows:
            return 1 - self._exponent
        share = min(1, (len(self.prior) - 1) / 9) ** 2
        return (1 - self._exponent) * share * self.relaxation

    def observe(self, probabilities: Tensor) -> None:
        """Take in predictions of a partner, of shape (n_rows, n_classes)."""
        if not (self.follows and len(probabilities)):
            return
        mean = self.ranks.mean(probabilities.mean(dim=0))
        self._mean.lerp_(mean, 1 - self.momentum)
        if not self.settled:
            entropy = -torch.xlogy(self._mean, self._mean).sum()
            deficit = 1 - entropy / math.log(len(self._mean))
            self._exponent = deficit**4 / (deficit**4 + self.half_way**4)
        prior = self._mean**self._exponent
        self.prior = prior / prior.sum()

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the CPU, of what the predictions have told."""
        names = ("prior", "_mean", "_exponent")
        return {name: getattr(self, name).to("cpu", copy=True) for name in names}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from such a state, where predictions are followed."""
        if self.follows:
            for name, value in state.items():
                setattr(self, name, value.to(self.prior.device, copy=True))
