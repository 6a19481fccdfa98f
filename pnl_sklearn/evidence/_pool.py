"""Log-linear pools of class probabilities."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax


def log_linear_pool(
    log_probabilities: np.ndarray,
    labels: np.ndarray,
    prior_mean: float = 0.5,
    prior_precision: float = 4.0,
) -> np.ndarray:
    """Fit the exponents of a log-linear pool (logarithmic opinion pool) [1]_.

    The pool is the normalized product of the experts' class probabilities, each with an
    exponent. The exponents maximize the likelihood of the labels, with a normal prior.

    Parameters
    ----------
    log_probabilities : float array of shape (n_experts, n_samples, n_classes)
        Logarithms of the class probabilities that each expert predicts for samples
        whose labels it does not know.
    labels : int array of shape (n_samples,)
        Class codes.
    prior_mean, prior_precision : float, default=0.5 and 4.0
        Mean and precision (reciprocal of the variance) of the normal prior of each
        exponent. With few labels, exponents are near the mean.

    Returns
    -------
    exponents : float array of shape (n_experts,)
        Exponents, which are not negative.

    References
    ----------
    .. [1] C. Genest and J. V. Zidek, "Combining Probability Distributions: A Critique
       and an Annotated Bibliography", Statistical Science 1, 1986.
    """
    at_label = np.arange(len(labels)), labels

    def loss(exponents):
        log_pool = log_softmax(np.tensordot(exponents, log_probabilities, 1), axis=1)
        residual = exponents - prior_mean
        value = prior_precision / 2 * residual @ residual - log_pool[at_label].sum()
        expected = (np.exp(log_pool) * log_probabilities).sum(axis=2)
        observed = log_probabilities[:, *at_label]
        return value, prior_precision * residual + (expected - observed).sum(axis=1)

    n_experts = len(log_probabilities)
    start = np.full(n_experts, prior_mean)
    return minimize(loss, start, jac=True, bounds=[(0, None)] * n_experts).x
