"""Cross-validation over the labeled rows."""

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


class SemiSupervisedSplit(BaseEstimator):
    """Cross-validation over the labeled rows; every training part has all others.

    A splitter for ``cv=`` of `GridSearchCV`, `RandomizedSearchCV`,
    `HalvingGridSearchCV`, `cross_validate` and the like. Test parts hold labeled rows
    only, so that every score counts; no unlabeled row is lost for training.

    Parameters
    ----------
    cv : int or splitter, default=5
        Splits the labeled rows. An int is the number of stratified folds; a splitter is
        one of :mod:`sklearn.model_selection` (but PredefinedSplit), or any object with
        methods ``split`` and ``get_n_splits``. Stratified folds are as many as the
        rarest class has labels, with a warning, where that is fewer; but two at least.

    See Also
    --------
    make_labeled_scorer : Scores known targets only, where a test part holds unlabeled rows.

    Notes
    -----
    `groups` keep labeled rows of one group together. Unlabeled rows are in all training
    parts, those of a test part's groups, too: they carry no label.

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

    # As splitters by group do: `groups` that are passed reach `split`.
    __metadata_request__split: ClassVar[dict] = {"groups": True}

    def __init__(self, cv=5):
        self.cv = cv

    def split(self, X, y, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows of each training and test part.

        Parameters
        ----------
        X : array-like, sparse matrix or Dataset of n_samples
            Inputs; only their number is used, unless the wrapped splitter looks at
            them.
        y : array-like of shape (n_samples,)
            Labels; -1, "-1", None, NaN or pandas.NA where a row is unlabeled.
        groups : array-like of shape (n_samples,), default=None
            Groups, for a splitter that keeps them together.

        Yields
        ------
        train : int array
            Labeled rows of the training part and all unlabeled rows, in order.
        test : int array
            Labeled rows of the test part, in order.

        Raises
        ------
        ValueError
            If y has fewer than two labeled rows, or for stratified folds no class with
            two.
        """
        if y is None:
            raise ValueError("SemiSupervisedSplit needs y, to tell labeled rows.")
        cv, labels, labeled = self._resolve(y, warn=True)
        rows, unlabeled = np.flatnonzero(labeled), np.flatnonzero(~labeled)
        if X is not None and hasattr(X, "shape"):
            X, _ = indexable(X, labeled)
            X = _safe_indexing(X, rows)
        else:
            X = np.zeros(len(rows))
        if groups is not None:
            check_consistent_length(groups, labeled)
            groups = _safe_indexing(groups, rows)
        with warnings.catch_warnings():
            # Said already, with the name of the class.
            warnings.filterwarnings("ignore", "The least populated class")
            parts = list(cv.split(X, labels, groups))
        for train, test in parts:
            yield np.union1d(rows[train], unlabeled), np.sort(rows[test])

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of splits, which few labels may lower.

        Parameters
        ----------
        X : array-like, default=None
            Not used.
        y : array-like of shape (n_samples,), default=None
            Labels; without them the number that was asked for is returned.
        groups : array-like of shape (n_samples,), default=None
            Groups, for a splitter that leaves groups out.

        Returns
        -------
        n_splits : int
        """
        if y is None:
            return check_cv(self.cv, classifier=True).get_n_splits(X, y, groups)
        cv, labels, labeled = self._resolve(y, warn=False)
        if groups is not None:
            groups = _safe_indexing(groups, np.flatnonzero(labeled))
        return cv.get_n_splits(labels, labels, groups)

    @property
    def shuffle(self):
        """Whether the wrapped splitter shuffles; `HalvingGridSearchCV` asks."""
        return getattr(self.cv, "shuffle", True)

    @property
    def random_state(self):
        """Seed of the wrapped splitter; `HalvingGridSearchCV` asks."""
        return getattr(self.cv, "random_state", 0)

    def _resolve(self, y, warn: bool):
        """Return the splitter, with as many folds as labels allow; labels; labeled."""
        labeled, labels = known_labels(y)
        if labeled.sum() < 2:
            raise ValueError(
                f"y holds {labeled.sum()} labeled rows; two at least are needed to "
                "train on some and test on others."
            )
        if isinstance(self.cv, PredefinedSplit) or not (
            isinstance(self.cv, Integral) or hasattr(self.cv, "split")
        ):
            raise ValueError(
                f"cv={self.cv!r} names rows of X, but here labeled rows are split. "
                "Give a number of folds or another splitter; rows of your own choice "
                "can be given to scikit-learn as they are."
            )
        cv = check_cv(self.cv, labels, classifier=True)
        classes, counts = np.unique(labels, return_counts=True)
        asked, possible = _n_folds(cv), max(2, int(counts.min()))
        if asked is not None and counts.max() < 2:
            raise ValueError(
                "No class has two labeled rows, so that none can be both trained on "
                "and tested. Label more rows, or give a splitter such as KFold(2)."
            )
        if asked is not None and asked > possible:
            cv = _with_folds(cv, possible)
            if warn:
                rarest = classes[counts.argmin()].item()
                warnings.warn(
                    f"Class {rarest!r} has {counts.min()} labeled rows, fewer than the "
                    f"{asked} folds that were asked for; {possible} are used."
                    + (
                        " Where its one label is tested, none is left to train on."
                        if counts.min() == 1
                        else ""
                    ),
                    UserWarning,
                    stacklevel=3,
                )
        return cv, labels, labeled


def _n_folds(cv) -> int | None:
    """Return the number of folds, of a splitter that puts each class into all."""
    if isinstance(cv, RepeatedStratifiedKFold):
        return cv.cvargs["n_splits"]
    if isinstance(cv, StratifiedKFold | StratifiedGroupKFold):
        return cv.n_splits
    return None


def _with_folds(cv, n_folds: int):
    cv = copy(cv)
    if isinstance(cv, RepeatedStratifiedKFold):
        cv.cvargs = cv.cvargs | {"n_splits": n_folds}
    else:
        cv.n_splits = n_folds
    return cv
