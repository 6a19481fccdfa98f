"""Scorers that leave out rows whose target is unknown."""

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import get_scorer
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import _num_samples, indexable

from ..data._targets import known_labels


def make_labeled_scorer(scoring):
    """Return a scorer that leaves out rows whose target is unknown.

    For test parts that hold unlabeled rows. With :class:`SemiSupervisedSplit` there are
    none, and scikit-learn's scorers serve as they are.

    Parameters
    ----------
    scoring : str, callable, list, tuple, set, dict or None
        Name of a scorer, ``scorer(estimator, X, y)``, or several of them as for
        ``scoring=`` of :class:`~sklearn.model_selection.GridSearchCV`. None: the
        estimator's own ``score``.

    Returns
    -------
    scorer : callable or dict
        ``scorer(estimator, X, y, **params)``; where several are given, a dict of them.
        Array-like `params` with an entry a row, such as `sample_weight`, lose the same
        rows. It raises a ValueError if no target is known.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from pnl_sklearn.model_selection import make_labeled_scorer
    >>> X, y = np.zeros((4, 1)), np.array([0, 0, 1, -1])
    >>> model = DummyClassifier().fit(X[:3], y[:3])
    >>> round(make_labeled_scorer("accuracy")(model, X, y), 2)
    0.67
    """
    if isinstance(scoring, Mapping):
        return {name: make_labeled_scorer(scorer) for name, scorer in scoring.items()}
    if isinstance(scoring, list | tuple | set):
        return {name: make_labeled_scorer(name) for name in scoring}
    return _LabeledScorer(_own_score if scoring is None else get_scorer(scoring))


def _own_score(estimator, X, y, **params):
    return estimator.score(X, y, **params)


class _LabeledScorer:
    """Calls a scorer with the rows whose target is known."""

    def __init__(self, scorer) -> None:
        self._scorer = scorer

    def __repr__(self) -> str:
        return f"make_labeled_scorer({self._scorer!r})"

    def __call__(self, estimator, X, y, **params):
        labeled, labels = known_labels(y, one_class=True)
        known = np.flatnonzero(labeled)
        if not len(known):
            raise ValueError(
                "No target is known among the rows to be scored. SemiSupervisedSplit "
                "makes test parts of labeled rows."
            )
        params = {
            name: _safe_indexing(value, known)
            if _has_rows(value, len(labeled))
            else value
            for name, value in params.items()
        }
        (X,) = indexable(X)
        return self._scorer(estimator, _safe_indexing(X, known), labels, **params)

    def get_metadata_routing(self):
        """Return what the scorer asks for."""
        return get_routing_for_object(self._scorer)


def _has_rows(value, n_rows: int) -> bool:
    is_array = isinstance(value, list | tuple) or bool(getattr(value, "shape", ()))
    return is_array and _num_samples(value) == n_rows
