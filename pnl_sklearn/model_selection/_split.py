"""Cross-validation over the labeled samples."""

import warnings
from collections.abc import Iterator
from copy import copy
from numbers import Integral
from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import (
    PredefinedSplit,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_consistent_length, indexable

from ..data._targets import known_labels
from ..utils._warnings import warn_user


class SemiSupervisedSplit(BaseEstimator):
    """Cross-validation splitter for partly labeled data.

    Test sets contain labeled samples only. Each training set contains the other labeled
    samples and all unlabeled samples. Use it as the ``cv`` parameter of
    `cross_validate`, `GridSearchCV`, `RandomizedSearchCV`, `HalvingGridSearchCV` etc.

    Read more in the :doc:`user guide </guide/model_selection>`.

    Parameters
    ----------
    cv : int or splitter, default=5
        Splitter of the labeled samples. An int is the number of stratified folds. A
        splitter is one of :mod:`sklearn.model_selection` (except PredefinedSplit), or
        any object with the methods ``split`` and ``get_n_splits``. If some class has
        fewer labels than there are stratified folds, the number of folds is reduced to
        the number of its labels, but not below two, and a warning is issued.

    See Also
    --------
    make_labeled_scorer : Scorer for test sets that contain unlabeled samples.
    hide_labels : Keep some labels and hide the other ones.

    Notes
    -----
    `groups` apply to labeled samples only. Unlabeled samples are in all training sets,
    also if their group is in the test set.

    Examples
    --------
    >>> import numpy as np
    >>> from pnl_sklearn.model_selection import SemiSupervisedSplit
    >>> y = np.array([0, 1, -1, -1, 0, 1, -1])
    >>> for train, test in SemiSupervisedSplit(cv=2).split(y, y):
    ...     print(train, test)
    [2 3 4 5 6] [0 1]
    [0 1 2 3 6] [4 5]
    """

    # scikit-learn's group splitters request `groups` by default, too.
    __metadata_request__split: ClassVar[dict] = {"groups": True}

    def __init__(self, cv=5):
        self.cv = cv

    def split(self, X, y, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Generate indices of the training and test sets.

        Parameters
        ----------
        X : array-like, sparse matrix or Dataset of n_samples
            Samples. They are passed to the splitter `cv`.
        y : array-like of shape (n_samples,)
            Labels; -1, "-1", None, NaN or pandas.NA for unlabeled samples.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample, for splitters that use groups.

        Yields
        ------
        train : int ndarray
            Sorted indices of the labeled samples to train on and of all unlabeled
            samples.
        test : int ndarray
            Sorted indices of the labeled samples to test on.

        Raises
        ------
        ValueError
            If y is None or has fewer than two labeled samples. If folds are stratified
            and no class has two labels. If `cv` is no splitter.

        Warns
        -----
        UserWarning
            If some class has fewer labels than there are stratified folds.
        """
        if y is None:
            raise ValueError(
                "SemiSupervisedSplit needs y to split the labeled samples, but y=None."
            )
        splitter, is_labeled, labels = self._check(y, warn=True)
        labeled, unlabeled = np.flatnonzero(is_labeled), np.flatnonzero(~is_labeled)
        if X is not None and hasattr(X, "shape"):
            X, _ = indexable(X, is_labeled)
            X = _safe_indexing(X, labeled)
        else:
            X = np.zeros(len(labeled))
        if groups is not None:
            check_consistent_length(groups, is_labeled)
            groups = _safe_indexing(groups, labeled)
        with warnings.catch_warnings():
            # A more precise warning has been issued by _check.
            warnings.filterwarnings("ignore", "The least populated class")
            folds = list(splitter.split(X, labels, groups))
        for train, test in folds:
            yield np.union1d(labeled[train], unlabeled), np.sort(labeled[test])

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X : array-like, default=None
            Ignored.
        y : array-like of shape (n_samples,), default=None
            Labels. If None, the number of splits of `cv` is returned, which may be
            larger than the one for y if a class has few labels.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample, for splitters that leave groups out.

        Returns
        -------
        n_splits : int
            Number of splits.
        """
        if y is None:
            return check_cv(self.cv, classifier=True).get_n_splits(X, y, groups)
        splitter, is_labeled, labels = self._check(y, warn=False)
        if groups is not None:
            groups = _safe_indexing(groups, np.flatnonzero(is_labeled))
        return splitter.get_n_splits(labels, labels, groups)

    @property
    def shuffle(self):
        """Whether `cv` shuffles; `HalvingGridSearchCV` checks it."""
        return getattr(self.cv, "shuffle", True)

    @property
    def random_state(self):
        """Seed of `cv`; `HalvingGridSearchCV` checks it."""
        return getattr(self.cv, "random_state", 0)

    def _check(self, y, warn: bool):
        """Check `cv` and y; return the splitter, the mask of labeled samples, labels.

        The number of stratified folds is reduced if a class has fewer labels.
        """
        is_labeled, labels = known_labels(y)
        if len(labels) < 2:
            raise ValueError(
                f"y has {len(labels)} labeled samples. At least two are needed, one to "
                "train on and one to test on."
            )
        if isinstance(self.cv, PredefinedSplit) or not (
            isinstance(self.cv, Integral) or hasattr(self.cv, "split")
        ):
            raise ValueError(
                f"cv={self.cv!r} is neither a number of folds nor a splitter that can "
                "be applied to the labeled samples alone. Use one of these, or pass "
                "indices of X to scikit-learn without SemiSupervisedSplit."
            )
        splitter = check_cv(self.cv, labels, classifier=True)
        n_folds = _n_stratified_folds(splitter)
        if n_folds is None:
            return splitter, is_labeled, labels
        classes, counts = np.unique(labels, return_counts=True)
        if counts.max() < 2:
            raise ValueError(
                "No class has two labeled samples, so that no class can be both in the "
                "training set and in the test set. Label more samples, or use "
                "cv=KFold(2)."
            )
        n_possible = max(2, int(counts.min()))
        if n_folds > n_possible:
            splitter = _set_n_folds(splitter, n_possible)
            if warn:
                message = (
                    f"Class {classes[counts.argmin()].item()!r} has {counts.min()} "
                    f"labeled samples, fewer than the {n_folds} folds of cv. "
                    f"{n_possible} folds are used."
                )
                if counts.min() == 1:
                    message += (
                        " If its only label is in the test set, the training set has "
                        "no label of the class."
                    )
                warn_user(message)
        return splitter, is_labeled, labels


def _n_stratified_folds(splitter) -> int | None:
    """Return the number of folds if they are stratified, otherwise None."""
    if isinstance(splitter, RepeatedStratifiedKFold):
        return splitter.cvargs["n_splits"]
    if isinstance(splitter, StratifiedKFold | StratifiedGroupKFold):
        return splitter.n_splits
    return None


def _set_n_folds(splitter, n_folds: int):
    """Return a copy of a stratified splitter with another number of folds."""
    splitter = copy(splitter)
    if isinstance(splitter, RepeatedStratifiedKFold):
        splitter.cvargs = splitter.cvargs | {"n_splits": n_folds}
    else:
        splitter.n_splits = n_folds
    return splitter
