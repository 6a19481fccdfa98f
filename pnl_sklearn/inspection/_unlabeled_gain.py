"""Whether unlabeled rows helped: paired scores with them and without."""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy.stats import t as student_t
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import indexable

from ..data._targets import known_labels
from ..estimator._classifier import PNLClassifier, supervised_baseline
from ..model_selection._hide_labels import mark_unlabeled
from ..model_selection._split import SemiSupervisedSplit
from ..utils._pipelines import final_step, with_final_step

# Of differences of scores.
_ROUNDING = 1e-12


@dataclass(eq=False)
class UnlabeledGain:
    """What unlabeled rows are worth, by paired scores on held-out labeled rows.

    `str` tells it in a sentence.

    Parameters
    ----------
    scores : float array of shape (n_splits,)
        Of the estimator.
    baseline_scores : float array of shape (n_splits,)
        Of what learned the labeled rows only, on the same splits.
    test_share : float
        Labeled rows in a test part, over those in a training part.
    n_labeled : int
        Number of labeled rows.
    confidence : float, default=0.95
        Of the interval.

    Attributes
    ----------
    differences : float array of shape (n_splits,)
        `scores` less `baseline_scores`.
    gain : float
        Their mean.
    interval : tuple of two floats
        Of the gain; infinite where all differences are the same, which tells no spread.
    n_needed : int or None
        Number of labeled rows at which an interval around this gain would leave out 0;
        None if the gain is 0, or its spread is not told.
    """

    scores: np.ndarray
    baseline_scores: np.ndarray
    test_share: float
    n_labeled: int
    confidence: float = 0.95

    @property
    def differences(self) -> np.ndarray:
        """Differences of the paired scores."""
        return self.scores - self.baseline_scores

    @property
    def gain(self) -> float:
        """Mean difference."""
        return float(self.differences.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of the mean difference."""
        half = self._half_width
        return self.gain - half, self.gain + half

    @property
    def n_needed(self) -> int | None:
        """Labeled rows that would prove a gain of this size."""
        if abs(self.gain) < _ROUNDING or not self._has_spread:
            return None
        # The half-width falls as the square root of the number of rows.
        ratio = self._half_width / abs(self.gain)
        return max(math.ceil(self.n_labeled * ratio**2), 1)

    @property
    def _has_spread(self) -> bool:
        return bool(np.ptp(self.differences) > _ROUNDING)

    @property
    def _half_width(self) -> float:
        if not self._has_spread:
            return math.inf
        n = len(self.scores)
        variance = self.differences.var(ddof=1) * (1 / n + self.test_share)
        quantile = student_t.ppf((1 + self.confidence) / 2, n - 1)
        return float(quantile * math.sqrt(variance))

    def __str__(self) -> str:
        low, high = self.interval
        source = f"{len(self.scores)} splits of {self.n_labeled} labeled rows"
        text = (
            f"Mean score {self.scores.mean():.3f} with the unlabeled rows and "
            f"{self.baseline_scores.mean():.3f} without: {self.gain:+.3f}, "
        )
        if not self._has_spread:
            return (
                f"{text}the same in all {source}, which tells nothing of its spread. "
                "Take more splits, such as RepeatedStratifiedKFold."
            )
        text += (
            f"{self.confidence:.0%} interval {low:+.3f} to {high:+.3f}, from {source}. "
        )
        if low > 0:
            return text + "The unlabeled rows helped."
        if high < 0:
            return text + "The unlabeled rows did harm."
        text += "Whether the unlabeled rows helped is not proven"
        if self.n_needed is None:
            return text + "."
        return f"{text}; about {self.n_needed} labels would prove a gain of this size."

    def plot(self, ax=None):
        """Draw the paired scores, a line a split. This needs matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        ax : matplotlib Axes
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(4.5, 3.5), layout="constrained")
        for pair in zip(self.baseline_scores, self.scores, strict=True):
            ax.plot([0, 1], pair, color="0.7", marker="o", ms=4)
        means = [self.baseline_scores.mean(), self.scores.mean()]
        ax.plot([0, 1], means, color="C3", marker="o", lw=2)
        low, high = self.interval
        ax.set_title(f"gain {self.gain:+.3f} ({low:+.3f} to {high:+.3f})", fontsize=10)
        ax.set_xticks([0, 1], ["labeled rows only", "with unlabeled rows"])
        ax.set(xlim=(-0.4, 1.4), ylabel="score on held-out labeled rows")
        return ax


@validate_params(
    {
        "scoring": [str, callable, None],
        "confidence": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def unlabeled_gain(
    estimator, X, y, *, baseline=None, cv=5, scoring=None, confidence=0.95
):
    """Measure whether unlabeled rows helped, on held-out labeled rows.

    The estimator and its baseline are fitted on the same labeled rows of each training
    part, the estimator with all unlabeled rows besides, and scored on the same test
    part. The splits share rows, so that their differences are not independent; the
    interval is that of Nadeau and Bengio, which allows for it.

    Parameters
    ----------
    estimator : semi-supervised classifier
        That takes -1 for unlabeled rows; or a pipeline that ends with one.
    X : array-like or sparse matrix of n_samples
    y : array-like of shape (n_samples,)
        Labels; -1 where a row is unlabeled, or what else the estimator takes for it.
    baseline : classifier, default=None
        Is fitted on labeled rows only; a :class:`~pnl_sklearn.PNLClassifier`, such as a
        twin, on all rows. None: for a PNLClassifier its
        :func:`~pnl_sklearn.supervised_baseline`, for a SelfTrainingClassifier the
        classifier in it. Others, such as LabelSpreading, need one.
    cv : int or splitter, default=5
        Splits the labeled rows, as in
        :class:`~pnl_sklearn.model_selection.SemiSupervisedSplit`. Repeated splits, for
        example RepeatedStratifiedKFold, narrow the interval a little.
    scoring : str or callable, default=None
        Scorer; None takes the estimator's, the accuracy.
    confidence : float, default=0.95
        Of the interval.

    Returns
    -------
    gain : UnlabeledGain
        ``print`` it, or ``plot`` it.

    Raises
    ------
    ValueError
        If there is no baseline to be derived, or fewer than two splits.

    References
    ----------
    C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning
    52, 2003; A. Oliver et al., "Realistic Evaluation of Deep Semi-Supervised Learning
    Algorithms", NeurIPS 2018, arXiv 1804.09170.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.semi_supervised import SelfTrainingClassifier
    >>> from pnl_sklearn.inspection import unlabeled_gain
    >>> from pnl_sklearn.model_selection import hide_labels
    >>> X, y = load_iris(return_X_y=True)
    >>> y_few = hide_labels(y, 15, random_state=0)
    >>> training = SelfTrainingClassifier(LogisticRegression(max_iter=1000))
    >>> gain = unlabeled_gain(training, X, y_few)
    >>> gain.scores.shape
    (5,)
    """
    if baseline is None:
        baseline = derived_baseline(estimator)
    sees_pool = learns_pool(baseline)
    scorer = check_scoring(estimator, scoring)
    labeled, labels = known_labels(y)
    y = mark_unlabeled(labeled, labels)
    X, y = indexable(X, y)
    pairs, shares = [], []
    for train, test in split_labeled(cv).split(X, y):
        known = train[labeled[train]]
        shares.append(len(test) / len(known))
        X_test, y_test = _safe_indexing(X, test), _safe_indexing(y, test)
        fitted = [
            fit_rows(estimator, X, y, train),
            fit_rows(baseline, X, y, train if sees_pool else known),
        ]
        pairs.append([scorer(model, X_test, y_test) for model in fitted])
    if len(pairs) < 2:
        raise ValueError("cv gives one split; to tell a spread takes two at least.")
    scores, baseline_scores = np.array(pairs).T
    n_labeled, test_share = int(labeled.sum()), float(np.mean(shares))
    return UnlabeledGain(scores, baseline_scores, test_share, n_labeled, confidence)


def split_labeled(cv) -> SemiSupervisedSplit:
    """Return the splitter of labeled rows that `cv` stands for."""
    return cv if isinstance(cv, SemiSupervisedSplit) else SemiSupervisedSplit(cv)


def fit_rows(model, X, y, rows):
    """Return a copy of the model, fitted on the rows, where -1 is no class to it."""
    fitted = clone(model).fit(_safe_indexing(X, rows), _safe_indexing(y, rows))
    if -1 in list(getattr(fitted, "classes_", [])):
        raise ValueError(
            f"{final_step(model)!r} takes -1 for a class. Give a semi-supervised "
            "classifier, which takes it for a mark of unlabeled rows."
        )
    return fitted


def learns_pool(baseline) -> bool:
    """Tell whether a baseline is given all rows: a twin, whose steps they set."""
    return isinstance(final_step(baseline), PNLClassifier)


def derived_baseline(estimator):
    """Return what learns labeled rows only, in a pipeline if the estimator is."""
    final = final_step(estimator)
    if isinstance(final, PNLClassifier):
        return supervised_baseline(estimator)
    if isinstance(final, SelfTrainingClassifier) and final.estimator is not None:
        return with_final_step(estimator, clone(final.estimator))
    raise ValueError(
        f"{final!r} has no supervised twin; give the classifier to "
        "compare it with as baseline, baseline=LogisticRegression() for example."
    )
