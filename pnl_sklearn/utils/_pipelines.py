"""The last step of a pipeline, and pipelines with another one."""

from sklearn.base import clone
from sklearn.pipeline import Pipeline


def final_step(estimator):
    """Return the last step of a pipeline, or the estimator itself."""
    return estimator[-1] if isinstance(estimator, Pipeline) else estimator


def with_final_step(estimator, final):
    """Return `final`: in the place of the last step of a copy, if in a pipeline."""
    if not isinstance(estimator, Pipeline):
        return final
    return clone(estimator).set_params(**{estimator.steps[-1][0]: final})
