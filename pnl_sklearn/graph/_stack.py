"""What walks along near neighbors tell of the classes of unlabeled rows."""

import numpy as np
from scipy import sparse
from scipy.special import softmax

from ..utils._parallel import parallel_map
from ._visits import product
from ._walks import TINY, Walks, log_factors

# Labels that walks lead to, at most, but for three of each class.
_N_LABELED, _N_EACH = 100, 3
# How far walks go before each row takes a class anew, how often at most, and what share
# of the rows is too few to go on for.
_N_STEPS, _N_TURNS, _HARDLY = (1, 3, 10), 20, 1 / 2000
# In the end they go no farther than this, lest beliefs blur.
_N_LAST = 3
# How much is left to chance where all of them arrive at one class.
_DOUBT = 1e-3
# How many labels are taken for odd: anything may be believed of them.
_ODD = 0.05
# To this power boundaries are less probable that more steps cross.
_CROSSING_POWER = 3
# Parts of the labels, each to be told by the others; there are two where rows times
# classes are more than the second.
_N_FOLDS, _N_IN_FOLDS = 5, 50_000
# The most rows times classes whose boundaries are moved.
_N_MOVED = 750_000


def label_posterior(
    graph: sparse.csr_matrix,
    labels: np.ndarray,
    n_classes: int,
    class_prior: np.ndarray | None = None,
    prior_odds: float = 1.0,
) -> np.ndarray | None:
    """Class probabilities of samples by label propagation on a graph.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n_samples, n_samples)
        Weights of the edges. Each sample has one edge at least.
    labels : int array of shape (n_samples,)
        Class codes, -1 where unlabeled.
    n_classes : int
    class_prior : float array of shape (n_classes,), default=None
        Class distribution that the mean posterior may have.
    prior_odds : float, default=1.0
        Odds of that distribution against any other, before the labels are known.

    Returns
    -------
    posterior : float32 array of shape (n_samples, n_classes) or None
        None if no class has two labels to compare.
    """
    codes, prior, odds, n_rows = labels, class_prior, prior_odds, len(labels)
    labeled = spread_out(np.flatnonzero(codes >= 0), codes[codes >= 0], _N_LABELED)
    labels = codes[labeled]
    members = labels[:, None] == np.arange(n_classes)
    counts = members.sum(axis=0)
    judged = counts[labels] > 1
    if not judged.any():
        return None
    if odds == 0 or not counts.all():
        prior = None
    walks = Walks(graph, labeled, members, prior, odds)
    everything = np.ones(len(labels), dtype=bool)
    if not counts.all() or n_rows * n_classes > _N_MOVED:
        return walks.beliefs(everything).astype(np.float32)
    step = sparse.diags(1 / np.asarray(graph.sum(axis=1)).ravel()) @ graph
    step = step.astype(np.float32)

    def candidates(kept: np.ndarray) -> list[tuple[float, np.ndarray]]:
        known = codes.copy()
        known[labeled[~kept]] = -1
        return _candidates(walks, kept, step, known, prior, odds)

    fits = []
    place = np.concatenate([np.arange(n) for n in counts])
    n_folds = _N_FOLDS if n_rows * n_classes <= _N_IN_FOLDS else 2
    for fold in range(n_folds):
        left_out = judged & (place % n_folds == fold)
        if left_out.any():
            told = labeled[left_out], labels[left_out]
            told_by = np.array([b[told] for _, b in candidates(~left_out)])
            fits.append(np.log((1 - _ODD) * told_by + _ODD / n_classes).sum(axis=1))
    chances, found = zip(*candidates(everything), strict=True)
    log_chances = np.log(chances)
    crossed = np.log([_crossed(b, step) for b in found[1:]])
    log_chances[1:] -= _CROSSING_POWER * (crossed - crossed.min())
    weights = softmax(log_chances + np.sum(fits, axis=0))
    beliefs = sum(w * b for w, b in zip(weights, found, strict=True))
    return np.asarray(beliefs, dtype=np.float32)


def _candidates(
    walks: Walks,
    kept: np.ndarray,
    step: sparse.csr_matrix,
    codes: np.ndarray,
    prior: np.ndarray | None,
    odds: float,
) -> list[tuple[float, np.ndarray]]:
    """Beliefs by the labels that are kept, and how probable they are before."""
    ways = [
        (chance, start, shares, n_steps)
        for start in walks.nearest(kept)
        for n_steps in _N_STEPS
        for chance, shares in [(1.0, start.mean(axis=0)), (odds, prior)]
        if shares is not None
    ]

    def moved(way: tuple) -> tuple[float, np.ndarray]:
        chance, start, shares, n_steps = way
        return chance, _moved(start, step, codes, shares, n_steps)

    by_walks = walks.beliefs(kept)
    own_mean = by_walks.mean(axis=0)
    return [(1.0, _doubted(by_walks, own_mean)), *parallel_map(moved, ways)]


def _moved(
    beliefs: np.ndarray,
    step: sparse.csr_matrix,
    codes: np.ndarray,
    shares: np.ndarray,
    n_steps: int,
) -> np.ndarray:
    """Move the boundaries of classes to where few rows are.

    In turns, until hardly a row changes its class, each row takes its most probable
    class, and then the mean of the classes that walks of `n_steps` arrive at, with
    factors for which classes have about their `shares` of all rows. So boundaries get
    shorter: fewer neighbors are on two sides. Rows with known labels hand these on, in
    each step; their own beliefs are what neighbors tell.

    The turns are those of E. Merkurjev, T. Kostic and A. L. Bertozzi, "An MBO Scheme on
    Graphs for Classification and Image Processing", SIAM Journal on Imaging Sciences
    2013; that classes keep their shares follows M. Jacobs, E. Merkurjev and S.
    Esedoglu, "Auction Dynamics: A Volume Constrained MBO Scheme", Journal of
    Computational Physics 2018, who fix the sizes of classes by prices.

    Parameters
    ----------
    beliefs : float array of shape (n_rows, n_classes)
    step : sparse matrix of shape (n_rows, n_rows)
        Probabilities of a walk's step.
    codes : int array of shape (n_rows,)
        Class codes, -1 where unlabeled.
    shares : float array of shape (n_classes,)
    n_steps : int

    Returns
    -------
    beliefs : float array of shape (n_rows, n_classes)
    """
    classes = np.eye(beliefs.shape[1], dtype=np.float32)
    known = np.flatnonzero(codes >= 0)
    multiply = product(step)
    factors = np.zeros(beliefs.shape[1])

    def spread(taken: np.ndarray, n_steps: int) -> np.ndarray:
        """Logits of what walks from rows of these classes arrive at."""
        nonlocal factors
        arrived = classes[taken]
        for _ in range(n_steps):
            arrived[known] = classes[codes[known]]
            arrived = multiply(arrived)
        logits = np.log(arrived + TINY)
        factors = log_factors(logits, shares, start=factors)
        return logits + factors.astype(logits.dtype)

    taken = beliefs.argmax(axis=1)
    for _ in range(_N_TURNS):
        before = taken
        logits = spread(before, n_steps)
        taken = logits.argmax(axis=1)
        if (taken != before).mean() <= _HARDLY:
            break
    if n_steps > _N_LAST:
        logits = spread(taken, _N_LAST)
    return _doubted(softmax(logits.astype(float), axis=1), shares)


def _crossed(beliefs: np.ndarray, step: sparse.csr_matrix) -> float:
    """How often a step leads to another class, if from one row more it did always."""
    n_rows, classes = len(beliefs), beliefs.argmax(axis=1)
    starts = np.repeat(np.arange(n_rows), np.diff(step.indptr))
    crosses = classes[starts] != classes[step.indices]
    return (step.data[crosses].sum(dtype=float) + 1) / n_rows


def _doubted(beliefs: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Leave a little to chance, so that no label is impossible."""
    return (1 - _DOUBT) * beliefs + _DOUBT * shares


def spread_out(rows: np.ndarray, labels: np.ndarray, n: int) -> np.ndarray:
    """Return n of the rows or less, of each class its share, in order of classes.

    Of each class there are three, or as many as it has, even if these are more than n.
    """
    order = np.argsort(labels, kind="stable")
    if len(rows) <= n:
        return rows[order]
    counts = np.unique(labels, return_counts=True)[1]
    least = np.minimum(counts, _N_EACH)
    left = max(n - least.sum(), 0) / (len(rows) - least.sum() or 1)
    kept = least + (left * (counts - least)).astype(int)
    ends = counts.cumsum()
    places = [
        np.linspace(end - count, end - 1, k).astype(int)
        for end, count, k in zip(ends, counts, kept, strict=True)
    ]
    return rows[order[np.concatenate(places)]]
