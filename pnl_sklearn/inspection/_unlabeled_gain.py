"""Compare scores with and without unlabeled data."""

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

# Differences of scores below this are rounding errors.
_ROUNDING = 1e-12


@dataclass(eq=False)
class UnlabeledGain:
    """Gain in score from unlabeled data, with a confidence interval.

    It is returned by :func:`unlabeled_gain`. ``print(gain)`` prints a summary.

    Parameters
    ----------
    scores : float64 ndarray of shape (n_splits,)
        Test scores of the semi-supervised estimator.
    baseline_scores : float64 ndarray of shape (n_splits,)
        Test scores of the supervised baseline on the same splits.
    test_share : float
        Number of labeled samples in a test set, divided by the number in a training
        set.
    n_labeled : int
        Number of labeled samples.
    confidence : float, default=0.95
        Confidence level of the interval, between 0 and 1.

    Attributes
    ----------
    differences : float64 ndarray of shape (n_splits,)
        `scores` minus `baseline_scores`.
    gain : float
        Mean of the differences.
    interval : tuple of (float, float)
        Confidence interval of the gain. It is infinite if all differences are equal,
        since their variance is then unknown.
    n_needed : int or None
        Estimated number of labeled samples with which the confidence interval of the
        same gain would exclude 0. None if the gain is 0 or if all differences are
        equal.
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
        """Mean difference of the scores."""
        return float(self.differences.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Confidence interval of the mean difference."""
        half = self._half_width
        return self.gain - half, self.gain + half

    @property
    def n_needed(self) -> int | None:
        """Estimated number of labeled samples with which the interval excludes 0."""
        if abs(self.gain) < _ROUNDING or self._all_equal:
            return None
        # The width of the interval is proportional to 1 / sqrt(n_labeled).
        ratio = self._half_width / abs(self.gain)
        return max(math.ceil(self.n_labeled * ratio**2), 1)

    @property
    def _all_equal(self) -> bool:
        return bool(np.ptp(self.differences) <= _ROUNDING)

    @property
    def _half_width(self) -> float:
        if self._all_equal:
            return math.inf
        n = len(self.scores)
        # The second term corrects for overlapping training sets (Nadeau and Bengio).
        variance = self.differences.var(ddof=1) * (1 / n + self.test_share)
        quantile = student_t.ppf((1 + self.confidence) / 2, n - 1)
        return float(quantile * math.sqrt(variance))

    def __str__(self) -> str:
        low, high = self.interval
        source = f"{len(self.scores)} splits of {self.n_labeled} labeled samples"
        text = (
            f"Mean score {self.scores.mean():.3f} with the unlabeled data and "
            f"{self.baseline_scores.mean():.3f} without: {self.gain:+.3f}"
        )
        if self._all_equal:
            return (
                f"{text}, the same in all {source}. The variance is unknown. Use more "
                "splits, such as cv=RepeatedStratifiedKFold()."
            )
        text += (
            f", {self.confidence:.0%} confidence interval {low:+.3f} to {high:+.3f}, "
            f"from {source}. "
        )
        if low > 0:
            return f"{text}The unlabeled data helped."
        if high < 0:
            return f"{text}The unlabeled data lowered the score."
        text += "The gain is not significant."
        if self.n_needed is None:
            return text
        return f"{text} About {self.n_needed} labels would make this gain significant."

    def plot(self, ax=None):
        """Plot the paired scores, one line per split.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes of the plot. None creates a figure.

        Returns
        -------
        ax : matplotlib Axes
            Axes of the plot.
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
        ax.set_xticks([0, 1], ["supervised baseline", "with unlabeled data"])
        ax.set(xlim=(-0.4, 1.4), ylabel="test score")
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
    """Estimate by cross-validation how much unlabeled data raises the score.

    In each split, the estimator and a supervised baseline are fitted to the same
    labeled samples and scored on the same labeled samples. Only the estimator learns
    from the unlabeled samples, too. The confidence interval of the mean difference
    between the scores is the corrected resampled t interval [1]_, which allows for
    overlapping training sets.

    Read more in the :doc:`user guide </guide/unlabeled_data>`.

    Parameters
    ----------
    estimator : semi-supervised classifier, or pipeline that ends with one
        Classifier for which -1 marks unlabeled samples.
    X : array-like or sparse matrix of n_samples
        Labeled and unlabeled samples.
    y : array-like of shape (n_samples,)
        Labels. -1, "-1", None, NaN and pandas.NA mark unlabeled samples.
    baseline : classifier, default=None
        Classifier that is fitted to the labeled samples [2]_. None uses the
        :func:`~pnl_sklearn.supervised_baseline` of a PNLClassifier, and the inner
        classifier of a SelfTrainingClassifier. Other estimators, such as
        LabelSpreading, need a baseline. If the baseline is a PNLClassifier, it gets the
        unlabeled samples, too, for its standardization and number of steps.
    cv : int or splitter, default=5
        Splitter of the labeled samples, see
        :class:`~pnl_sklearn.model_selection.SemiSupervisedSplit`. Repeated splits, such
        as RepeatedStratifiedKFold, make the interval slightly narrower.
    scoring : str or callable, default=None
        Scorer. None uses the estimator's ``score`` method, the accuracy.
    confidence : float, default=0.95
        Confidence level of the interval, between 0 and 1.

    Returns
    -------
    gain : UnlabeledGain
        Scores, mean difference and confidence interval, with a ``plot`` method.

    Raises
    ------
    ValueError
        If `baseline` is None and the estimator has no default baseline. If the
        estimator treats -1 as a class. If `cv` has fewer than two splits.

    See Also
    --------
    check_unlabeled : Check before a fit whether unlabeled data may lower the accuracy.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine
       Learning 52, 2003.
    .. [2] A. Oliver et al., "Realistic Evaluation of Deep Semi-Supervised Learning
       Algorithms", NeurIPS 2018, arXiv:1804.09170.

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
        baseline = default_baseline(estimator)
    scorer = check_scoring(estimator, scoring)
    is_labeled, labels = known_labels(y)
    y = mark_unlabeled(is_labeled, labels)
    X, y = indexable(X, y)
    pairs, test_shares = [], []
    for train, test in as_split(cv).split(X, y):
        labeled = train[is_labeled[train]]
        test_shares.append(len(test) / len(labeled))
        X_test, y_test = _safe_indexing(X, test), _safe_indexing(y, test)
        fitted = [
            fit_subset(estimator, X, y, train),
            fit_subset(baseline, X, y, train if uses_unlabeled(baseline) else labeled),
        ]
        pairs.append([scorer(model, X_test, y_test) for model in fitted])
    if len(pairs) < 2:
        raise ValueError(
            f"cv={cv!r} gives {len(pairs)} split. At least two splits are needed to "
            "estimate the variance."
        )
    scores, baseline_scores = np.array(pairs).T
    test_share = float(np.mean(test_shares))
    return UnlabeledGain(scores, baseline_scores, test_share, len(labels), confidence)


def as_split(cv) -> SemiSupervisedSplit:
    """Return `cv` as a splitter of the labeled samples."""
    return cv if isinstance(cv, SemiSupervisedSplit) else SemiSupervisedSplit(cv)


def fit_subset(estimator, X, y, indices):
    """Fit a copy of an estimator to some samples, and check that -1 is no class."""
    fitted = clone(estimator).fit(
        _safe_indexing(X, indices), _safe_indexing(y, indices)
    )
    if -1 in list(getattr(fitted, "classes_", [])):
        raise ValueError(
            f"{final_step(estimator)!r} treats -1 as a class. Use a semi-supervised "
            "classifier, for which -1 marks unlabeled samples."
        )
    return fitted


def uses_unlabeled(baseline) -> bool:
    """Tell whether unlabeled samples are passed to a baseline, too.

    `supervised_baseline` needs them only for the same standardization and number of
    steps as the classifier.
    """
    return isinstance(final_step(baseline), PNLClassifier)


def default_baseline(estimator):
    """Return the supervised baseline of an estimator, unfitted."""
    final = final_step(estimator)
    if isinstance(final, PNLClassifier):
        return supervised_baseline(estimator)
    if isinstance(final, SelfTrainingClassifier) and final.estimator is not None:
        return with_final_step(estimator, clone(final.estimator))
    raise ValueError(
        f"{final!r} has no default baseline. Pass a supervised classifier to compare "
        "it with, such as baseline=LogisticRegression()."
    )
