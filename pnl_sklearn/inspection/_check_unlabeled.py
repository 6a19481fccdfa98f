"""Check before a fit whether unlabeled data may mislead it."""

import warnings
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


@validate_params(
    {"n_neighbors": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def check_unlabeled(X, y, *, n_neighbors=10):
    """Check before a fit whether unlabeled data may mislead it.

    Two assumptions of semi-supervised learning are tested on a kNN graph of all
    samples. Samples are compared by random walks with restart (alpha = 0.99): the
    similarity of a sample to another one is the probability that a walk from the first
    meets the second before it restarts.

    *Unlabeled samples are of the labeled classes.* Then they are about as similar to
    some labeled sample as labeled samples are to each other. Samples that are less
    similar may be of a class without labels. A fit would assign them to a wrong class.

    *Labels follow the clusters of the data.* Then a labeled sample is most similar to
    the other labeled samples of its class. If that is no more frequent than by chance,
    label propagation and pseudo-labels cannot help.

    A :class:`~pnl_sklearn.UnlabeledDataWarning` is issued if an assumption seems to be
    violated.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features), or images
        Labeled and unlabeled samples. Features are standardized, unless most of them
        have the same range, such as pixels. Sparse features are always standardized.
    y : array-like of shape (n_samples,)
        Labels; -1, "-1", None, NaN or pandas.NA for unlabeled samples.
    n_neighbors : int, default=10
        Number of neighbors of each sample in the graph.

    Returns
    -------
    report : Bunch
        Dictionary-like object with the following attributes.

        novelty : float64 ndarray of shape (n_samples,)
            Minus the natural logarithm of the largest similarity to a labeled sample
            other than itself. The higher it is, the less similar is the sample to all
            labeled ones.
        pvalues : float64 ndarray of shape (n_samples,)
            Conformal p-values: the share of labeled samples that are at least as novel,
            from 1 / (n_labeled + 1) to 1. NaN if each class has a single label.
        weights : float64 ndarray of shape (n_samples,)
            Weights for ``fit(..., unlabeled_weight=weights)``. The weight is 0 if no
            labeled sample is as novel, rises in proportion to the share of labeled
            samples that are, and is 1 from a fifth of them. It is 1 for labeled
            samples.
        out_of_class : float
            Estimated share of the unlabeled samples that are of no labeled class.
            Unlabeled samples are counted that are more novel than nine tenths of the
            labeled ones; the count expected by chance is subtracted.
        out_of_class_pvalue : float
            Probability of such a count if all samples are of the labeled classes.
        agreement : float
            Share of labeled samples that are most similar to their own class, by the
            mean similarity to the other labeled samples of each class. NaN if each
            class has a single label.
        agreement_pvalue : float
            Share of random permutations of the labels with at least this agreement.

    Raises
    ------
    ValueError
        If no sample is unlabeled, or none is labeled.

    Warns
    -----
    UnlabeledDataWarning
        If `out_of_class` is 0.15 or more with a p-value below 0.01. Or if the p-value
        of `agreement` is above 0.05, `agreement` is nearer to its mean under
        permutations than to 1, and there are enough labels for a lower p-value.

    See Also
    --------
    unlabeled_gain : Compare the scores with and without unlabeled data.

    Notes
    -----
    Both tests assume that the labeled samples were drawn at random. If each class has
    the same number of labels, although some classes are far more frequent, samples of
    the frequent classes look novel. The first warning may then be wrong.

    The only label of a class is used for the similarity of other samples, but it is not
    compared itself. Of more than 300 labeled samples, 300 are used, with at least three
    of each class that has them.

    The time is quadratic in n_samples, since each sample is compared with all others to
    find its neighbors.

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
            f"y has {is_labeled.sum()} labeled samples of {len(is_labeled)}. "
            "check_unlabeled compares labeled and unlabeled samples, so that y has to "
            "contain both. Mark unlabeled samples with -1."
        )
    # All pairs of labeled samples are compared, which takes long for thousands.
    used = _stratified_subsample(labels, 300)
    labeled, labels = np.flatnonzero(is_labeled)[used], labels[used]
    graph = neighbor_graph(X, n_neighbors, weighted=False)
    check_consistent_length(graph, is_labeled)
    alpha = 0.99  # a walk restarts after 100 steps on average
    similarity = hitting_probabilities(graph, labeled, alpha)
    similarity[labeled, np.arange(len(labeled))] = 0.0
    novelty = -np.log(similarity.max(axis=1).clip(1e-9))
    report = Bunch(
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
    """Compare the novelty of all samples with that of labeled ones, the reference.

    Return the entries of the report that follow, and warn of unlabeled samples that are
    out of the labeled classes.
    """
    n, n_unlabeled = len(reference), int(is_unlabeled.sum())
    n_as_novel = n - np.searchsorted(np.sort(reference), novelty, side="left")
    pvalues = (1 + n_as_novel) / (n + 1)
    weights = np.where(is_unlabeled, (n_as_novel / n / 0.2).clip(0, 1), 1.0)
    # A tenth of the reference is beyond the threshold, and about as large a share of
    # the unlabeled samples if they are of the same classes.
    n_beyond = n // 10
    expected = (n_beyond + 1) / (n + 1)
    n_found = int((pvalues[is_unlabeled] <= expected).sum())
    share = max(0.0, (n_found / n_unlabeled - expected) / (1 - expected))
    # The number of unlabeled samples beyond a labeled one of given rank, if all are in
    # random order, is that of a Polya urn.
    chance = betabinom(n_unlabeled, n_beyond + 1, n - n_beyond)
    share_pvalue = float(chance.sf(n_found - 1))
    if share >= 0.15 and share_pvalue < 0.01:
        warnings.warn(
            f"About {share:.0%} of the unlabeled samples seem to be of classes without "
            "labels. They are less similar to all labeled samples than labeled samples "
            f"are to each other (p = {share_pvalue:.1g}, if the labeled samples were "
            "drawn at random). Look at the samples of highest novelty. Remove them, "
            "label them, or use fit(..., unlabeled_weight=report.weights).",
            UnlabeledDataWarning,
            stacklevel=4,
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

    Return the entries of the report that follow, and warn of labels that do not follow
    the clusters of the data.

    Parameters
    ----------
    similarity : float ndarray of shape (n_labeled, n_labeled)
        Between labeled samples, 0 of each with itself.
    codes : int ndarray of shape (n_labeled,)
        Classes of the labeled samples. Each class has a label.
    n_permutations : int
    """
    agreement = _agreement(similarity, codes)
    rng = np.random.default_rng(0)
    permuted = np.array(
        [_agreement(similarity, rng.permutation(codes)) for _ in range(n_permutations)]
    )
    pvalue = float((1 + (permuted >= agreement).sum()) / (n_permutations + 1))
    # With few labels even an agreement of 1 may be frequent under permutations. The
    # test then says nothing.
    lowest_pvalue = (1 + (permuted >= 1).sum()) / (n_permutations + 1)
    is_low = agreement < (1 + permuted.mean()) / 2
    if pvalue > 0.05 and lowest_pvalue <= 0.05 and is_low:
        warnings.warn(
            "Labels do not seem to follow the clusters of the data: "
            f"{agreement:.0%} of the labeled samples are most similar to their own "
            f"class, and {permuted.mean():.0%} with permuted labels "
            f"(p = {pvalue:.1g}). Unlabeled data may then lower the accuracy. Check it "
            "with unlabeled_gain, and look for features in which samples of one class "
            "are similar.",
            UnlabeledDataWarning,
            stacklevel=4,
        )
    return {"agreement": agreement, "agreement_pvalue": pvalue}


def _agreement(similarity: np.ndarray, codes: np.ndarray) -> float:
    """Share of samples that are most similar to the other samples of their own class.

    Similarity to a class is the mean over its samples. Samples without another one of
    their class do not count.
    """
    one_hot = np.eye(codes.max() + 1)[codes]
    counts = one_hot.sum(axis=0)
    n_others = np.maximum(counts - one_hot, 1)
    nearest = (similarity @ one_hot / n_others).argmax(axis=1)
    return float((nearest == codes)[counts[codes] > 1].mean())


def _stratified_subsample(labels: np.ndarray, n: int, n_each: int = 3) -> np.ndarray:
    """Return indices of n labels at most, evenly spaced, in the order of the classes.

    A class has its share of them, but `n_each` at least, or all if it has fewer.
    """
    order = np.argsort(labels, kind="stable")
    if len(labels) <= n:
        return order
    counts = np.unique(labels, return_counts=True)[1]
    least = np.minimum(counts, n_each)
    # Where each class keeps all of its labels, there is nothing to share.
    share = max(n - least.sum(), 0) / max(len(labels) - least.sum(), 1)
    kept = least + (share * (counts - least)).astype(int)
    ends = counts.cumsum()
    places = [
        np.linspace(end - count, end - 1, k).astype(int)
        for end, count, k in zip(ends, counts, kept, strict=True)
    ]
    return order[np.concatenate(places)]
