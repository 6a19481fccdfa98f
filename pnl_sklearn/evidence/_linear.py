"""A linear classifier of the labels, with cross-validated predictions of them."""

import warnings
from typing import NamedTuple

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning

# Values of C, which are tried as long as the held-out likelihood increases.
_C = (0.001, 0.01, 0.1, 1.0, 10.0)


class LinearModel(NamedTuple):
    """Logits of a linear classifier: ``X @ coef.T + intercept``.

    Parameters
    ----------
    coef : float64 array of shape (n_classes, n_features)
    intercept : float64 array of shape (n_classes,)
    """

    coef: np.ndarray
    intercept: np.ndarray

    def scaled(self, factor: float) -> "LinearModel":
        """Return the model whose logits are `factor` times as large."""
        return LinearModel(factor * self.coef, factor * self.intercept)


def fit_linear(
    X: np.ndarray,
    codes: np.ndarray,
    n_classes: int,
    folds: list[np.ndarray],
    sample_weight: np.ndarray | None = None,
) -> tuple[LinearModel, np.ndarray]:
    """Fit scikit-learn's logistic regression, with C by cross-validation.

    Parameters
    ----------
    X : float array of shape (n_labeled, n_features)
        Labeled samples.
    codes : int array of shape (n_labeled,)
        Class codes, of two classes at least. A class without labels has a logit of 0,
        the mean logit of the other ones.
    n_classes : int
    folds : list of int arrays
        Places of the samples that are held out, by fold.
    sample_weight : float array of shape (n_labeled,), default=None

    Returns
    -------
    model : LinearModel
        Fitted to all samples.
    held_out : float array of shape (n_held_out, n_classes)
        Probabilities of the samples of all folds, predicted without their labels.

    Notes
    -----
    The coefficients are in the span of the samples, since the penalty is the Euclidean
    norm (representer theorem). If there are more features than samples, the same
    solution is computed faster from the coordinates of the samples in this span.
    """
    basis = None
    if X.shape[1] > len(X):
        U, singular_values, basis = np.linalg.svd(X, full_matrices=False)
        X = U * singular_values

    def fit(C: float, used: np.ndarray) -> LinearModel:
        weight = None if sample_weight is None else sample_weight[used]
        return _logistic_regression(X[used], codes[used], n_classes, C, weight)

    everything = np.arange(len(X))
    best_C, best, held_out = _C[1], -np.inf, np.empty((0, n_classes))
    for C in _C if folds else ():
        predicted = []
        for fold in folds:
            model = fit(C, np.setdiff1d(everything, fold))
            predicted.append(_probabilities(model, X[fold]))
        probabilities = np.concatenate(predicted)
        total = log_likelihood(probabilities, codes[np.concatenate(folds)])
        if total <= best:
            break
        best_C, best, held_out = C, total, probabilities
    model = fit(best_C, everything)
    if basis is not None:
        model = model._replace(coef=model.coef @ basis)
    return model, held_out


def log_likelihood(probabilities: np.ndarray, codes: np.ndarray) -> float:
    """Return the log-likelihood of class codes, in nats."""
    return float(np.log(probabilities[np.arange(len(codes)), codes].clip(1e-9)).sum())


def _logistic_regression(X, codes, n_classes, C, sample_weight) -> LinearModel:
    # Imported here, since at the top it would make the import of this package slower.
    from sklearn.linear_model import LogisticRegression

    model = LinearModel(np.zeros((n_classes, X.shape[1])), np.zeros(n_classes))
    found = np.unique(codes)
    if len(found) < 2:
        return model
    with warnings.catch_warnings():
        # A solution that is not exact is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = LogisticRegression(C=C, max_iter=200).fit(X, codes, sample_weight)
    coef, intercept = fitted.coef_, fitted.intercept_
    if len(found) == 2:
        coef = np.concatenate([-coef, coef]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    model.coef[found], model.intercept[found] = coef, intercept
    return model


def _probabilities(model: LinearModel, X: np.ndarray) -> np.ndarray:
    return softmax(X @ model.coef.T + model.intercept, axis=1)
