"""How well a linear classifier and the neighbors predict the labels."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax
from scipy.stats import binom

from ..exceptions import UnlabeledDataWarning
from ..utils._warnings import warn_user
from ._pool import log_linear_pool


@dataclass(frozen=True)
class Evidence:
    """How well a linear classifier and the neighbors predict held-out labels.

    It is the attribute ``evidence_`` of a fitted :class:`~pnl_sklearn.PNLClassifier`.
    ``print(classifier.evidence_)`` prints a summary.

    Read more in the :ref:`user guide <evidence>`.

    Parameters
    ----------
    n_labels : int
        Number of labels that were held out, by five-fold cross-validation. 0 if no
        class has two labels.
    log_likelihood : dict of float
        Mean log-likelihood of a held-out label, in nats. "uniform" is that of equal
        probabilities, "linear" that of a logistic regression on the labels, "neighbors"
        that of the graph posterior, and "product" that of the log-linear pool of both.
        Only what was computed is contained.
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
        Probability of as many labels, or more, that only the linear classifier predicts
        correctly, if neighbors predict as many (McNemar's exact test). NaN if it is
        unknown.
    """

    n_labels: int
    log_likelihood: dict[str, float]
    linear_weight: float
    graph_weight: float
    uses_neighbors: bool
    expected_accuracy: float
    pvalue: float = math.nan

    def __str__(self) -> str:
        if len(self.log_likelihood) < 2 and not self.linear_weight + self.graph_weight:
            return "Neither a linear classifier nor neighbors are used."
        if not self.n_labels:
            return (
                "No class has two labels, so that no label can be held out. The "
                "neighbors are used as if they predicted the labels. Label two samples "
                "of each class to check it."
            )
        names = {
            "linear": "a linear classifier",
            "neighbors": "the neighbors",
            "product": "both together",
            "uniform": "equal probabilities",
        }
        values = [
            f"{self.log_likelihood[key]:.2f} for {name}"
            for key, name in names.items()
            if key in self.log_likelihood
        ]
        return (
            f"Mean log-likelihood of {self.n_labels} held-out labels: "
            f"{', '.join(values)}.\n{self._conclusion()}"
        )

    def _conclusion(self) -> str:
        if not {"linear", "neighbors"} <= self.log_likelihood.keys():
            return "There was nothing to compare it with, and it is used."
        if self.uses_neighbors:
            return (
                "The neighbors predict labels at least as well as the linear "
                "classifier, and are used.\nUse PNLClassifier."
            )
        used = "they are not used"
        if self.graph_weight:
            used = "only their graph posterior is used, which adds to it"
        return (
            "The linear classifier predicts labels better than the neighbors: "
            f"{used}.\nCompare PNLClassifier with LogisticRegression, which may be as "
            "good."
        )

    def warn(self, significance: float = 0.025) -> None:
        """Warn if the neighbors predict significantly fewer labels."""
        if not self.uses_neighbors and self.pvalue < significance:
            linear, neighbors = (
                self.log_likelihood[name] for name in ("linear", "neighbors")
            )
            warn_user(
                "Neighbors do not seem to help: they predict held-out labels worse "
                f"than a linear classifier (mean log-likelihood {neighbors:.2f} and "
                f"{linear:.2f}, p = {self.pvalue:.1g}), and are not used in this fit. "
                "Compare with LogisticRegression, or use features in which samples of "
                "one class are similar.",
                UnlabeledDataWarning,
            )


def weigh_evidence(
    labels: np.ndarray,
    n_classes: int,
    linear: np.ndarray | None = None,
    neighbors: np.ndarray | None = None,
) -> Evidence:
    """Compare predictions of held-out labels, and derive the weights of both experts.

    Neighbors are used in the training if they predict the labels at least as well as a
    linear classifier. Otherwise only the graph posterior is used, and only if its
    log-linear pool with the linear classifier predicts the labels better than the
    linear classifier alone. The weights are the exponents of the pool.

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
    weights = {name: float(name in logs) for name in experts}
    if not n_labels:
        return Evidence(0, {}, weights["linear"], weights["neighbors"], True, math.nan)
    each = {name: log[at_label] for name, log in logs.items()}
    uses_neighbors, pvalue, expected_accuracy = True, math.nan, math.nan
    if linear is not None:
        exponents, pool = _pool([logs["linear"]], labels)
        weights["linear"] = exponents[0]
        if neighbors is not None:
            is_better = each["neighbors"].sum() >= each["linear"].sum()
            # Labels of a single class do not tell which of both is better.
            uses_neighbors = bool(is_better) or len(np.unique(labels)) < 2
            first, second = (log.argmax(axis=1) == labels for log in logs.values())
            pvalue = _pvalue(first & ~second, second & ~first)
            exponents, product = _pool([logs["linear"], logs["neighbors"]], labels)
            each["product"] = product[at_label]
            weights["neighbors"] = 0.0
            if uses_neighbors or each["product"].sum() > pool[at_label].sum():
                weights, pool = dict(zip(experts, exponents, strict=True)), product
        expected_accuracy = float(np.exp(pool).max(axis=1).mean())
    means = {name: float(values.mean()) for name, values in each.items()}
    likelihood = {"uniform": -math.log(n_classes)} | means
    return Evidence(
        n_labels,
        likelihood,
        weights["linear"],
        weights["neighbors"],
        uses_neighbors,
        expected_accuracy,
        pvalue,
    )


def _pool(
    experts: list[np.ndarray], labels: np.ndarray
) -> tuple[list[float], np.ndarray]:
    """Return the exponents of a log-linear pool, and its log-probabilities."""
    stacked = np.stack(experts)
    exponents = log_linear_pool(stacked, labels, prior_mean=1 / len(experts))
    pool = log_softmax(np.tensordot(exponents, stacked, axes=1), axis=1)
    return exponents.tolist(), pool


def _pvalue(is_better: np.ndarray, is_worse: np.ndarray) -> float:
    """Return the one-sided p-value of McNemar's exact test.

    Parameters
    ----------
    is_better, is_worse : bool array of shape (n_labels,)
        Whether only the first, or only the second of two predictions is correct.
    """
    n_better, n_worse = int(is_better.sum()), int(is_worse.sum())
    return float(binom.sf(n_better - 1, n_better + n_worse, 0.5))
