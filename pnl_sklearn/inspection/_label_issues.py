"""Labels that a fit without them disputes."""

import numpy as np
from sklearn.utils import Bunch, _safe_indexing
from sklearn.utils.validation import indexable

from ..data._targets import known_labels
from ..model_selection._hide_labels import mark_unlabeled
from ._unlabeled_gain import fit_rows, split_labeled


def find_label_issues(estimator, X, y, *, cv=5):
    """List labeled rows whose label is disputed by a fit that has not seen it.

    Parameters
    ----------
    estimator : semi-supervised classifier with `predict_proba`
        Is fitted once a split, with all unlabeled rows.
    X : array-like or sparse matrix of n_samples
    y : array-like of shape (n_samples,)
        Labels, and -1 for unlabeled rows.
    cv : int or splitter, default=5
        Splits the labeled rows, as in
        :class:`~pnl_sklearn.model_selection.SemiSupervisedSplit`, each into one test
        part at most.

    Returns
    -------
    suspects : Bunch
        ``rows``: positions in y of the labels that are not predicted, the most
        disputed first; ``predicted``: the classes predicted instead; ``margins``: by
        how much the probability of the predicted class exceeds that of the label, from
        0 to 1. A class's only label cannot be judged and is not listed.

    References
    ----------
    C. Northcutt, L. Jiang and I. Chuang, "Confident Learning: Estimating Uncertainty in
    Dataset Labels", JAIR 70, 2021, for labels judged by out-of-fold probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.semi_supervised import LabelSpreading
    >>> from pnl_sklearn.inspection import find_label_issues
    >>> X = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [5.0], [5.1], [5.2], [5.3]])
    >>> y = np.array([0, 0, 1, 0, -1, 1, 1, 1, -1])  # the third is wrong
    >>> find_label_issues(LabelSpreading(gamma=1), X, y, cv=3).rows
    array([2])
    """
    known, labels = known_labels(y)
    y = mark_unlabeled(known, labels)
    X, y = indexable(X, y)
    found = []
    tested: set[int] = set()
    for train, test in split_labeled(cv).split(X, y):
        if tested & set(test):
            raise ValueError(f"cv={cv!r} tests a row in several splits; one is needed.")
        tested |= set(test)
        model = fit_rows(estimator, X, y, train)
        probabilities = model.predict_proba(_safe_indexing(X, test))
        codes = {label: k for k, label in enumerate(model.classes_.tolist())}
        taught = set(y[train].tolist())
        for row, p in zip(test, probabilities, strict=True):
            # No fit that does not know a class can dispute it.
            if y[row] in taught and p.argmax() != codes[y[row]]:
                margin = p.max() - p[codes[y[row]]]
                found.append((float(margin), int(row), model.classes_[p.argmax()]))
    found.sort(key=lambda suspect: (-suspect[0], suspect[1]))
    margins, rows, predicted = zip(*found, strict=True) if found else ((), (), ())
    return Bunch(
        rows=np.array(rows, dtype=int),
        predicted=np.array(predicted, dtype=y.dtype),
        margins=np.array(margins, dtype=float),
    )
