"""Rank unlabeled samples for labeling (active learning)."""

import warnings
from numbers import Integral

import numpy as np
from scipy.special import entr
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions, validate_params
from sklearn.utils.validation import check_is_fitted, indexable

from ..estimator._classifier import PNLClassifier


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
    """Rank unlabeled samples for labeling, the most uncertain first.

    Read more in the :doc:`user guide </guide/labels>`.

    Parameters
    ----------
    estimator : fitted classifier with `predict_proba`, or pipeline that ends with one
        The strategy "disagreement" needs a :class:`~pnl_sklearn.PNLClassifier`.
    X : array-like or sparse matrix of n_samples
        Unlabeled samples. If the estimator is a pipeline, its other steps transform
        them first.
    n_instances : int, default=10
        Number of samples to return.
    strategy : {"disagreement", "entropy", "margin"}, default="disagreement"
        Measure of uncertainty.

        - "disagreement": Jensen-Shannon divergence between the predictions of the two
          submodels (query by committee [1]_).
        - "entropy": entropy of the predicted probabilities.
        - "margin": 1 minus the difference between the two largest probabilities.
    diverse : bool, default=True
        Whether to choose dissimilar samples [2]_. The most uncertain samples, ten times
        `n_instances`, are clustered by k-means with the uncertainty as sample weight.
        The sample nearest to each of the `n_instances` cluster centers is returned. If
        False, the most uncertain samples are returned, which are often similar to each
        other.
    random_state : int, RandomState instance or None, default=None
        Determines the initialization of k-means.

    Returns
    -------
    indices : int64 ndarray of shape (n_instances,)
        Indices of samples in X, the most uncertain first.

    Raises
    ------
    TypeError
        If the strategy "disagreement" is used without a PNLClassifier.
    ValueError
        If X has fewer than `n_instances` samples. If `diverse` is True and X contains
        values that are not finite numbers.

    Notes
    -----
    Some classes are more frequent than others among the most uncertain samples. When
    these are labeled, use ``class_weight="balanced"`` to avoid class collapse.

    References
    ----------
    .. [1] H. S. Seung, M. Opper and H. Sompolinsky, "Query by committee", COLT 1992.
    .. [2] F. Zhdanov, "Diverse mini-batch Active Learning", 2019,
       arXiv:1901.05954.

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
    uncertainty = _uncertainty(estimator, X, strategy)
    n_samples = len(uncertainty)
    if n_instances > n_samples:
        raise ValueError(
            f"n_instances={n_instances}, but X has {n_samples} samples. Use a smaller "
            "n_instances."
        )
    ranking = np.argsort(-uncertainty, kind="stable")
    if not diverse:
        return ranking[:n_instances]
    candidates = ranking[: 10 * n_instances]
    features = _standardized_features(X, candidates)
    kmeans = KMeans(n_instances, n_init=1, random_state=random_state)
    with warnings.catch_warnings():
        # Equal samples form fewer clusters. n_instances samples are returned anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(features, sample_weight=uncertainty[candidates].clip(1e-12))
    distances = kmeans.transform(features)
    chosen: list[int] = []
    for to_center in distances.T:
        to_center[chosen] = np.inf
        chosen.append(int(to_center.argmin()))
    return candidates[np.sort(chosen)]


def _uncertainty(estimator, X, strategy: str) -> np.ndarray:
    """Compute the uncertainty of each sample, of shape (n_samples,)."""
    if strategy == "disagreement":
        p = _submodel_probabilities(estimator, X)
        return entr(p.mean(axis=0)).sum(axis=1) - entr(p).sum(axis=2).mean(axis=0)
    p = estimator.predict_proba(X)
    if strategy == "entropy":
        return entr(p).sum(axis=1)
    second, first = np.sort(p, axis=1)[:, -2:].T
    return 1 - (first - second)


def _submodel_probabilities(estimator, X) -> np.ndarray:
    """Predict with each submodel; shape (n_submodels, n_samples, n_classes)."""
    if not isinstance(estimator, PNLClassifier):
        raise TypeError(
            "strategy='disagreement' compares the submodels of a PNLClassifier, but "
            f"{type(estimator).__name__} has none. Use strategy='entropy' or 'margin'."
        )
    return np.array(
        [estimator._predict_proba_of(submodel, X) for submodel in estimator.submodels_]
    )


def _standardized_features(X, indices: np.ndarray) -> np.ndarray:
    """Return standardized features of some samples, (n_indices, n_features)."""
    (X,) = indexable(X)
    X = _safe_indexing(X, indices)
    X = X.toarray() if hasattr(X, "toarray") else np.asarray(X)
    try:
        X = np.asarray(X, dtype=np.float64).reshape(len(indices), -1)
        is_finite = np.isfinite(X).all()
    except (TypeError, ValueError):
        is_finite = False
    if not is_finite:
        raise ValueError(
            "X contains values that are not finite numbers, so that distances between "
            "samples cannot be computed. Use diverse=False, or a pipeline whose other "
            "steps transform X to numbers."
        )
    return StandardScaler().fit_transform(X)
