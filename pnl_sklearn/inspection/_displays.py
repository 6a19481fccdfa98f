"""Plots of a fit, and of scores by the number of labels, in scikit-learn's API.

matplotlib is imported by the methods that plot.
"""

from numbers import Integral

import numpy as np
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, check_random_state
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_is_fitted, indexable

from ..data._targets import known_labels
from ..model_selection._hide_labels import hide_labels, mark_unlabeled
from ..utils._pipelines import final_step
from ._unlabeled_gain import default_baseline, fit_subset, uses_unlabeled

# Columns of `history_` in each panel, with their labels.
_LOSSES = {
    "supervised_loss": "supervised",
    "negative_loss": "negative",
    "balance_loss": "balance",
    "consistency_loss": "consistency",
}
_SHARES = {
    "teacher_student_agreement": "teacher and student agree",
    "negative_coverage": "samples with pseudo-negative labels",
    "label_change": "predicted classes changed since last epoch",
    "valid_accuracy": "accuracy on held-out samples",
    "valid_negative_precision": "correct pseudo-negative labels, held-out",
}
_BY_CLASS = {
    "class_distribution": "mean predicted probability by class",
    "class_coverage": "coverage by class",
}


class HistoryDisplay:
    """Plot of losses, agreement and class distribution of a fit by epoch.

    Use `from_estimator` to create it. The four panels are:

    - the losses;
    - the fraction of unlabeled samples for which teacher and student agree, and the
      fraction with pseudo-negative labels. Also ``label_change``, if it was recorded.
      With validation samples, also the accuracy and the fraction of correct
      pseudo-negative labels on these;
    - the mean predicted probability of each class. A curve that decreases to zero shows
      class collapse;
    - the fraction of samples with pseudo-negative labels by predicted class.

    matplotlib is required.

    Parameters
    ----------
    history : list of dict
        Attribute ``history_`` of a fitted estimator.
    classes : array-like of shape (n_classes,)
        Names of the classes.

    Attributes
    ----------
    figure_ : matplotlib Figure
        Figure, set by `plot`.
    axes_ : ndarray of four matplotlib Axes
        Axes in the order of the list above, set by `plot`.
    """

    def __init__(self, history, classes):
        self.history = history
        self.classes = classes

    @classmethod
    def from_estimator(cls, estimator):
        """Plot the history of a fitted estimator.

        Parameters
        ----------
        estimator : fitted PNLClassifier, or pipeline that ends with one
            Estimator with the attribute ``history_``.

        Returns
        -------
        display : HistoryDisplay
            Display with the plot.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If the fit ended before its first epoch.
        """
        check_is_fitted(estimator)
        estimator = final_step(estimator)
        return cls(estimator.history_, estimator.classes_).plot()

    def plot(self):
        """Plot the history in a new figure.

        Returns
        -------
        self : HistoryDisplay
            Display with the plot.

        Raises
        ------
        ValueError
            If the history is empty.
        """
        import matplotlib.pyplot as plt

        if not self.history:
            raise ValueError(
                "The history is empty, since the fit ended before its first epoch was "
                "complete. Train for at least one epoch."
            )
        epochs = [record["epoch"] for record in self.history]
        self.figure_, axes = plt.subplots(
            2, 2, figsize=(9, 6), layout="constrained", sharex=True
        )
        self.axes_ = axes.ravel()
        losses, shares, *by_class = self.axes_
        for name, label in _LOSSES.items():
            values = [record[name] for record in self.history]
            if any(values):
                losses.plot(epochs, values, marker="o", ms=3, label=label)
        losses.set(title="losses")
        for name, label in _SHARES.items():
            # With warm_start, a later fit may add columns.
            values = [record.get(name, np.nan) for record in self.history]
            if not np.isnan(values).all():
                shares.plot(epochs, values, marker="o", ms=3, label=label)
        shares.set(title="agreement, coverage and accuracy", ylim=(0, 1.03))
        for ax, (name, title) in zip(by_class, _BY_CLASS.items(), strict=True):
            by_epoch = np.array([record[name] for record in self.history])
            for label, values in zip(self.classes, by_epoch.T, strict=True):
                ax.plot(epochs, values, marker="o", ms=3, label=str(label))
            ax.set(title=title, xlabel="epoch")
            ax.set_ylim(bottom=0)
        for ax in (losses, shares):
            if ax.lines:
                ax.legend(frameon=False, fontsize=8)
        if len(self.classes) <= 10:
            by_class[1].legend(frameon=False, fontsize=8, ncols=2)
        return self


class LabelBudgetDisplay:
    """Plot of test scores by the number of labels, with and without unlabeled data.

    Use `from_estimator` to create it. matplotlib is required.

    Parameters
    ----------
    budgets : array-like of shape (n_budgets,)
        Numbers of labels.
    scores : float64 ndarray of shape (n_budgets, n_splits)
        Test scores of the semi-supervised estimator.
    baseline_scores : float64 ndarray of shape (n_budgets, n_splits)
        Test scores of the supervised baseline.
    name : str
        Name of the estimator in the legend.
    baseline_name : str
        Name of the baseline in the legend.

    Attributes
    ----------
    figure_ : matplotlib Figure
        Figure, set by `plot`.
    ax_ : matplotlib Axes
        Axes, set by `plot`.
    """

    def __init__(self, budgets, scores, baseline_scores, name, baseline_name):
        self.budgets = budgets
        self.scores = scores
        self.baseline_scores = baseline_scores
        self.name = name
        self.baseline_name = baseline_name

    @classmethod
    @validate_params(
        {
            "budgets": ["array-like"],
            "scoring": [str, callable, None],
            "n_splits": [Interval(Integral, 1, None, closed="left")],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        budgets=(20, 50, 100),
        baseline=None,
        n_splits=3,
        test_size=0.3,
        scoring=None,
        random_state=None,
        ax=None,
    ):
        """Fit with several numbers of labels, and plot the test scores.

        In each split, a stratified part of the labeled samples is held out for testing.
        Of the other labels, as many as the budget are kept, the same number for each
        class. The rest of the labels is hidden.

        Parameters
        ----------
        estimator : semi-supervised classifier, or pipeline that ends with one
            Classifier for which -1 marks unlabeled samples.
        X : array-like or sparse matrix of n_samples
            Labeled and unlabeled samples.
        y : array-like of shape (n_samples,)
            Labels. -1, "-1", None, NaN and pandas.NA mark unlabeled samples. There must
            be enough labels for the largest budget and the test set.
        budgets : array-like of int, default=(20, 50, 100)
            Numbers of labels.
        baseline : classifier, default=None
            Supervised baseline, see :func:`unlabeled_gain`.
        n_splits : int, default=3
            Number of random splits.
        test_size : float or int, default=0.3
            Fraction (float) or number (int) of the labeled samples to test on.
        scoring : str or callable, default=None
            Scorer. None uses the estimator's ``score`` method, the accuracy.
        random_state : int, RandomState instance or None, default=None
            Determines the splits and the labels that are kept.
        ax : matplotlib Axes, default=None
            Axes of the plot. None creates a figure.

        Returns
        -------
        display : LabelBudgetDisplay
            Display with the plot.

        Raises
        ------
        ValueError
            If a training set has fewer labels than a budget. If `baseline` is None and
            the estimator has no default baseline. If the estimator treats -1 as a
            class.
        """
        if baseline is None:
            baseline = default_baseline(estimator)
        scorer = check_scoring(estimator, scoring)
        is_labeled, labels = known_labels(y)
        y = mark_unlabeled(is_labeled, labels)
        X, y = indexable(X, y)
        rng = check_random_state(random_state)
        scores = np.empty((2, len(budgets), n_splits))
        for split in range(n_splits):
            seed = rng.randint(np.iinfo(np.int32).max)
            _, test = train_test_split(
                np.flatnonzero(is_labeled),
                test_size=test_size,
                stratify=labels,
                random_state=seed,
            )
            y_train = y.copy()
            y_train[test] = -1
            train = np.setdiff1d(np.arange(len(y)), test)
            X_test, y_test = _safe_indexing(X, test), y[test]
            # Before the first fit: a budget that is too large raises an error here.
            partial = [hide_labels(y_train, int(n), random_state=seed) for n in budgets]
            for i, y_partial in enumerate(partial):
                labeled = np.flatnonzero(y_partial != -1)
                indices = train if uses_unlabeled(baseline) else labeled
                fitted = fit_subset(estimator, X, y_partial, train)
                scores[0, i, split] = scorer(fitted, X_test, y_test)
                fitted = fit_subset(baseline, X, y_partial, indices)
                scores[1, i, split] = scorer(fitted, X_test, y_test)
        name, baseline_name = (
            type(final_step(model)).__name__ for model in (estimator, baseline)
        )
        if uses_unlabeled(baseline):
            baseline_name = "supervised baseline"
        return cls(np.asarray(budgets), *scores, name, baseline_name).plot(ax)

    def plot(self, ax=None):
        """Plot the mean scores as lines and the score of each split as points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes of the plot. None creates a figure.

        Returns
        -------
        self : LabelBudgetDisplay
            Display with the plot.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
        for scores, name, color in [
            (self.scores, self.name, "C3"),
            (self.baseline_scores, self.baseline_name, "C0"),
        ]:
            ax.plot(self.budgets, scores.mean(axis=1), "o-", color=color, label=name)
            ax.plot(self.budgets, scores, ".", color=color, alpha=0.4)
        ax.set_xscale("log")
        ax.set_xticks(self.budgets, [str(budget) for budget in self.budgets])
        ax.minorticks_off()
        ax.set(xlabel="number of labels", ylabel="test score")
        ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
