"""Labels hidden on purpose, and the mark of unlabeled rows."""

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
    """Keep some labels and mark all other rows as unlabeled, to experiment or teach.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels. Source that are unlabeled already stay so, and are not counted.
    n_labeled : int
        Number of labels to keep.
    stratify : {"equal", "proportional"} or None, default="equal"
        "equal" keeps as many of each class, give or take one, as far as its rows go;
        "proportional" in proportion to the classes, and one at least; None draws among
        all rows, so that a class may lose all of its labels.
    random_state : int, RandomState instance or None, default=None
        Governs which are kept.

    Returns
    -------
    hidden : array of shape (n_samples,)
        Copy of y with -1 where unlabeled: of the same dtype if that is signed, int64
        for unsigned integers and bool, object for strings.

    Raises
    ------
    ValueError
        If there are fewer labels than `n_labeled`, or more classes where stratified.

    Examples
    --------
    >>> from pnl_sklearn.model_selection import hide_labels
    >>> hide_labels([0, 0, 0, 1, 1, 1], n_labeled=2, random_state=0)
    array([ 0, -1, -1, -1,  1, -1])
    """
    known, labels = known_labels(y)
    rows = np.flatnonzero(known)
    classes, codes = np.unique(labels, return_inverse=True)
    if n_labeled > len(rows):
        raise ValueError(f"n_labeled={n_labeled}, but y holds {len(rows)} labels.")
    rng = check_random_state(random_state)
    # Not a permutation: KFold and the like begin with that of the same seed, and the
    # first of its rows, those kept here, would all be in one test part.
    order = rng.random_sample(len(rows)).argsort()
    if stratify is None:
        kept = order[:n_labeled]
    else:
        if n_labeled < len(classes):
            raise ValueError(
                f"n_labeled={n_labeled} is less than the {len(classes)} classes of y. "
                "Keep one label of each at least, or give stratify=None."
            )
        counts = np.bincount(codes)
        equal = stratify == "equal"
        shares = np.full(len(counts), 1 / len(counts)) if equal else counts / len(rows)
        quotas = _quotas(n_labeled, shares, counts, rng)
        kept = np.concatenate(
            [order[codes[order] == k][:quota] for k, quota in enumerate(quotas)]
        )
    kept_rows = np.zeros(len(known), dtype=bool)
    kept_rows[rows[kept]] = True
    return mark_unlabeled(kept_rows, labels[np.sort(kept)])


def mark_unlabeled(known: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return labels where they are known, and -1 elsewhere, as scikit-learn wants it.

    Of the dtype of the labels if that is signed, of int64 for unsigned integers and
    bool, of objects for strings.
    """
    kind = labels.dtype.kind
    dtype = object if kind in "USO" else labels.dtype if kind in "if" else np.int64
    y = np.full(len(known), -1, dtype=dtype)
    y[known] = labels
    return y


def _quotas(n: int, shares: np.ndarray, available: np.ndarray, rng) -> np.ndarray:
    """Split n into whole numbers near the shares, from 1 to what is available."""
    quotas = np.ones(len(shares), dtype=int)
    ties = rng.permutation(len(shares))
    for _ in range(n - len(shares)):
        wanting = np.where(quotas < available, n * shares - quotas, -np.inf)[ties]
        quotas[ties[wanting.argmax()]] += 1
    return quotas
