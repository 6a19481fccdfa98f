"""What to label next."""

import warnings
from numbers import Integral

import numpy as np
import torch
from scipy.special import entr
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted, indexable

from ..estimator._classifier import PNLClassifier

# Of so many times the rows asked for, the most uncertain ones are grouped.
_N_CANDIDATES = 10


@validate_params(
    {
        "n_instances": [Interval(Integral, 1, None, closed="left")],
        "strategy": [StrOptions({"disagreement", "entropy", "margin"})],
        "diverse": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def rank_for_labeling(
    estimator,
    X,
    n_instances=10,
    *,
    strategy="disagreement",
    diverse=True,
    random_state=None,
):
    """Return the rows whose labels would tell most.

    Parameters
    ----------
    estimator : fitted PNLClassifier, or classifier with `predict_proba`
        "disagreement" needs a PNLClassifier. Or a pipeline that ends with one: the
        other steps transform X first.
    X : array-like or sparse matrix of n_samples
        Unlabeled rows.
    n_instances : int, default=10
        Number of rows wanted.
    strategy : {"disagreement", "entropy", "margin"}, default="disagreement"
        What makes a row uncertain: that the two submodels disagree (Jensen-Shannon
        divergence of their probabilities), the entropy of the prediction, or a small
        lead of the first class on the second.
    diverse : bool, default=True
        Spread the rows: ten times as many of the most uncertain ones are grouped by
        k-means, weighted by their uncertainty, and the row nearest to each center is
        taken. False takes the most uncertain ones as they come, often much alike.
    random_state : int, RandomState instance or None, default=None
        Governs k-means.

    Returns
    -------
    rows : int array of shape (n_instances,)
        Positions in X, the most uncertain first.

    Notes
    -----
    Labels asked for so are of unequal classes, mostly of those that are hard to tell.
    Fit with ``class_weight="balanced"`` then, or a class may be lost.

    References
    ----------
    H. S. Seung, M. Opper and H. Sompolinsky, "Query by committee", COLT 1992;
    F. Zhdanov, "Diverse mini-batch Active Learning", 2019, arXiv 1901.05954.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from pnl_sklearn.inspection import rank_for_labeling
    >>> X = np.array([[0.0], [1.0], [0.6]])
    >>> model = LogisticRegression().fit(X[:2], [0, 1])
    >>> rank_for_labeling(model, X, n_instances=1, strategy="margin", diverse=False)
    array([2])
    """
    check_is_fitted(estimator)
    if isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = estimator[-1]
    if strategy == "disagreement":
        uncertainty = _disagreement(estimator, X)
    else:
        probabilities = estimator.predict_proba(X)
        if strategy == "entropy":
            uncertainty = entr(probabilities).sum(axis=1)
        else:
            second, first = np.sort(probabilities, axis=1)[:, -2:].T
            uncertainty = 1 - (first - second)
    n_rows = len(uncertainty)
    if n_instances > n_rows:
        raise ValueError(f"n_instances={n_instances}, but X has {n_rows} rows.")
    ranked = np.argsort(-uncertainty, kind="stable")
    if not diverse:
        return ranked[:n_instances]
    candidates = ranked[: _N_CANDIDATES * n_instances]
    features = _features(X, candidates)
    weights = uncertainty[candidates].clip(1e-12)
    means = KMeans(n_instances, n_init=1, random_state=random_state)
    with warnings.catch_warnings():
        # Where rows are alike there are fewer groups; as many rows are taken.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit(features, sample_weight=weights)
    distances = means.transform(features)
    chosen: list[int] = []
    for center in distances.T:
        center[chosen] = np.inf
        chosen.append(int(center.argmin()))
    return candidates[np.sort(chosen)]


def _disagreement(estimator, X) -> np.ndarray:
    """Jensen-Shannon divergence of the submodels' probabilities, in nats."""
    if not isinstance(estimator, PNLClassifier):
        raise TypeError(
            f"{type(estimator).__name__} has no submodels that could disagree; give "
            "strategy='entropy' or 'margin'."
        )
    each = np.array(
        [
            estimator._predict_parts(X, torch.exp, submodels=[submodel])
            for submodel in estimator.submodels_
        ]
    )
    return entr(each.mean(axis=0)).sum(axis=1) - entr(each).sum(axis=2).mean(axis=0)


def _features(X, rows: np.ndarray) -> np.ndarray:
    """Flat standardized rows."""
    (X,) = indexable(X)
    X = _safe_indexing(X, rows)
    X = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    try:
        X = np.asarray(X, dtype=np.float64).reshape(len(rows), -1)
        finite = np.isfinite(X).all()
    except (TypeError, ValueError):
        finite = False
    if not finite:
        raise ValueError(
            "X holds values that are not finite numbers, between which there is no "
            "distance to spread the rows by. Give diverse=False."
        )
    return StandardScaler().fit_transform(X)
