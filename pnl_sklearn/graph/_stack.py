"""The graph posterior: stacking of label propagation methods."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import softmax

from ._label_spreading import class_mass_normalization, label_spreading, normalized
from ._mbo import poisson_learning, volume_constrained_mbo


def labeled_sample(labels: np.ndarray, n_max: int = 2000) -> np.ndarray:
    """Return labeled samples, sorted by class; if there are many, a stratified sample.

    Parameters
    ----------
    labels : int array of shape (n_samples,)
        Class codes, -1 for unlabeled samples.
    n_max : int, default=2000
        Largest number of samples.

    Returns
    -------
    index : int array of shape (n_labeled,)
    """
    labeled = np.flatnonzero(labels >= 0)
    labeled = labeled[np.argsort(labels[labeled], kind="stable")]
    places = np.linspace(0, len(labeled) - 1, min(n_max, len(labeled)))
    return labeled[places.round().astype(int)]


def stratified_folds(
    labels: np.ndarray, n_classes: int, n_folds: int = 5
) -> list[np.ndarray]:
    """Return the samples whose labels are held out in each fold.

    Parameters
    ----------
    labels : int array of shape (n_samples,)
        Class codes, -1 for unlabeled samples.
    n_classes : int
    n_folds : int, default=5
        Largest number of folds. The only label of a class is never held out.

    Returns
    -------
    folds : list of int arrays
        Indices of labeled samples, those of `labeled_sample`. Empty if no class has two
        labels.
    """
    labeled = labeled_sample(labels)
    counts = np.bincount(labels[labeled], minlength=n_classes)
    rank = np.arange(len(labeled)) - np.repeat(counts.cumsum() - counts, counts)
    fold = np.where(counts[labels[labeled]] > 1, rank % n_folds, -1)
    return [labeled[fold == k] for k in np.unique(fold[fold >= 0])]


def label_posterior(
    graph: sparse.csr_matrix,
    labels: np.ndarray,
    n_classes: int,
    class_prior: np.ndarray | None = None,
    prior_odds: float = 1.0,
    label_noise: float = 0.05,
    smoothing: float = 1e-3,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Compute class probabilities of all samples by stacked label propagation.

    The probabilities of the methods in `candidates` are averaged. Their weights are
    proportional to the cross-validated likelihood of the labels [1]_ [2]_. One of the
    methods is the uniform distribution. It has most of the weight if the graph does not
    predict held-out labels.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_samples, n_samples)
        Weights of the edges. Each sample has one edge at least.
    labels : int array of shape (n_samples,)
        Class codes, -1 for unlabeled samples.
    n_classes : int
        Number of classes. A class without labels has the mean score of the other ones.
    class_prior : float array of shape (n_classes,), default=None
        Target class sizes of some of the methods. If None, or if a class has no label,
        these methods are not used.
    prior_odds : float, default=1.0
        Prior odds of the methods with target class sizes against the other methods.
    label_noise : float, default=0.05
        Assumed probability that a held-out label is random. It limits the influence of
        single labels on the weights.
    smoothing : float, default=1e-3
        Weight of the uniform distribution that is mixed into the result.

    Returns
    -------
    probabilities : float32 array of shape (n_samples, n_classes)
        Class probabilities.
    held_out : float32 array of shape (n_held_out, n_classes)
        Class probabilities of the samples of `stratified_folds`, fold by fold,
        predicted without their labels by the same average of the methods.

    The result is None if no class has two labels, since no label can then be held out.

    References
    ----------
    .. [1] D. H. Wolpert, "Stacked Generalization", Neural Networks 5, 1992.
    .. [2] Y. Yao, A. Vehtari, D. Simpson and A. Gelman, "Using Stacking to Average
       Bayesian Predictive Distributions", Bayesian Analysis 13, 2018.
    """
    folds = stratified_folds(labels, n_classes)
    if not folds:
        return None
    counts = np.bincount(labels[labels >= 0], minlength=n_classes)
    if not prior_odds or not counts.all():
        class_prior = None

    predictions = []  # of each fold: (n_methods, n_held_out, n_classes)
    for held_out in folds:
        known = labels.copy()
        known[held_out] = -1
        has_prior, at_held_out = [], []
        for uses_prior, p in candidates(graph, known, n_classes, class_prior):
            has_prior.append(uses_prior)
            at_held_out.append(p[held_out])
        predictions.append(np.array(at_held_out))
    index, predicted = np.concatenate(folds), np.concatenate(predictions, axis=1)
    likelihoods = predicted[:, np.arange(len(index)), labels[index]]
    noisy = (1 - label_noise) * likelihoods + label_noise / n_classes
    # A method that uses the prior does so in each fold.
    log_odds = np.multiply(has_prior, np.log(prior_odds or 1))
    weights = softmax(np.log(noisy).sum(axis=1) + log_odds).astype(np.float32)

    def average(probabilities: Iterable[np.ndarray]) -> np.ndarray:
        # One method at a time is in memory.
        mean: Any = np.float32(smoothing / n_classes)
        for weight, p in zip((1 - smoothing) * weights, probabilities, strict=True):
            mean = mean + weight * p
        return mean

    found = candidates(graph, labels, n_classes, class_prior)
    posterior = average(p for _, p in found)
    return posterior, average(predicted)


def candidates(
    graph: sparse.csr_matrix,
    labels: np.ndarray,
    n_classes: int,
    class_prior: np.ndarray | None = None,
    alpha: tuple[float, float] = (0.9, 0.99),
    sharpness: tuple[int, int] = (2, 3),
    n_steps: tuple[int, ...] = (1, 10),
    tol: float = 1e-4,
) -> Iterator[tuple[bool, np.ndarray]]:
    """Yield the class probabilities of each method that is stacked.

    The methods are:

    - the uniform distribution;
    - label spreading with two values of alpha. With the larger one it is also used with
      class mass normalization;
    - volume-constrained MBO that starts from Poisson learning, with two diffusion
      times. Class sizes are those of Poisson learning, and those of the class prior.

    Parameters
    ----------
    graph, labels, n_classes, class_prior
        See `label_posterior`.
    alpha : tuple of float, default=(0.9, 0.99)
        Values of alpha for label spreading.
    sharpness : tuple of int, default=(2, 3)
        Exponent of the scores for each alpha (inverse temperature). Scores differ less
        between classes if alpha is larger.
    n_steps : tuple of int, default=(1, 10)
        Diffusion times of MBO. It is not used if a class has no labels.
    tol : float, default=1e-4
        Tolerance of label spreading.

    Yields
    ------
    has_prior : bool
        Whether the method uses the class prior.
    probabilities : float32 array of shape (n_samples, n_classes)
        Class probabilities.
    """
    one_hot = (labels[:, None] == np.arange(n_classes)).astype(np.float32)
    is_missing = ~one_hot.any(axis=0)

    def spread(alpha: float, sharpness: int) -> np.ndarray:
        scores = normalized(label_spreading(graph, one_hot, alpha, tol))
        scores[:, is_missing] = scores[:, ~is_missing].mean(axis=1, keepdims=True)
        return scores**sharpness

    yield False, np.full_like(one_hot, 1 / n_classes)
    yield False, normalized(spread(alpha[0], sharpness[0]))
    far = spread(alpha[1], sharpness[1])
    yield False, normalized(far)
    if class_prior is not None:
        yield True, class_mass_normalization(far, class_prior)
    if is_missing.any():
        return
    start = poisson_learning(graph, one_hot)
    # As float32, since a bool array would become float64.
    is_largest = (start == start.max(axis=1, keepdims=True)).astype(np.float32)
    volumes = normalized(is_largest).mean(axis=0, dtype=np.float64)
    del is_largest, far
    for n in n_steps:
        yield False, volume_constrained_mbo(graph, one_hot, start, volumes, n)
        if class_prior is not None:
            yield True, volume_constrained_mbo(graph, one_hot, start, class_prior, n)
