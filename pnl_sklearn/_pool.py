"""Whether unlabeled rows may mislead: alarms before a fit, and after it."""

import warnings
from numbers import Integral

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import cg
from scipy.stats import binom, binomtest
from sklearn.neighbors import kneighbors_graph
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_consistent_length, indexable

from ._validation import known_labels
from .views import has_common_unit

# Probability, a step, that the walk along neighbors goes on.
_GOES_ON = 0.99
# Labeled rows that are compared with, at most.
_N_LABELED = 300
# Unlabeled rows beyond this share of the labeled ones count in full.
_FULL_WEIGHT = 0.2
# Share of what a class is expected to have below which it counts as starved.
_STARVED = 0.1
# Unlabeled rows that a class has to expect before its share tells anything.
_N_EXPECTED = 10


class PoolWarning(UserWarning):
    """Unlabeled rows may mislead, or have misled."""


@validate_params(
    {"n_neighbors": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def check_pool(X, y, *, n_neighbors=10):
    """Ask of unlabeled rows, before any fit, whether they can help.

    A random walk starts at each row and goes to one of its near neighbors at each step,
    until it ends, after a hundred steps on average. The probability that it meets a
    label tells how near the row is to it along the pool. Two questions follow.

    *Are the unlabeled rows of the labeled classes?* They should be about as near to
    some label as labeled rows are to another one. If many are farther away, they are of
    classes that no label names, and would be pressed into those that there are.

    *Do labels follow the pool?* The label that is nearest along the pool should be the
    same more often than by chance. If it is not, no method that passes labels along
    dense regions can help.

    A :class:`PoolWarning` says so where the answer is no. Both questions suppose that
    labeled rows were drawn at random from those of their classes.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features), or images
        Labeled and unlabeled rows. Distances are in standard deviations of each column,
        or in the units of X where most columns span the same range, as pixels do.
    y : array-like of shape (n_samples,)
        Labels; -1, "-1", None, NaN or pandas.NA where a row is unlabeled.
    n_neighbors : int, default=10
        Near neighbors of each row.

    Returns
    -------
    report : Bunch
        ``novelty``: float array of shape (n_samples,), minus the logarithm of the
        largest probability to meet a label of another row; the higher, the farther from
        every label. ``pvalues``: float array of that shape, the share of labeled rows
        that are as novel; NaN where nothing can be compared. ``weights``: float array
        of that shape, for ``fit(..., unlabeled_weight=weights)``: from 0 where no
        labeled row is as novel to 1 where a fifth of them is, and 1 for labeled rows.
        ``outside``: estimated share of unlabeled rows of other classes, from those that
        are more novel than nine tenths of the labeled ones, and ``outside_pvalue``, the
        probability of so many by chance. ``agreement``: share of labeled rows
        whose nearest label is the same, and ``agreement_pvalue``, of a binomial test
        against chance. A class's only label is not judged and compared with by neither.

    Raises
    ------
    ValueError
        If no row is unlabeled.

    Warns
    -----
    PoolWarning
        If `outside` is at least 0.1 with a p-value below 0.01, or the agreement is no
        better than chance with a p-value above 0.05.

    Notes
    -----
    Neighbors are sought among all rows, which takes time in proportion to the square of
    their number. Of more than 300 labeled rows, 300 are used.

    References
    ----------
    X. Zhu, Z. Ghahramani and J. Lafferty, "Semi-Supervised Learning Using Gaussian
    Fields and Harmonic Functions", ICML 2003, for walks that meet labels; S. Bates et
    al., "Testing for Outliers with Conformal p-values", Annals of Statistics 51, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_blobs
    >>> from pnl_sklearn.inspection import check_pool
    >>> from pnl_sklearn.model_selection import hide_labels
    >>> X, y = make_blobs(300, centers=[[0, 0], [9, 0]], random_state=0)
    >>> report = check_pool(X, hide_labels(y, 20, random_state=0))
    >>> report.agreement
    1.0
    """
    known, labels = known_labels(y)
    X, _ = indexable(X, known)
    if known.all():
        raise ValueError("y has no unlabeled row, so that there is no pool to check.")
    labeled = np.flatnonzero(known)
    # At even distances in the order of classes, so that each keeps its share.
    order = np.argsort(labels, kind="stable")
    even = np.linspace(0, len(order) - 1, min(len(order), _N_LABELED)).astype(int)
    labeled, labels = labeled[order[even]], labels[order[even]]
    meets = meeting_probabilities(_neighbor_graph(X, n_neighbors), labeled)
    itself = labeled, np.arange(len(labeled))
    meets[itself] = 0.0
    novelty = -np.log(meets.max(axis=1).clip(1e-9))
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    judged = counts[codes] > 1
    report = Bunch(novelty=novelty, pvalues=np.full(len(known), np.nan))
    report.weights = np.ones(len(known))
    report.outside, report.outside_pvalue = 0.0, 1.0
    report.agreement, report.agreement_pvalue = np.nan, 1.0
    if judged.any():
        _compare_novelty(report, novelty[labeled[judged]], ~known)
        # Class by class the mean over its labels, without the row's own.
        members = codes[:, None] == np.arange(len(counts))
        others = np.maximum(members.sum(axis=0) - members, 1)
        nearest = (meets[labeled] @ members / others).argmax(axis=1)
        _compare_labels(report, (nearest == codes)[judged], counts)
    return report


def _compare_novelty(report: Bunch, reference: np.ndarray, unlabeled: np.ndarray):
    """Compare unlabeled rows with labeled ones; warn of those of other classes."""
    n = len(reference)
    below = np.searchsorted(np.sort(reference), report.novelty, side="left")
    report.pvalues = (1 + n - below) / (n + 1)
    weights = (n - below) / n / _FULL_WEIGHT
    report.weights[unlabeled] = weights[unlabeled].clip(0, 1)
    # Beyond all labeled rows but a tenth there should be about a tenth of the others;
    # if there is a share of f, each labeled row is beyond such rows with chance f.
    n_beyond = n // 10
    expected = (n_beyond + 1) / (n + 1)
    share = float((report.pvalues[unlabeled] <= expected).mean())
    report.outside = max(0.0, (share - expected) / (1 - expected))
    report.outside_pvalue = float(binom.cdf(n_beyond, n, share))
    if report.outside >= 0.1 and report.outside_pvalue < 0.01:
        warnings.warn(
            f"About {report.outside:.0%} of the unlabeled rows seem to be of classes "
            "that no label names: they are farther from every label than labeled rows "
            f"are from each other (p = {report.outside_pvalue:.1g}). Look at the rows "
            "of largest novelty, leave them out or label them; or give fit the weights "
            "of this report as unlabeled_weight.",
            PoolWarning,
            stacklevel=4,
        )


def _compare_labels(report: Bunch, agrees: np.ndarray, counts: np.ndarray):
    """Compare the labels nearest along the pool with chance; warn if no better."""
    n_labels = counts.sum()
    chance = float((counts * (counts - 1)).sum() / (n_labels * (n_labels - 1)))
    n_agree, n_judged = int(agrees.sum()), len(agrees)
    test = binomtest(n_agree, n_judged, chance, alternative="greater")
    report.agreement = n_agree / n_judged
    report.agreement_pvalue = float(test.pvalue)
    # So few labels that not even full agreement would show prove nothing.
    if report.agreement_pvalue > 0.05 and chance**n_judged < 0.05:
        warnings.warn(
            f"Labels do not follow the pool: {n_agree} of {n_judged} labeled rows have "
            "the label of the one that is nearest along it, which is no better than "
            f"chance (p = {report.agreement_pvalue:.1g}). Unlabeled rows may do harm "
            "then. Compare by unlabeled_gain, and look for features in which rows of a "
            "class are near each other.",
            PoolWarning,
            stacklevel=4,
        )


def _neighbor_graph(X, n_neighbors: int) -> sparse.csr_matrix:
    """Symmetric graph of near neighbors, of weight 1."""
    if sparse.issparse(X):
        rows = StandardScaler(with_mean=False).fit_transform(X.tocsr())
    else:
        rows = np.asarray(X, dtype=np.float32)
        rows = rows.reshape(len(rows), -1)
        if not has_common_unit(torch.from_numpy(rows)):
            rows = StandardScaler().fit_transform(rows)
    graph = kneighbors_graph(rows, min(n_neighbors, rows.shape[0] - 1))
    return graph.maximum(graph.T)


def meeting_probabilities(graph: sparse.csr_matrix, targets: np.ndarray) -> np.ndarray:
    """Probabilities that a walk along the graph meets each target before it ends.

    Parameters
    ----------
    graph : symmetric sparse matrix of shape (n, n)
        Weights of the edges; each row has one at least.
    targets : int array of shape (n_targets,)

    Returns
    -------
    probabilities : float array of shape (n, n_targets)
        From each row; 1 from the target itself.
    """
    n = graph.shape[0]
    root = np.sqrt(np.asarray(graph.sum(axis=1)).ravel())
    scale = sparse.diags(1 / root)
    # Expected visits are D^-1/2 S^-1 D^1/2 with this S, which is positive definite.
    system = sparse.identity(n, format="csr") - _GOES_ON * (scale @ graph @ scale)
    probabilities = np.empty((n, len(targets)))
    for column, target in enumerate(targets):
        unit = np.zeros(n)
        unit[target] = 1.0
        visits, _ = cg(system, unit, atol=0.0)
        # Once more for what is left, since the default precision is of 1e-5.
        visits += cg(system, unit - system @ visits, atol=0.0)[0]
        # Each walk that meets the target visits it as often as one that starts there.
        probabilities[:, column] = visits * root[target] / (root * visits[target])
    return probabilities.clip(0, 1)


def warn_of_starved_classes(
    history: list[dict], prior: torch.Tensor, classes: np.ndarray, codes: np.ndarray
) -> None:
    """Warn where predictions of unlabeled rows have all but given up a class.

    Parameters
    ----------
    history : list of dict
        A row an epoch.
    prior : Tensor of shape (n_classes,)
        What the mean prediction was drawn to at first.
    classes : array of shape (n_classes,)
    codes : int array of shape (n_samples,)
        Class codes, -1 where unlabeled.
    """
    n_unlabeled = int((codes < 0).sum())
    if not (history and n_unlabeled):
        return
    predicted = np.array(history[-1]["class_distribution"])
    expected = prior.cpu().numpy()
    starved = predicted < _STARVED * expected
    starved &= expected * n_unlabeled >= _N_EXPECTED
    starved &= np.bincount(codes[codes >= 0], minlength=len(classes)) > 0
    if not starved.any():
        return
    names = ", ".join(repr(label) for label in classes[starved].tolist())
    shares = ", ".join(f"{100 * share:.2g} %" for share in predicted[starved])
    if starved.sum() == len(classes) - 1:
        what = f"Predictions collapsed to one class, {classes[~starved].tolist()[0]!r}"
    else:
        what = f"Predictions all but gave up {names}: {shares} of the unlabeled rows"
    warnings.warn(
        f"{what}. If that is not so rare, label a few more rows of it, give the shares "
        "that you know as class_prior, or raise balance_weight; lower lr if the loss "
        "jumps. The column class_distribution of history_ shows when it happened.",
        PoolWarning,
        stacklevel=3,
    )


def check_unlabeled_weight(unlabeled_weight, codes: np.ndarray) -> np.ndarray | None:
    """Return the weights of all rows, float64; those of labeled rows mean nothing."""
    if unlabeled_weight is None:
        return None
    weights = np.asarray(unlabeled_weight, dtype=np.float64)
    check_consistent_length(weights, codes)
    unlabeled = weights[codes < 0]
    if weights.ndim != 1 or not np.isfinite(unlabeled).all() or (unlabeled < 0).any():
        raise ValueError(
            "unlabeled_weight has to hold one number for each row, not negative."
        )
    if len(unlabeled) and not unlabeled.sum() > 0:
        raise ValueError(
            "The weights of the unlabeled rows are all zero. Use supervised_twin to "
            "train without them."
        )
    return weights
