"""Distribution alignment: regularization of the mean prediction."""

import math
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from ..utils._distributed import SINGLE_PROCESS, Processes


class DistributionAlignment(BaseEstimator):
    """Regularization of the mean prediction of unlabeled samples towards a class prior.

    The loss is a Kullback-Leibler divergence, see
    :func:`~pnl_sklearn.objectives.balance_loss`. With few labels, it prevents class
    collapse: that a class is no longer predicted.

    Parameters
    ----------
    prior : {"auto", "uniform", "labeled"}, array-like or dict, default="auto"
        Class prior. It is normalized to sum to 1.

        - "auto": the class frequencies of the labels, shrunk towards a uniform
          distribution by :func:`shrunk_frequencies`. Equal numbers of labels give a
          uniform prior, unless early predictions show unbalanced classes. It then
          follows the mean prediction.
        - "uniform": the same for each class.
        - "labeled": the class frequencies of the labels.
        - array-like of shape (n_classes,): class frequencies in the order of
          ``classes_``.
        - dict or Series: class frequencies by class.
    weight : float, default=4.0
        Weight of the loss after the ramp-up. With "auto" and equal numbers of labels,
        the weight is lower if there are fewer than ten classes, near 0 if the classes
        are unbalanced, and decreases to a quarter late in training.

    References
    ----------
    D. Berthelot et al., "ReMixMatch: Semi-Supervised Learning with Distribution
    Alignment and Augmentation Anchoring", ICLR 2020. There, targets are rescaled
    instead.

    Examples
    --------
    >>> from pnl_sklearn import DistributionAlignment, PNLClassifier
    >>> PNLClassifier(class_prior=DistributionAlignment("labeled", weight=1.0))
    PNLClassifier(class_prior=DistributionAlignment(prior='labeled', weight=1.0))
    """

    _parameter_constraints: ClassVar[dict] = {
        "prior": [StrOptions({"auto", "uniform", "labeled"}), "array-like", dict],
        "weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, prior="auto", weight=4.0):
        self.prior = prior
        self.weight = weight

    def target(self, codes: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the initial class prior.

        Parameters
        ----------
        codes : int array of shape (n_samples,)
            Class codes, -1 for unlabeled samples.
        classes : array of shape (n_classes,)
            Class labels.

        Returns
        -------
        target : float array of shape (n_classes,)
            Class prior, which sums to 1.

        Raises
        ------
        ValueError
            If `prior` is not one frequency per class.
        """
        n_classes = len(classes)
        if isinstance(self.prior, str):
            counts = np.bincount(codes[codes >= 0], minlength=n_classes)
            if self.prior == "labeled":
                return counts / counts.sum()
            # A class without labels need not be rare.
            if self.prior == "auto" and counts.all():
                return shrunk_frequencies(counts)
            return np.full(n_classes, 1 / n_classes)
        shares = self.prior
        if hasattr(shares, "keys") and not hasattr(shares, "columns"):
            shares = _by_class(shares, classes)
        target = np.asarray(shares, dtype=float)
        valid = target.shape == (n_classes,) and np.isfinite(target).all()
        if not valid or (target < 0).any() or not target.any():
            raise ValueError(
                f"class_prior={self.prior!r} must contain one frequency, which is not "
                f"negative, for each of the {n_classes} classes."
            )
        target = target / target.max()  # sums of very large numbers would overflow
        return target / target.sum()

    @property
    def is_automatic(self) -> bool:
        """Whether nothing is given about the class frequencies but the labels."""
        return isinstance(self.prior, str) and self.prior == "auto"


def shrunk_frequencies(counts: np.ndarray) -> np.ndarray:
    """Estimate class frequencies from few labels.

    Relative frequencies are shrunk towards a uniform distribution [1]_, the more, the
    less they differ from it compared with their sampling error. Equal counts, or counts
    that differ as by chance, give a uniform distribution.

    Parameters
    ----------
    counts : int array of shape (n_classes,)
        Number of labels per class.

    Returns
    -------
    frequencies : float array of shape (n_classes,)
        Class frequencies, which sum to 1.

    References
    ----------
    .. [1] J. Hausser and K. Strimmer, "Entropy Inference and the James-Stein
       Estimator", Journal of Machine Learning Research 10, 2009, equations 4 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> from pnl_sklearn.objectives import shrunk_frequencies
    >>> shrunk_frequencies(np.array([9, 1]))
    array([0.875, 0.125])
    >>> shrunk_frequencies(np.array([5, 4]))
    array([0.5, 0.5])
    """
    n, uniform = counts.sum(), np.full(len(counts), 1 / len(counts))
    frequencies = counts / max(n, 1)
    variance = 1 - (frequencies**2).sum()
    distance = (n - 1) * ((frequencies - uniform) ** 2).sum()
    intensity = variance / distance if variance < distance else 1.0
    return intensity * uniform + (1 - intensity) * frequencies


def _by_class(shares, classes: np.ndarray) -> list[float]:
    """Return the values of a dict or Series in the order of `classes`.

    A Series with the default index is in this order already.
    """
    by_class = dict(shares.items())
    if len(shares) == len(by_class) and set(by_class) == set(classes.tolist()):
        return [by_class[name] for name in classes.tolist()]
    names = list(shares.keys())
    if isinstance(shares, dict) or names != list(range(len(names))):
        raise ValueError(
            f"class_prior has frequencies of {names}, but the classes are "
            f"{classes.tolist()}. Name each of them once, or pass an array in this "
            "order."
        )
    return list(shares)


class ClassPrior:
    """Class prior during training, given or estimated from predictions.

    An estimated prior is the normalized power m^e of the running mean m of the
    teachers' predictions. The exponent is e = d^4 / (d^4 + 0.01^4), where
    d = 1 - entropy(m) / log C measures how unbalanced the predictions are. It is near 0
    (a uniform prior) for balanced classes, and near 1 for unbalanced classes.

    The weight of distribution alignment is multiplied by 1 - e. Otherwise the mean
    prediction would become uniform, since it is regularized towards a power of itself.
    For C < 10 classes the weight is also multiplied by ((C - 1) / 9)^2: few classes are
    seldom balanced, and seldom collapse.

    Parameters
    ----------
    target : Tensor of shape (n_classes,)
        Initial class prior.
    is_estimated : bool
        Whether the prior is estimated from predictions.
    processes : Processes, default=SINGLE_PROCESS
        Processes over which predictions are averaged.
    is_known : bool, default=False
        Whether class frequencies were given by the user.

    Attributes
    ----------
    initial, target : Tensor of shape (n_classes,)
        Initial and current class prior.
    frozen : bool
        Whether the exponent is constant. It must be constant once the predictions are
        regularized towards the prior.
    decay : float or Tensor of shape ()
        Factor of the weight, which decreases late in training. Predicted class
        frequencies may then differ slightly from the prior.
    """

    momentum = 0.99
    midpoint = 0.01

    def __init__(
        self,
        target: Tensor,
        is_estimated: bool,
        processes: Processes = SINGLE_PROCESS,
        is_known: bool = False,
    ) -> None:
        self.initial = self.target = target
        self.is_known = is_known
        self.is_estimated = is_estimated
        self.processes = processes
        self.frozen = False
        self.decay: float | Tensor = 1.0
        self._mean = target.clone()
        self._exponent = torch.zeros((), device=target.device)

    @property
    def weight(self) -> Tensor:
        """Factor of the weight of distribution alignment, of shape ()."""
        if not self.is_estimated:
            return 1 - self._exponent
        few_classes = min(1, (len(self.target) - 1) / 9) ** 2
        return (1 - self._exponent) * few_classes * self.decay

    def update(self, probabilities: Tensor) -> None:
        """Update an estimated prior by predictions of shape (n_samples, n_classes)."""
        if not (self.is_estimated and len(probabilities)):
            return
        mean = self.processes.mean(probabilities.mean(dim=0))
        self._mean.lerp_(mean, 1 - self.momentum)
        if not self.frozen:
            entropy = -torch.xlogy(self._mean, self._mean).sum()
            deficit = 1 - entropy / math.log(len(self._mean))
            self._exponent = deficit**4 / (deficit**4 + self.midpoint**4)
        target = self._mean**self._exponent
        self.target = target / target.sum()

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""
        names = ("target", "_mean", "_exponent")
        return {name: getattr(self, name).to("cpu", copy=True) for name in names}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load the state of an estimated prior."""
        if self.is_estimated:
            for name, value in state.items():
                setattr(self, name, value.to(self.target.device, copy=True))
