"""What walks along near neighbors tell of the classes of unlabeled rows."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from scipy.special import softmax
from torch import Tensor

from ..data._sources import Source, chunks
from ..utils._parallel import parallel_map
from ._hog import HOG
from ._neighbors import N_NEIGHBORS, feature_graph, neighbor_graph
from ._visits import product
from ._walks import TINY, Walks, log_factors

# Labels that walks lead to, at most, but for three of each class.
_N_LABELED, _N_EACH = 100, 3
# Tables of which classes are believed: at most so many rows, values, and pairs of a row
# and a label.
_N_ROWS, _N_VALUES, _N_PAIRS = 10_000, 2**24, 3_000_000
# Source, and pairs of a row and a label, of which features are compared.
_N_WITH_FEATURES, _N_PAIRS_WITH_FEATURES = 100_000, 10_000_000
# Images of fewer pixels a side show little of edges, of which the automatic features
# are; those of more, or of more in all, take long.
_N_PIXELS, _N_PIXELS_IN_ALL = (16, 256), 2**27
# Of so many rows near neighbors are found in seconds, which nobody needs to be told.
_N_QUICK = 10_000
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


def auto_features(shape: tuple[int, ...]) -> HOG | None:
    """Return what rows of a shape are near in by default; None: their values."""
    least, most = _N_PIXELS
    is_image = len(shape) == 3 and shape[0] == 1
    if is_image and least <= min(shape[1:]) and max(shape[1:]) <= most:
        return HOG()
    return None


def may_believe(n_rows: int, shape: tuple[int, ...], has_features: bool) -> bool:
    """Tell whether X is of a size, and a kind, of which classes are believed.

    Whether it `has_features` is whether the caller asks for some.
    """
    if n_rows <= N_NEIGHBORS:
        return False
    if has_features:
        return True
    n_values = n_rows * math.prod(shape)
    if auto_features(shape) is not None:
        return n_rows <= _N_WITH_FEATURES and n_values <= _N_PIXELS_IN_ALL
    return len(shape) == 1 and n_rows <= _N_ROWS and n_values <= _N_VALUES


def class_beliefs(
    rows: Source,
    shape: tuple[int, ...],
    codes: np.ndarray,
    n_classes: int,
    features: Callable[[Tensor], Tensor] | None = None,
    prior: np.ndarray | None = None,
    odds: float = 1.0,
    verbose: bool = False,
) -> np.ndarray | None:
    """Class probabilities of rows by the labels that walks along neighbors meet.

    From a row, a walk meets the labels of class k with probability s_k, the mean over
    these labels. For a length of walks and a power b, the beliefs are f_k s_k^b, scaled
    to sum to 1. The factors f are 1, or those with which the mean over all rows is near
    the class prior: labels at the rim of their class are met seldom. Which of these
    holds is unknown, and averaged over: with weights in proportion to the probability
    that such beliefs give to the labels, each by the others alone (but the same f). So
    little is believed where neighbors tell little of the labels.

    Where such beliefs change from class to class may be in the midst of a cluster. So
    there are others: each row takes the class that most of long walks come from
    (`Walks.nearest`), of two lengths; boundaries are moved to where few rows are
    (`_moved`), at three scales; and classes keep about the share of rows that they had,
    or have that of the prior. Whether this is better is unknown as well: beliefs by
    walks and these are averaged, with weights by the probability that they give to the
    labels, of which one in twenty may be of any class, each fifth by the others (each
    half of many rows; averages over walks keep their weights). Labels tell little of
    wrong shares, which put boundaries in the midst of clusters: so the more steps of
    walks cross boundaries, the less probable these are before a look at the labels.

    Of a class without labels nothing is known: it has the mean of the others, there
    are no factors, and no boundary is moved.

    Parameters
    ----------
    rows : Source
    shape : tuple of int
        (n_features,) or (channels, height, width).
    codes : int array of shape (n_rows,)
        Class codes, -1 where unlabeled.
    n_classes : int
    features : callable, default=None
        Makes features of batches, in which neighbors are sought. None: those of
        `auto_features`, or else the values of the rows.
    prior : float array of shape (n_classes,), default=None
        Class distribution that the beliefs' mean may have. None: whatever it is.
    odds : float, default=1.0
        How probable such a mean is, against any other, before a look at the labels.
    verbose : bool, default=False
        Whether to print a line where this takes long.

    Returns
    -------
    beliefs : float32 array of shape (n_rows, n_classes) or None
        None where no class has two labels to compare, or labels are too many and no
        features are asked for.

    Raises
    ------
    ValueError
        If the features have another shape than (n_rows, n_features), or are not finite;
        or if they are asked for, and rows or labels are too many.
    """
    n_rows = len(codes)
    labeled = spread_out(np.flatnonzero(codes >= 0), codes[codes >= 0], _N_LABELED)
    labels = codes[labeled]
    members = labels[:, None] == np.arange(n_classes)
    counts = members.sum(axis=0)
    judged = counts[labels] > 1
    asked = features is not None
    features = features if asked else auto_features(shape)
    limit = _N_PAIRS if features is None else _N_PAIRS_WITH_FEATURES
    too_many = n_rows > _N_WITH_FEATURES or n_rows * len(labeled) > limit
    if not judged.any() or (too_many and not asked):
        return None
    if too_many:
        raise ValueError(
            f"graph_features are for {_N_WITH_FEATURES:,} rows at most, and "
            f"{_N_PAIRS_WITH_FEATURES:,} pairs of a row and a label that is used; "
            f"there are {n_rows:,} rows and {len(labeled)} labels. Leave it at "
            "'auto', or give fewer unlabeled rows."
        )
    if verbose and n_rows > _N_QUICK:
        print(f"Looking for near neighbors of {n_rows:,} rows.", flush=True)
    if features is None:
        X = torch.cat(list(rows.stream(chunks(range(n_rows), shape)))).cpu()
        graph = neighbor_graph(X, N_NEIGHBORS, weighted=True)
    else:
        graph = feature_graph(features, rows, n_rows, shape)
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
    shorter: fewer neighbors are on two sides. Source with known labels hand these on, in
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
