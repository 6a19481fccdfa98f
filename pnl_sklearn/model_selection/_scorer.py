"""Scorers that use labeled samples only."""

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import get_scorer
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import _num_samples, indexable

from ..data._targets import known_labels


def make_labeled_scorer(scoring):
    """Make a scorer that ignores unlabeled samples.

    Use it if test sets contain unlabeled samples. The test sets of
    :class:`SemiSupervisedSplit` contain none: scikit-learn's scorers can be used there.

    Parameters
    ----------
    scoring : str, callable, list, tuple, set, dict or None
        Name of a scorer, or a callable ``scorer(estimator, X, y)``. For several metrics
        it is a list, tuple or set of names, or a dict of scorers, as in
        :class:`~sklearn.model_selection.GridSearchCV`. None uses the estimator's
        ``score`` method.

    Returns
    -------
    scorer : callable or dict of callables
        ``scorer(estimator, X, y, **params)``, or a dict of scorers for several metrics.
        Array-likes of length n_samples in `params`, such as `sample_weight`, are
        restricted to the labeled samples, too. The scorer raises a ValueError if no
        sample is labeled.

    See Also
    --------
    SemiSupervisedSplit : Cross-validation whose test sets are labeled.

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
    return _LabeledScorer(_score_method if scoring is None else get_scorer(scoring))


def _score_method(estimator, X, y, **params):
    return estimator.score(X, y, **params)


class _LabeledScorer:
    """Call a scorer with the labeled samples."""

    def __init__(self, scorer) -> None:
        self._scorer = scorer

    def __repr__(self) -> str:
        return f"make_labeled_scorer({self._scorer!r})"

    def __call__(self, estimator, X, y, **params):
        # A test set may contain a single class.
        is_labeled, labels = known_labels(y, one_class=True)
        labeled = np.flatnonzero(is_labeled)
        if not len(labeled):
            raise ValueError(
                f"None of the {len(is_labeled)} samples to score is labeled. Use "
                "cv=SemiSupervisedSplit(), whose test sets are labeled."
            )
        params = {
            name: _safe_indexing(value, labeled)
            if _has_length(value, len(is_labeled))
            else value
            for name, value in params.items()
        }
        (X,) = indexable(X)
        return self._scorer(estimator, _safe_indexing(X, labeled), labels, **params)

    def get_metadata_routing(self):
        """Return the metadata routing of the wrapped scorer."""
        return get_routing_for_object(self._scorer)


def _has_length(value, n_samples: int) -> bool:
    is_array = isinstance(value, list | tuple) or bool(getattr(value, "shape", ()))
    return is_array and _num_samples(value) == n_samples
