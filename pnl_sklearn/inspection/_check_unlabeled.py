"""Check before a fit whether unlabeled data may mislead it."""

from numbers import Integral

import numpy as np
from scipy.stats import betabinom
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params
from sklearn.utils.validation import check_consistent_length

from ..data._targets import known_labels
from ..exceptions import UnlabeledDataWarning
from ..graph._label_spreading import hitting_probabilities
from ..graph._neighbors import neighbor_graph
from ..utils._warnings import warn_user


class _Report(Bunch):
    """Report of `check_unlabeled`, whose string is a summary."""

    def __str__(self) -> str:
        if np.isnan(self.agreement):
            return (
                "Each class has a single label. More labels are needed for both tests."
            )
        return (
            f"About {self.out_of_class:.0%} of the unlabeled samples seem to be of "
            f"classes without labels (p = {self.out_of_class_pvalue:.1g}). "
            f"{self.agreement:.0%} of the labeled samples are most similar to their "
            f"own class (p = {self.agreement_pvalue:.1g})."
        )


@validate_params(
    {"n_neighbors": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def check_unlabeled(X, y, *, n_neighbors=10):
    """Check before a fit whether unlabeled data may lower the accuracy.

    Two assumptions of semi-supervised learning are tested. An
    :class:`~pnl_sklearn.exceptions.UnlabeledDataWarning` is issued if one of them seems
    to be violated.

    *Unlabeled samples are of the labeled classes.* Then they are about as similar to
    some labeled sample as labeled samples are to each other. Samples that are less
    similar may be of a class without labels. A fit would assign them to a wrong class.

    *Labels follow the clusters of the data.* Then a labeled sample is most similar to
    the other labeled samples of its class. If this is not more frequent than by chance,
    label propagation and pseudo-labels cannot help.

    The similarity is computed by a random walk with restart on a kNN graph of all
    samples. The similarity of one sample to another is the probability that a walk from
    the first hits the second before it restarts.

    Read more in the :doc:`user guide </guide/unlabeled_data>`.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features), or images
        Labeled and unlabeled samples. Features are standardized, unless most of them
        have the same range, such as pixels. Sparse features are always standardized.
    y : array-like of shape (n_samples,)
        Labels. -1, "-1", None, NaN and pandas.NA mark unlabeled samples.
    n_neighbors : int, default=10
        Number of neighbors of each sample in the graph.

    Returns
    -------
    report : Bunch
        Dictionary-like object with the following attributes. ``print(report)`` prints
        a summary.

        novelty : float64 ndarray of shape (n_samples,)
            Minus the natural logarithm of the largest similarity to another sample that
            is labeled.
        pvalues : float64 ndarray of shape (n_samples,)
            Conformal p-values: fraction of the labeled samples whose novelty is at
            least as high, from 1 / (n_labeled + 1) to 1. NaN if each class has a single
            label.
        weights : float64 ndarray of shape (n_samples,)
            Weights for ``fit(..., unlabeled_weight=weights)``, from 0 to 1. The weight
            of an unlabeled sample is 5 times the fraction of the labeled samples whose
            novelty is at least as high, at most 1. It is 1 for labeled samples.
        out_of_class : float
            Estimated fraction of the unlabeled samples that are of no labeled class. It
            is computed from the number of unlabeled samples whose novelty is higher
            than that of nine tenths of the labeled samples. The number expected by
            chance is subtracted.
        out_of_class_pvalue : float
            Probability of at least this number if all samples are of the labeled
            classes.
        agreement : float
            Fraction of the labeled samples that are most similar to their own class.
            The similarity to a class is the mean similarity to its other labeled
            samples. NaN if each class has a single label.
        agreement_pvalue : float
            Fraction of random permutations of the labels with at least this agreement.

    Raises
    ------
    ValueError
        If no sample is unlabeled, or none is labeled.

    Warns
    -----
    UnlabeledDataWarning
        If `out_of_class` is at least 0.15 with a p-value below 0.01. Or if the p-value
        of `agreement` is above 0.05, although there are enough labels for a lower one,
        and `agreement` is closer to its mean under permutations than to 1.

    See Also
    --------
    unlabeled_gain : Compare the scores with and without unlabeled data.

    Notes
    -----
    Both tests assume that the labeled samples were drawn at random. If each class has
    the same number of labels although some classes are much more frequent, the novelty
    of the frequent classes is too high. The first warning may then be wrong.

    The only label of a class is used for the similarity of other samples, but not for
    the distribution of the novelty and for the agreement. If there are more than 300
    labeled samples, a stratified subset of about 300 is used.

    The time of the exact search of nearest neighbors is quadratic in n_samples.

    References
    ----------
    .. [1] X. Zhu, Z. Ghahramani and J. Lafferty, "Semi-Supervised Learning Using
       Gaussian Fields and Harmonic Functions", ICML 2003.
    .. [2] S. Bates et al., "Testing for Outliers with Conformal p-values", Annals of
       Statistics 51, 2023.

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
    is_labeled, labels = known_labels(y)
    if is_labeled.all() or not is_labeled.any():
        raise ValueError(
            f"{is_labeled.sum()} of {len(is_labeled)} samples are labeled. "
            "check_unlabeled compares labeled and unlabeled samples, so that both are "
            "needed. Mark unlabeled samples with -1 in y."
        )
    # All pairs of labeled samples are compared, which is slow for thousands of them.
    used = _stratified_subsample(labels, 300)
    labeled, labels = np.flatnonzero(is_labeled)[used], labels[used]
    graph = neighbor_graph(X, n_neighbors, weighted=False)
    check_consistent_length(graph, is_labeled)
    alpha = 0.99  # a walk restarts after 100 steps on average
    similarity = hitting_probabilities(graph, labeled, alpha)
    similarity[labeled, np.arange(len(labeled))] = 0.0
    novelty = -np.log(similarity.max(axis=1).clip(1e-9))
    report = _Report(
        novelty=novelty,
        pvalues=np.full(len(novelty), np.nan),
        weights=np.ones(len(novelty)),
        out_of_class=0.0,
        out_of_class_pvalue=1.0,
        agreement=np.nan,
        agreement_pvalue=np.nan,
    )
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    has_peer = counts[codes] > 1
    if has_peer.any():
        report.update(
            _compare_novelty(novelty, novelty[labeled[has_peer]], ~is_labeled)
        )
        report.update(_compare_labels(similarity[labeled], codes))
    return report


def _compare_novelty(
    novelty: np.ndarray, reference: np.ndarray, is_unlabeled: np.ndarray
) -> dict:
    """Compare the novelty of unlabeled samples with that of labeled ones (reference).

    Return these entries of the report, and warn of unlabeled samples that are of no
    labeled class.
    """
    n, n_unlabeled = len(reference), int(is_unlabeled.sum())
    n_as_novel = n - np.searchsorted(np.sort(reference), novelty, side="left")
    pvalues = (1 + n_as_novel) / (n + 1)
    weights = np.where(is_unlabeled, (n_as_novel / n / 0.2).clip(0, 1), 1.0)
    # A tenth of the reference is beyond the threshold. So is about a tenth of the
    # unlabeled samples if they are of the same classes.
    n_beyond = n // 10
    expected = (n_beyond + 1) / (n + 1)
    n_found = int((pvalues[is_unlabeled] <= expected).sum())
    share = max(0.0, (n_found / n_unlabeled - expected) / (1 - expected))
    # Distribution of the number of unlabeled samples beyond a labeled sample of given
    # rank if all samples are exchangeable.
    chance = betabinom(n_unlabeled, n_beyond + 1, n - n_beyond)
    share_pvalue = float(chance.sf(n_found - 1))
    if share >= 0.15 and share_pvalue < 0.01:
        warn_user(
            f"About {share:.0%} of the unlabeled samples seem to be of classes without "
            "labels. They are less similar to all labeled samples than labeled samples "
            f"are to each other (p = {share_pvalue:.1g}, if the labeled samples were "
            "drawn at random). Inspect the samples with the highest novelty. Remove "
            "them, label them, or use fit(..., unlabeled_weight=report.weights).",
            UnlabeledDataWarning,
        )
    return {
        "pvalues": pvalues,
        "weights": weights,
        "out_of_class": share,
        "out_of_class_pvalue": share_pvalue,
    }


def _compare_labels(
    similarity: np.ndarray, codes: np.ndarray, *, n_permutations: int = 499
) -> dict:
    """Compare the agreement of labels and similarity with that of permuted labels.

    Return these entries of the report, and warn of labels that do not follow the
    clusters of the data.

    Parameters
    ----------
    similarity : float ndarray of shape (n_labeled, n_labeled)
        Similarity between labeled samples, with a diagonal of 0.
    codes : int ndarray of shape (n_labeled,)
        Class codes of the labeled samples. Each class has a label.
    n_permutations : int, default=499
        Number of random permutations of the labels.
    """
    agreement = _agreement(similarity, codes)
    rng = np.random.default_rng(0)
    permuted = np.array(
        [_agreement(similarity, rng.permutation(codes)) for _ in range(n_permutations)]
    )
    pvalue = float((1 + (permuted >= agreement).sum()) / (n_permutations + 1))
    # With few labels, an agreement of 1 may be frequent under permutations. The test
    # then has no power.
    lowest_pvalue = (1 + (permuted >= 1).sum()) / (n_permutations + 1)
    is_low = agreement < (1 + permuted.mean()) / 2
    if pvalue > 0.05 and lowest_pvalue <= 0.05 and is_low:
        warn_user(
            "Labels do not seem to follow the clusters of the data: "
            f"{agreement:.0%} of the labeled samples are most similar to their own "
            f"class, and {permuted.mean():.0%} with permuted labels "
            f"(p = {pvalue:.1g}). Unlabeled data may then lower the accuracy. Measure "
            "the gain with unlabeled_gain, or use features in which samples of one "
            "class are similar.",
            UnlabeledDataWarning,
        )
    return {"agreement": agreement, "agreement_pvalue": pvalue}


def _agreement(similarity: np.ndarray, codes: np.ndarray) -> float:
    """Return the fraction of samples that are most similar to their own class.

    The similarity to a class is the mean over its other samples. Samples that are alone
    in their class are ignored.
    """
    one_hot = np.eye(codes.max() + 1)[codes]
    counts = one_hot.sum(axis=0)
    n_others = np.maximum(counts - one_hot, 1)
    nearest = (similarity @ one_hot / n_others).argmax(axis=1)
    return float((nearest == codes)[counts[codes] > 1].mean())


def _stratified_subsample(labels: np.ndarray, n: int, n_each: int = 3) -> np.ndarray:
    """Return the indices of about n labels, sorted by class and evenly spaced.

    The numbers of labels are proportional to the class frequencies, but at least
    `n_each`, or all labels of a class with fewer.
    """
    order = np.argsort(labels, kind="stable")
    if len(labels) <= n:
        return order
    counts = np.unique(labels, return_counts=True)[1]
    least = np.minimum(counts, n_each)
    # If each class keeps all of its labels, both numbers are 0.
    share = max(n - least.sum(), 0) / max(len(labels) - least.sum(), 1)
    kept = least + (share * (counts - least)).astype(int)
    ends = counts.cumsum()
    places = [
        np.linspace(end - count, end - 1, k).astype(int)
        for end, count, k in zip(ends, counts, kept, strict=True)
    ]
    return order[np.concatenate(places)]
