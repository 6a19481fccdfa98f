"""The evidence step: what held-out labels say before the training."""

from typing import NamedTuple

import numpy as np
import torch

from ..data._sources import Source, chunks
from ..data._training_data import TrainingData
from ..evidence._evidence import Evidence, weigh_evidence
from ..evidence._linear import LinearModel, fit_linear, log_likelihood
from ..graph._stack import labeled_sample, stratified_folds
from ..objectives._class_prior import ClassPrior
from ..utils._distributed import Processes
from ._networks import Standardization, contains_linear_model, standardizations
from ._parameters import as_object
from ._trainer import balance_weight


class FitEvidence(NamedTuple):
    """What a fit takes from the evidence step.

    Parameters
    ----------
    report : Evidence
    standardization : Standardization
    linear : LinearModel or None
        Linear classifier of standardized samples that is a part of the networks.
    log_posterior : float32 array of shape (n_samples, n_classes) or None
        Logarithm of the graph posterior, times its exponent.
    """

    report: Evidence
    standardization: Standardization
    linear: LinearModel | None
    log_posterior: np.ndarray | None


def gather_evidence(
    estimator,
    data: TrainingData,
    source: Source,
    class_prior: ClassPrior,
    processes: Processes,
) -> FitEvidence:
    """Fit a linear classifier, propagate the labels, and weigh both."""
    codes, n_classes = data.codes.copy(), len(data.classes)
    codes[np.flatnonzero(codes >= 0)[data.weights == 0]] = -1
    folds = stratified_folds(codes, n_classes)
    true = codes[np.concatenate(folds)] if folds else np.empty(0, dtype=int)
    forms = standardizations(estimator.standardize, data.inputs, source)
    standardization, linear, of_linear = forms[0], None, None
    if contains_linear_model(estimator, data):
        fits = _fit_linear_models(data, source, codes, folds, forms)
        # Features of a table seldom have a common unit: prior odds of 1 to 100.
        first, *others = (log_likelihood(p, true) for _, p in fits)
        best = int(any(other > first + np.log(100) for other in others))
        standardization, (linear, of_linear) = forms[best], fits[best]
    posterior = of_graph = None
    found = propagate_labels(estimator, data, source, codes, class_prior, processes)
    if found is not None:
        posterior, of_graph = found
    report = weigh_evidence(true, n_classes, of_linear, of_graph)
    if linear is not None:
        linear = linear.scaled(report.linear_weight)
    log_posterior = None
    if posterior is not None and report.graph_weight:
        exponent = as_object("graph", estimator.graph).weight * report.graph_weight
        log_posterior = np.float32(exponent) * np.log(posterior.clip(1e-9))
    return FitEvidence(report, standardization, linear, log_posterior)


def _fit_linear_models(
    data: TrainingData,
    source: Source,
    codes: np.ndarray,
    folds: list[np.ndarray],
    forms: list[Standardization],
) -> list[tuple[LinearModel, np.ndarray]]:
    """Fit a linear classifier to labeled samples, at most 2,000, in several forms."""
    used = np.sort(labeled_sample(codes))
    weights = np.zeros(len(codes))
    weights[data.codes >= 0] = data.weights
    batches = source.stream(chunks(used, data.inputs.sample_shape))
    X = torch.cat([x.cpu() for x in batches]).double()
    places = [np.searchsorted(used, fold) for fold in folds]
    return [
        fit_linear(
            ((X - shift) * scale).numpy(),
            codes[used],
            len(data.classes),
            places,
            weights[used],
        )
        for shift, scale in forms
    ]


def propagate_labels(
    estimator,
    data: TrainingData,
    source: Source,
    codes: np.ndarray,
    class_prior: ClassPrior,
    processes: Processes,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the graph posterior and its predictions of held-out labels, or None."""
    graph = as_object("graph", estimator.graph)
    if graph is None:
        return None
    graph._check_parameters()  # also if the posterior is not used
    if not estimator.negative_weight or not (data.codes < 0).any():
        return None
    is_aligned = balance_weight(estimator) > 0
    return graph.posterior(
        source,
        data.inputs.sample_shape,
        codes,
        len(data.classes),
        class_prior.target.cpu().numpy() if is_aligned else None,
        float(class_prior.weight),
        bool(estimator.verbose) and processes.index == 0,
    )
