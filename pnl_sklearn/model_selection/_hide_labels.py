"""Hide labels and mark unlabeled samples."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..data._targets import known_labels


@validate_params(
    {
        "y": ["array-like"],
        "n_labeled": [Interval(Integral, 1, None, closed="left")],
        "stratify": [StrOptions({"equal", "proportional"}), None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def hide_labels(y, n_labeled, *, stratify="equal", random_state=None):
    """Keep some labels and mark all other samples as unlabeled.

    Use it for experiments: predictions can be compared with the hidden labels.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels. Unlabeled samples (-1, "-1", None, NaN or pandas.NA) stay unlabeled.
    n_labeled : int
        Number of labels to keep.
    stratify : {"equal", "proportional"} or None, default="equal"
        Number of labels that each class keeps.

        - "equal": equal numbers, up to a difference of one. A class with fewer labels
          keeps all of them, and the other classes keep more.
        - "proportional": numbers in proportion to the class frequencies, at least one.
        - None: labels are sampled regardless of the class. A class may lose all labels.
    random_state : int, RandomState instance or None, default=None
        Determines which labels are kept.

    Returns
    -------
    y_partial : ndarray of shape (n_samples,)
        Copy of y in which -1 marks unlabeled samples. The dtype is that of the labels
        for signed integers and floats, int64 for unsigned integers and booleans, and
        object for strings.

    Raises
    ------
    ValueError
        If y has fewer labels than `n_labeled`, or if `n_labeled` is less than the
        number of classes and `stratify` is not None.

    See Also
    --------
    SemiSupervisedSplit : Cross-validation of partly labeled data.

    Examples
    --------
    >>> from pnl_sklearn.model_selection import hide_labels
    >>> hide_labels([0, 0, 0, 1, 1, 1], n_labeled=2, random_state=0)
    array([ 0, -1, -1, -1,  1, -1])
    """
    is_labeled, labels = known_labels(y)
    labeled = np.flatnonzero(is_labeled)
    classes, codes = np.unique(labels, return_inverse=True)
    if n_labeled > len(labels):
        raise ValueError(
            f"n_labeled={n_labeled}, but y has {len(labels)} labels. Use a smaller "
            "n_labeled."
        )
    rng = check_random_state(random_state)
    # With the same seed, rng.permutation would be that of KFold(shuffle=True), and the
    # labels that are kept would all be in one test set.
    order = rng.random_sample(len(labels)).argsort()
    if stratify is None:
        kept = order[:n_labeled]
    else:
        if n_labeled < len(classes):
            raise ValueError(
                f"n_labeled={n_labeled} is less than the {len(classes)} classes of y. "
                "Keep at least one label of each class, or use stratify=None."
            )
        counts = np.bincount(codes)
        if stratify == "equal":
            frequencies = np.full(len(counts), 1 / len(counts))
        else:
            frequencies = counts / len(labels)
        n_kept = _n_per_class(n_labeled, frequencies, counts, rng)
        kept = np.concatenate(
            [order[codes[order] == k][:n] for k, n in enumerate(n_kept)]
        )
    is_kept = np.zeros(len(is_labeled), dtype=bool)
    is_kept[labeled[kept]] = True
    return mark_unlabeled(is_kept, labels[np.sort(kept)])


def mark_unlabeled(is_labeled: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return targets in which -1 marks unlabeled samples, as in scikit-learn.

    Parameters
    ----------
    is_labeled : bool ndarray of shape (n_samples,)
        Mask of the labeled samples.
    labels : ndarray of shape (n_labeled,)
        Labels of the labeled samples.

    Returns
    -------
    y : ndarray of shape (n_samples,)
        The dtype is that of the labels for signed integers and floats, int64 for
        unsigned integers and booleans, and object for strings.
    """
    kind = labels.dtype.kind
    dtype = object if kind in "USO" else labels.dtype if kind in "if" else np.int64
    y = np.full(len(is_labeled), -1, dtype=dtype)
    y[is_labeled] = labels
    return y


def _n_per_class(
    n: int, frequencies: np.ndarray, counts: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """Distribute n labels by class frequencies, from 1 to the count of each class."""
    n_kept = np.ones(len(counts), dtype=int)
    tie_breaker = rng.permutation(len(counts))
    for _ in range(n - len(counts)):
        deficit = np.where(n_kept < counts, n * frequencies - n_kept, -np.inf)
        n_kept[tie_breaker[deficit[tie_breaker].argmax()]] += 1
    return n_kept
