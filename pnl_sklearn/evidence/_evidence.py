"""How well a linear classifier and the neighbors predict the labels."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

from ..exceptions import UnlabeledDataWarning
from ._pool import log_linear_pool


@dataclass(frozen=True)
class Evidence:
    """How well a linear classifier and the neighbors predict held-out labels.

    It is the attribute ``evidence_`` of a fitted :class:`~pnl_sklearn.PNLClassifier`.
    ``print(classifier.evidence_)`` prints a summary.

    Read more in the :doc:`user guide </guide/when_unlabeled_data_helps>`.

    Parameters
    ----------
    n_labels : int
        Number of labels that were held out, by five-fold cross-validation. 0 if no
        class has two labels.
    log_likelihood : dict of float
        Mean log-likelihood of a held-out label, in nats. "uniform" is that of equal
        probabilities, "linear" that of a logistic regression on the labels, "neighbors"
        that of the graph posterior, and "product" that of the log-linear pool of both.
        Only what the fit has used is contained.
    linear_weight, graph_weight : float
        Exponents of the linear classifier and of the graph posterior in the teacher's
        predictions. 0 if they are not used.
    uses_neighbors : bool
        Whether the neighbors were used in the training. It is False if a linear
        classifier predicts the held-out labels better.
    expected_accuracy : float
        Mean confidence of the linear classifier and the graph posterior on held-out
        labels, after their calibration. NaN if it is unknown.
    pvalue : float
        One-sided p-value of the difference between "neighbors" and "linear", in the
        direction that was found (normal approximation). NaN if it is unknown.
    """

    n_labels: int
    log_likelihood: dict[str, float]
    linear_weight: float
    graph_weight: float
    uses_neighbors: bool
    expected_accuracy: float
    pvalue: float = math.nan

    def __str__(self) -> str:
        if not self.n_labels:
            return (
                "No class has two labels, so that no label can be held out. The "
                "neighbors are used as if they predicted the labels. Label two samples "
                "of each class to check it."
            )
        names = {
            "linear": "a linear classifier",
            "neighbors": "the neighbors",
            "product": "both",
            "uniform": "equal probabilities",
        }
        values = [
            f"{self.log_likelihood[key]:.2f} for {name}"
            for key, name in names.items()
            if key in self.log_likelihood
        ]
        parts = [
            f"Mean log-likelihood of {self.n_labels} held-out labels: "
            f"{', '.join(values)}."
        ]
        if "neighbors" not in self.log_likelihood:
            parts.append("The neighbors were not compared with it.")
        elif "linear" not in self.log_likelihood:
            parts.append("The graph posterior is used.")
        elif self.uses_neighbors:
            parts.append(
                "The neighbors predict labels at least as well as the linear "
                "classifier, and are used. Use PNLClassifier."
            )
        else:
            parts.append(
                "The linear classifier predicts labels better than the neighbors, "
                "which are not used. Compare PNLClassifier with LogisticRegression, "
                "which may be as good here."
            )
        return " ".join(parts)

    def warn(self, stacklevel: int, significance: float = 0.025) -> None:
        """Warn if the neighbors predict labels significantly worse."""
        if not self.uses_neighbors and self.pvalue < significance:
            linear, neighbors = (
                self.log_likelihood[name] for name in ("linear", "neighbors")
            )
            warnings.warn(
                "Unlabeled data do not seem to help: neighbors of the samples predict "
                "held-out labels worse than a linear classifier (mean log-likelihood "
                f"{neighbors:.2f} and {linear:.2f}, p = {self.pvalue:.1g}). The "
                "neighbors are not used in this fit. Compare with LogisticRegression, "
                "or use features in which samples of one class are similar.",
                UnlabeledDataWarning,
                stacklevel=stacklevel + 1,
            )


def weigh_evidence(
    labels: np.ndarray,
    n_classes: int,
    linear: np.ndarray | None = None,
    neighbors: np.ndarray | None = None,
) -> Evidence:
    """Compare predictions of held-out labels, and derive the weights of both experts.

    Neighbors are used if they predict the labels at least as well as a linear
    classifier. The weights are then the exponents of their log-linear pool.

    Parameters
    ----------
    labels : int array of shape (n_held_out,)
        Class codes of the held-out labels.
    n_classes : int
    linear, neighbors : float array of shape (n_held_out, n_classes), default=None
        Probabilities of a linear classifier and of the graph posterior, predicted
        without these labels. None if there are none.

    Returns
    -------
    evidence : Evidence
    """
    n_labels, at_label = len(labels), (np.arange(len(labels)), labels)
    experts = {"linear": linear, "neighbors": neighbors}
    logs = {name: np.log(p.clip(1e-9)) for name, p in experts.items() if p is not None}
    if not n_labels:
        found = {name: float(name in logs) for name in experts}
        return Evidence(0, {}, *found.values(), True, math.nan)
    each = {name: log[at_label] for name, log in logs.items()}
    pvalue, used = math.nan, dict(logs)
    if len(logs) == 2:
        difference = each["neighbors"] - each["linear"]
        pvalue = _pvalue(difference)
        stacked = np.stack(list(logs.values()))
        both = np.tensordot(log_linear_pool(stacked, labels), stacked, axes=1)
        each["product"] = log_softmax(both, axis=1)[at_label]
        if difference.mean() < 0:
            del used["neighbors"]
    weights, expected_accuracy = dict.fromkeys(experts, 0.0), math.nan
    if linear is None:
        weights["neighbors"] = float(neighbors is not None)
    else:
        stacked = np.stack(list(used.values()))
        exponents = log_linear_pool(stacked, labels, prior_mean=1 / len(used))
        weights |= dict(zip(used, map(float, exponents), strict=True))
        pool = log_softmax(np.tensordot(exponents, stacked, axes=1), axis=1)
        expected_accuracy = float(np.exp(pool).max(axis=1).mean())
    means = {name: float(values.mean()) for name, values in each.items()}
    likelihood = {"uniform": -math.log(n_classes)} | means
    is_used = len(used) == len(logs)
    return Evidence(
        n_labels, likelihood, *weights.values(), is_used, expected_accuracy, pvalue
    )


def _pvalue(difference: np.ndarray) -> float:
    """Return the one-sided p-value of a mean of differences, in its own direction."""
    if len(difference) < 2:
        return math.nan
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    z = abs(difference.mean()) / max(error, 1e-12)
    return 0.5 * math.erfc(z / math.sqrt(2))
