"""Get and replace the last step of a pipeline."""

from sklearn.base import clone
from sklearn.pipeline import Pipeline


def final_step(estimator):
    """Return the last step of a pipeline, or the estimator itself."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def with_final_step(estimator, final):
    """Return an unfitted copy of a pipeline with `final` as its last step.

    If the estimator is no pipeline, return `final` itself.
    """
    if not isinstance(estimator, Pipeline):
        return final
    return clone(estimator).set_params(**{estimator.steps[-1][0]: final})
