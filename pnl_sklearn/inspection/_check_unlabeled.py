"""Whether unlabeled rows may mislead, before a fit."""

import warnings
from numbers import Integral

import numpy as np
from scipy.stats import betabinom
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_consistent_length

from ..data._targets import known_labels
from ..exceptions import UnlabeledDataWarning
from ..graph._beliefs import spread_out
from ..graph._neighbors import N_NEIGHBORS, neighbor_graph
from ..graph._visits import meeting_probabilities

# Probability, a step, that the walk along neighbors goes on.
_GOES_ON = 0.99
# Labeled rows that are compared with, at most.
_N_LABELED = 300
# Where such a share of labeled rows is as novel, an unlabeled row counts in full.
_FULL_WEIGHT = 0.2
# Share of rows of other classes that is worth a warning.
_OUTSIDE = 0.15
# Relabelings that tell how often labels agree by chance, and their seed.
_N_PERMUTATIONS, _SEED = 499, 0


@validate_params(
    {"n_neighbors": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def check_unlabeled(X, y, *, n_neighbors=N_NEIGHBORS):
    """Ask of unlabeled rows, before any fit, whether they can help.

    A random walk starts at each row and goes to one of its near neighbors at each step,
    until it ends, after a hundred steps on average. The probability that it meets a
    label tells how near the row is to it along the pool. Two questions follow.

    *Are the unlabeled rows of the labeled classes?* They should be about as near to
    some label as labeled rows are to another one. If many are farther away, they are of
    classes that no label names, and would be pressed into those that there are.

    *Do labels follow the pool?* The class that is nearest along the pool should be that
    of the label more often than by chance. If it is not, no method that passes labels
    along dense regions can help.

    A :class:`UnlabeledDataWarning` says so where the answer seems to be no.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features), or images
        Labeled and unlabeled rows. Distances are in standard deviations of each column,
        or in the units of X where most columns span the same range, as pixels do; those
        of sparse rows always in standard deviations.
    y : array-like of shape (n_samples,)
        Labels; -1, "-1", None, NaN or pandas.NA where a row is unlabeled.
    n_neighbors : int, default=10
        Near neighbors of each row.

    Returns
    -------
    report : Bunch
        ``novelty``: float array of shape (n_samples,), minus the logarithm of the
        largest probability to meet a label of another row; the higher, the farther from
        every label. ``pvalues``: float array of that shape, conformal p-values of the
        novelty among that of the labeled rows, from 1 / (n_labeled + 1) to 1.
        ``weights``: float array of that shape, for ``fit(..., unlabeled_weight=...)``:
        from 0 where no labeled row is as novel to 1 where a fifth of them is, and 1 for
        labeled rows. ``outside``: estimated share of unlabeled rows of other classes,
        from those that are more novel than nine tenths of the labeled ones, and
        ``outside_pvalue``, the probability of so many by chance. ``agreement``: share
        of labeled rows whose class is the nearest, by the mean over its other labels,
        and ``agreement_pvalue``, the share of random relabelings that agree as well. A
        class's only label is met by walks, but not compared itself; where all are such,
        ``pvalues`` and agreement are NaN.

    Raises
    ------
    ValueError
        If no row is unlabeled, or none labeled.

    Warns
    -----
    UnlabeledDataWarning
        If `outside` is at least 0.15 with a p-value below 0.01; or if the p-value of
        the agreement is above 0.05, it is nearer to that of random labels than to 1,
        and there are labels enough to show more.

    Notes
    -----
    Both answers suppose that labeled rows were drawn at random from the pool. If as
    many of each class were labeled although some are far more frequent, rows of the
    frequent ones, to which few labels are near, look novel, and the first warning may
    be false. On clean rows drawn so it was in 0 to 3 % of the draws (digits, wine,
    breast cancer, moons and blobs, 9 to 300 labels).

    Neighbors are sought among all rows, which takes time in proportion to the square of
    their number. Of more than 300 labeled rows, 300 at most are used, but three of each
    class if it has them.

    References
    ----------
    X. Zhu, Z. Ghahramani and J. Lafferty, "Semi-Supervised Learning Using Gaussian
    Fields and Harmonic Functions", ICML 2003, for walks that meet labels; S. Bates et
    al., "Testing for Outliers with Conformal p-values", Annals of Statistics 51, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from pnl_sklearn.inspection import check_unlabeled
    >>> from pnl_sklearn.model_selection import hide_labels
    >>> X, y = make_blobs(300, centers=[[0, 0], [9, 0]], random_state=0)
    >>> report = check_unlabeled(X, hide_labels(y, 20, random_state=0))
    >>> report.agreement
    1.0
    """
    known, labels = known_labels(y)
    if known.all() or not known.any():
        raise ValueError(
            "y has to hold labeled and unlabeled rows, to compare one with the other."
        )
    used = spread_out(np.arange(len(labels)), labels, _N_LABELED)
    labeled, labels = np.flatnonzero(known)[used], labels[used]
    graph = neighbor_graph(X, n_neighbors, weighted=False)
    check_consistent_length(graph, known)
    meets = meeting_probabilities(graph, labeled, _GOES_ON)
    meets[labeled, np.arange(len(labeled))] = 0.0
    novelty = -np.log(meets.max(axis=1).clip(1e-9))
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    judged = counts[codes] > 1
    report = Bunch(novelty=novelty, pvalues=np.full(len(known), np.nan))
    report.weights = np.ones(len(known))
    report.outside, report.outside_pvalue = 0.0, 1.0
    report.agreement, report.agreement_pvalue = np.nan, np.nan
    if judged.any():
        _compare_novelty(report, novelty[labeled[judged]], ~known)
        _compare_labels(report, meets[labeled], codes)
    return report


def _compare_novelty(report: Bunch, reference: np.ndarray, unlabeled: np.ndarray):
    """Compare unlabeled rows with labeled ones; warn of those of other classes."""
    n = len(reference)
    below = np.searchsorted(np.sort(reference), report.novelty, side="left")
    report.pvalues = (1 + n - below) / (n + 1)
    weights = (n - below) / n / _FULL_WEIGHT
    report.weights[unlabeled] = weights[unlabeled].clip(0, 1)
    # Beyond all labeled rows but a tenth there should be about a tenth of the others.
    n_beyond, n_unlabeled = n // 10, int(unlabeled.sum())
    expected = (n_beyond + 1) / (n + 1)
    n_found = int((report.pvalues[unlabeled] <= expected).sum())
    report.outside = max(0.0, (n_found / n_unlabeled - expected) / (1 - expected))
    # Of rows in random order, those beyond such a labeled one: Polya's urn.
    chance = betabinom(n_unlabeled, n_beyond + 1, n - n_beyond)
    report.outside_pvalue = float(chance.sf(n_found - 1))
    if report.outside >= _OUTSIDE and report.outside_pvalue < 0.01:
        warnings.warn(
            f"About {report.outside:.0%} of the unlabeled rows seem to be of classes "
            "that no label names: they are farther from every label than labeled rows "
            f"are from each other (p = {report.outside_pvalue:.1g}, if labeled rows "
            "were drawn at random). Look at the rows of largest novelty, leave them "
            "out or label them; or give fit the weights of this report as "
            "unlabeled_weight.",
            UnlabeledDataWarning,
            stacklevel=4,
        )


def _compare_labels(report: Bunch, meets: np.ndarray, codes: np.ndarray):
    """Compare the class nearest along the pool with chance; warn if hardly better.

    `meets` are the probabilities between labeled rows, 0 of each to meet itself.
    """
    met = np.ascontiguousarray(meets.T)
    report.agreement = _agreement(met, codes)
    rng = np.random.default_rng(_SEED)
    by_chance = np.array(
        [_agreement(met, rng.permutation(codes)) for _ in range(_N_PERMUTATIONS)]
    )
    count = _N_PERMUTATIONS + 1
    report.agreement_pvalue = float((1 + (by_chance >= report.agreement).sum()) / count)
    # So few labels that not even full agreement would show prove nothing.
    can_show = (1 + (by_chance >= 1).sum()) / count <= 0.05
    is_low = report.agreement < (1 + by_chance.mean()) / 2
    if report.agreement_pvalue > 0.05 and can_show and is_low:
        warnings.warn(
            "Labels do not seem to follow the pool: the class nearest along it is that "
            f"of the label for {report.agreement:.0%} of the labeled rows, and for "
            f"{by_chance.mean():.0%} with random labels (p = "
            f"{report.agreement_pvalue:.1g}). Unlabeled rows may do harm then. Compare "
            "by unlabeled_gain, and look for features in which rows of a class are "
            "near each other.",
            UnlabeledDataWarning,
            stacklevel=4,
        )


def _agreement(met: np.ndarray, codes: np.ndarray) -> float:
    """Share of rows whose class is the nearest, by the mean over its other labels.

    `met` holds in row i how probably the walks of each row meet label i; each class has
    labels.
    """
    counts = np.bincount(codes)
    by_class = met[np.argsort(codes, kind="stable")]
    totals = np.add.reduceat(by_class, counts.cumsum() - counts, axis=0)
    others = counts[:, None] - (codes == np.arange(len(counts))[:, None])
    nearest = (totals / np.maximum(others, 1)).argmax(axis=0)
    return float((nearest == codes)[counts[codes] > 1].mean())
