"""Pictures of a fit and of what labels are worth, in scikit-learn's display style.

They need matplotlib, which is imported when they are drawn.
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
from ._unlabeled_gain import derived_baseline, fit_rows, learns_pool

_LOSSES = {
    "supervised_loss": "supervised",
    "negative_loss": "negative",
    "balance_loss": "balance",
    "consistency_loss": "consistency",
}
_SHARES = {
    "teacher_student_agreement": "networks agree",
    "negative_coverage": "rows with a negative label",
    "valid_accuracy": "held-out rows predicted right",
    "valid_negative_precision": "negative labels right on these",
}
_BY_CLASS = {
    "class_distribution": "mean prediction of each class",
    "class_coverage": "coverage of each class",
}


class HistoryDisplay:
    """Losses, agreement, mean prediction and coverage of classes, epoch by epoch.

    Make one by `from_estimator`. A class whose share falls to nothing, or an agreement
    that falls, tells of a fit that went astray. If labels were held out, the agreement
    of the networks stands beside the accuracy on them, and beside the share of
    pseudo-negative labels that are right. It needs matplotlib.

    Parameters
    ----------
    history : list of dict
        The attribute ``history_`` of a fitted estimator.
    classes : array-like of shape (n_classes,)
        Names of the classes.

    Attributes
    ----------
    figure_ : matplotlib Figure
        Set by `plot`.
    axes_ : array of four matplotlib Axes
        Set by `plot`.
    """

    def __init__(self, history, classes):
        self.history = history
        self.classes = classes

    @classmethod
    def from_estimator(cls, estimator):
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : PNLClassifier
            Or a pipeline that ends with one.

        Returns
        -------
        display : HistoryDisplay
        """
        check_is_fitted(estimator)
        estimator = final_step(estimator)
        return cls(estimator.history_, estimator.classes_).plot()

    def plot(self):
        """Draw.

        Returns
        -------
        self : HistoryDisplay
        """
        import matplotlib.pyplot as plt

        if not self.history:
            raise ValueError(
                "There is nothing to draw: the fit ended before its first epoch was "
                "over."
            )
        epochs = [row["epoch"] for row in self.history]
        self.figure_, axes = plt.subplots(
            2, 2, figsize=(9, 6), layout="constrained", sharex=True
        )
        self.axes_ = axes.ravel()
        losses, shares, *by_class = self.axes_
        for name, label in _LOSSES.items():
            values = [row[name] for row in self.history]
            if any(values):
                losses.plot(epochs, values, marker="o", ms=3, label=label)
        losses.set(title="losses")
        for name, label in _SHARES.items():
            values = [row.get(name, np.nan) for row in self.history]
            if not np.isnan(values).all():
                shares.plot(epochs, values, marker="o", ms=3, label=label)
        shares.set(title="shares of rows, and of negative labels", ylim=(0, 1.03))
        for ax, (name, title) in zip(by_class, _BY_CLASS.items(), strict=True):
            values = np.array([row[name] for row in self.history])
            for label, column in zip(self.classes, values.T, strict=True):
                ax.plot(epochs, column, marker="o", ms=3, label=str(label))
            ax.set(title=title, xlabel="epoch")
            ax.set_ylim(bottom=0)
        for ax in (losses, shares):
            if ax.lines:
                ax.legend(frameon=False, fontsize=8)
        if len(self.classes) <= 10:
            by_class[1].legend(frameon=False, fontsize=8, ncols=2)
        return self


class LabelBudgetDisplay:
    """Score by the number of labels, with the unlabeled rows and without.

    Make one by `from_estimator`. It needs matplotlib.

    Parameters
    ----------
    budgets : array-like of shape (n_budgets,)
        Numbers of labels.
    scores, baseline_scores : float array of shape (n_budgets, n_draws)
        With the unlabeled rows, and without.
    name, baseline_name : str
        What is fitted.

    Attributes
    ----------
    figure_ : matplotlib Figure
        Set by `plot`.
    ax_ : matplotlib Axes
        Set by `plot`.
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
            "n_draws": [Interval(Integral, 1, None, closed="left")],
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
        n_draws=3,
        test_size=0.3,
        scoring=None,
        random_state=None,
        ax=None,
    ):
        """Fit with several numbers of labels, and draw the scores on test rows.

        In each draw part of the labeled rows is kept for testing, stratified; of the
        others all labels but the budget are hidden, as many of each class.

        Parameters
        ----------
        estimator : semi-supervised classifier
        X : array-like or sparse matrix of n_samples
        y : array-like of shape (n_samples,)
            Labels, enough of them for the largest budget and the test part; -1 where a
            row is unlabeled.
        budgets : array-like of int, default=(20, 50, 100)
            Numbers of labels.
        baseline : classifier, default=None
            As for :func:`unlabeled_gain`.
        n_draws : int, default=3
            Number of draws of test rows and labels.
        test_size : float or int, default=0.3
            Share or number of the labeled rows to test on.
        scoring : str or callable, default=None
            Scorer; None takes the estimator's, the accuracy.
        random_state : int, RandomState instance or None, default=None
            Governs the draws.
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        display : LabelBudgetDisplay
        """
        if baseline is None:
            baseline = derived_baseline(estimator)
        scorer = check_scoring(estimator, scoring)
        known, labels = known_labels(y)
        y = mark_unlabeled(known, labels)
        X, y = indexable(X, y)
        rng = check_random_state(random_state)
        scores = np.empty((2, len(budgets), n_draws))
        for draw in range(n_draws):
            seed = rng.randint(np.iinfo(np.int32).max)
            _, test = train_test_split(
                np.flatnonzero(known),
                test_size=test_size,
                stratify=labels,
                random_state=seed,
            )
            y_train = y.copy()
            y_train[test] = -1
            rows = np.setdiff1d(np.arange(len(y)), test)
            X_test, y_test = _safe_indexing(X, test), y[test]
            # All of them before the first fit, since one may be refused.
            hidden = [hide_labels(y_train, int(n), random_state=seed) for n in budgets]
            for i, few in enumerate(hidden):
                labeled = np.flatnonzero(few != -1)
                for which, model in enumerate([estimator, baseline]):
                    pool = which == 0 or learns_pool(model)
                    fitted = fit_rows(model, X, few, rows if pool else labeled)
                    scores[which, i, draw] = scorer(fitted, X_test, y_test)
        names = [type(final_step(model)).__name__ for model in (estimator, baseline)]
        if learns_pool(baseline):
            names[1] = "supervised twin"
        return cls(np.asarray(budgets), *scores, *names).plot(ax)

    def plot(self, ax=None):
        """Draw the mean scores, and every draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a figure.

        Returns
        -------
        self : LabelBudgetDisplay
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
        ax.set(xlabel="labels", ylabel="score on test rows")
        ax.legend(frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self
