"""Find labels that are probably wrong, by cross-validation."""

import numpy as np
from sklearn.utils import Bunch, _safe_indexing
from sklearn.utils.validation import indexable

from ..data._targets import known_labels
from ..model_selection._hide_labels import mark_unlabeled
from ._unlabeled_gain import as_split, fit_subset


def find_label_issues(estimator, X, y, *, cv=5):
    """Find labeled samples whose label differs from the out-of-fold prediction.

    Such labels may be wrong. Labels whose class has a much lower predicted probability
    than the predicted class come first.

    Parameters
    ----------
    estimator : semi-supervised classifier with `predict_proba`
        It is fitted once per split, on the training set and all unlabeled samples.
    X : array-like or sparse matrix of n_samples
        Labeled and unlabeled samples.
    y : array-like of shape (n_samples,)
        Labels. -1, "-1", None, NaN and pandas.NA mark unlabeled samples.
    cv : int or splitter, default=5
        Splitter of the labeled samples, see
        :class:`~pnl_sklearn.model_selection.SemiSupervisedSplit`. Each sample may be in
        one test set only.

    Returns
    -------
    issues : Bunch
        Dictionary-like object with the following attributes. They are sorted by
        `margins`, the largest first.

        indices : int64 ndarray of shape (n_issues,)
            Indices of the labels in y.
        predicted : ndarray of shape (n_issues,)
            Predicted classes of these samples.
        margins : float64 ndarray of shape (n_issues,)
            Predicted probability of the predicted class minus that of the label.

    Raises
    ------
    ValueError
        If a sample is in several test sets of `cv`, or if the estimator treats -1 as a
        class.

    Notes
    -----
    The only label of a class is never returned, since a fit without it cannot predict
    the class.

    References
    ----------
    .. [1] C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating
       Uncertainty in Dataset Labels", JAIR 70, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.semi_supervised import LabelSpreading
    >>> from pnl_sklearn.inspection import find_label_issues
    >>> X = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [5.0], [5.1], [5.2], [5.3]])
    >>> y = np.array([0, 0, 1, 0, -1, 1, 1, 1, -1])  # the third is wrong
    >>> find_label_issues(LabelSpreading(gamma=1), X, y, cv=3).indices
    array([2])
    """
    y = mark_unlabeled(*known_labels(y))
    X, y = indexable(X, y)
    issues = []
    tested: set[int] = set()
    for train, test in as_split(cv).split(X, y):
        if tested & set(test):
            raise ValueError(
                f"cv={cv!r} has a sample in several test sets. Use a splitter without "
                "repetition, such as cv=5."
            )
        tested |= set(test)
        fitted = fit_subset(estimator, X, y, train)
        probabilities = fitted.predict_proba(_safe_indexing(X, test))
        codes = {label: k for k, label in enumerate(fitted.classes_.tolist())}
        train_labels = set(y[train].tolist())
        for index, p in zip(test, probabilities, strict=True):
            # A fit cannot predict a class without labels in its training set.
            if y[index] in train_labels and p.argmax() != codes[y[index]]:
                margin = p.max() - p[codes[y[index]]]
                issues.append((float(margin), int(index), fitted.classes_[p.argmax()]))
    issues.sort(key=lambda issue: (-issue[0], issue[1]))
    margins, indices, predicted = zip(*issues, strict=True) if issues else ((), (), ())
    return Bunch(
        indices=np.array(indices, dtype=int),
        predicted=np.array(predicted, dtype=y.dtype),
        margins=np.array(margins, dtype=float),
    )
