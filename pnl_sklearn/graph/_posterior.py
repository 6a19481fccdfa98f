"""Class probabilities by label propagation, for the estimator."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from ..data._sources import Source, chunks
from ..utils._progress import print_line
from ._hog import HOG
from ._neighbors import (
    FeatureFunction,
    can_search,
    neighbor_graph,
    reduced_features,
    search_neighbors,
    self_tuning_weights,
    standardization,
)
from ._stack import label_posterior

_MAX_SAMPLES = 1_000_000
# Limit of n_samples * n_classes, since several arrays of this size are in memory.
_MAX_PROBABILITIES = 2**24
# Largest number of values of a table whose features are not reduced by PCA.
_MAX_UNREDUCED = 2**24


class GraphPosterior(BaseEstimator):
    """Graph posterior: class probabilities by label propagation on a kNN graph.

    Each sample is connected to its nearest neighbors. Label propagation on this graph
    gives class probabilities of every sample. They are computed once per fit. Before
    pseudo-negative labels are selected, the teacher's predictions are multiplied by
    them. The predictions in ``transduction_`` are multiplied by them, too.

    Read more in the :ref:`user guide <graph>`.

    Parameters
    ----------
    weight : float, default=1.0
        Exponent of the graph posterior that multiplies the teacher's predictions; 0
        turns it off. For tables it is multiplied by an exponent that held-out labels
        determine (see :class:`~pnl_sklearn.evidence.Evidence`), which may be 0.
    features : "auto" or callable, default="auto"
        Features whose Euclidean distance defines the neighbors. "auto" chooses them by
        the shape of X (see Notes). A callable maps a float32 batch, on its device and
        in the units of X, to a Tensor of shape (n_samples, n_features), such as
        :class:`HOG` or the embedding of a pretrained network (see
        :class:`FeatureFunction`).
    neighbors : "auto" or callable, default="auto"
        "auto" finds the nearest neighbors by the features. A callable maps all samples,
        a float32 array of shape (n_samples, ...), to a sparse matrix of distances, such
        as ``KNeighborsTransformer(mode="distance").fit_transform`` (see
        :class:`NeighborSearch`). `features` must then be "auto".
    n_neighbors : int, default=10
        Number of neighbors of each sample, if `neighbors` is "auto". There is no graph
        posterior if there are not more samples than this.

    See Also
    --------
    pnl_sklearn.inspection.check_unlabeled : Test on a kNN graph whether unlabeled data
        can help.
    sklearn.semi_supervised.LabelSpreading : Label propagation on a graph.

    Notes
    -----
    Automatic features depend on X:

    ======================= ================================ ===============
    X                       Features                         Limit of values
    ======================= ================================ ===============
    table                   those of X, scaled to unit       2^27
                            variance unless most of them
                            have the same range
    images of 16 to 256     :class:`HOG`                     2^27
    pixels a side
    other images            none
    ======================= ================================ ===============

    Values are counted in X, over all samples. More than 128 features are reduced to 128
    by PCA, but those of a table only if it has more than 2^24 values. The limits of the
    number of samples depend on the search:

    ======================= ================================ ===============
    Neighbors               Search                           Samples
    ======================= ================================ ===============
    by features             exact                            up to 100,000
    by features             approximate, if faiss is         up to 1,000,000
                            installed (see below)
    given by a callable                                      up to 1,000,000
    ======================= ================================ ===============

    n_samples * n_classes is limited to 2^24. There is no graph posterior if X has no
    automatic features or exceeds these limits. If `features` or `neighbors` is a
    callable, the limit of values does not apply, and more samples raise an error.

    For more than 100,000 samples, install `faiss <https://faiss.ai>`_ by
    ``pip install faiss-cpu``. Its HNSW index finds most of the nearest neighbors [6]_.

    Labels are needed for cross-validation: there is no graph posterior if no class has
    two labels.

    The weights of the edges are those of [1]_. The graph posterior is a weighted
    average of the uniform distribution, label spreading [2]_, also with class mass
    normalization [3]_, and a volume-constrained MBO scheme [5]_ that starts from
    Poisson learning [4]_. The weights are proportional to the cross-validated
    likelihood of the labels.

    References
    ----------
    .. [1] L. Zelnik-Manor and P. Perona, "Self-Tuning Spectral Clustering", NIPS 2004.
    .. [2] D. Zhou, O. Bousquet, T. N. Lal, J. Weston and B. Schölkopf, "Learning with
       Local and Global Consistency", NIPS 2003.
    .. [3] X. Zhu, Z. Ghahramani and J. Lafferty, "Semi-Supervised Learning Using
       Gaussian Fields and Harmonic Functions", ICML 2003.
    .. [4] J. Calder, B. Cook, M. Thorpe and D. Slepčev, "Poisson Learning: Graph Based
       Semi-Supervised Learning at Very Low Label Rates", ICML 2020.
    .. [5] M. Jacobs, E. Merkurjev and S. Esedoḡlu, "Auction Dynamics: A Volume
       Constrained MBO Scheme", Journal of Computational Physics 354, 2018.
    .. [6] Y. A. Malkov and D. A. Yashunin, "Efficient and Robust Approximate Nearest
       Neighbor Search Using Hierarchical Navigable Small World Graphs", IEEE
       Transactions on Pattern Analysis and Machine Intelligence 42, 2020.

    Examples
    --------
    >>> from pnl_sklearn import PNLClassifier
    >>> from pnl_sklearn.graph import HOG, GraphPosterior
    >>> classifier = PNLClassifier(graph=GraphPosterior(features=HOG(deskew=True)))
    >>> classifier.get_params()["graph__weight"]
    1.0
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "weight": [Interval(Real, 0, None, closed="left")],
        "features": [StrOptions({"auto"}), callable],
        "neighbors": [StrOptions({"auto"}), callable],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, weight=1.0, features="auto", neighbors="auto", n_neighbors=10):
        self.weight = weight
        self.features = features
        self.neighbors = neighbors
        self.n_neighbors = n_neighbors

    def posterior(
        self,
        source: Source,
        shape: tuple[int, ...],
        codes: np.ndarray,
        n_classes: int,
        class_prior: np.ndarray | None = None,
        prior_odds: float = 1.0,
        verbose: bool = False,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Compute the graph posterior.

        Parameters
        ----------
        source : Source
            Source of all samples.
        shape : tuple of int
            Shape of a sample, (n_features,) or (channels, height, width).
        codes : int array of shape (n_samples,)
            Class codes, -1 for unlabeled samples.
        n_classes : int
            Number of classes.
        class_prior : float array of shape (n_classes,), default=None
            Target class sizes. None uses only methods without target class sizes.
        prior_odds : float, default=1.0
            Prior odds of the methods with target class sizes against the other methods.
        verbose : bool, default=False
            Whether to print a line before a long search of nearest neighbors, and if
            there is no search since faiss is not installed.

        Returns
        -------
        probabilities : float32 array of shape (n_samples, n_classes)
            Class probabilities, without the exponent `weight`.
        held_out : float32 array of shape (n_held_out, n_classes)
            Predictions of held-out labels, see `label_posterior`.

        The result is None if `weight` is 0, no sample is unlabeled, no class has two
        labels, or the data have no graph.

        Raises
        ------
        ValueError
            If a parameter is invalid, if a callable returns invalid values, or if there
            are too many samples or classes for a callable.
        """
        self._check_parameters()
        n_samples = len(codes)
        counts = np.bincount(codes[codes >= 0], minlength=n_classes)
        is_used = self.weight > 0 and (codes < 0).any() and counts.max() > 1
        if not is_used:
            return None
        if not callable(self.neighbors) and n_samples <= self.n_neighbors:
            return None
        if callable(self.features) or callable(self.neighbors):
            self._check_size(n_samples, n_classes)
        elif not is_affordable(n_samples, n_classes, shape):
            return None
        elif not can_search(n_samples):
            if verbose:
                print_line(
                    f"No graph posterior: the neighbors of {n_samples:,} samples are "
                    "searched by faiss, which is not installed (pip install "
                    "faiss-cpu)."
                )
            return None
        if verbose and n_samples > 10_000:
            print_line(f"Searching the neighbors of {n_samples:,} samples.")
        graph = self._neighbor_graph(source, n_samples, shape)
        return label_posterior(graph, codes, n_classes, class_prior, prior_odds)

    def _neighbor_graph(
        self, source: Source, n_samples: int, shape: tuple[int, ...]
    ) -> sparse.csr_matrix:
        if callable(self.neighbors):
            distances = search_neighbors(self.neighbors, source, n_samples, shape)
            return self_tuning_weights(distances)
        features: FeatureFunction = HOG()
        if callable(self.features):
            features = self.features
        elif len(shape) == 1:
            if n_samples * shape[0] <= _MAX_UNREDUCED:
                batches = source.stream(chunks(range(n_samples), shape))
                X = torch.cat(list(batches)).cpu()
                return neighbor_graph(X, self.n_neighbors, weighted=True)
            features = standardization(source, n_samples, shape)
        X = reduced_features(features, source, n_samples, shape)
        return neighbor_graph(X, self.n_neighbors, weighted=True, standardize=False)

    def _check_parameters(self) -> None:
        self._validate_params()
        for name in ("features", "neighbors"):
            value = getattr(self, name)
            if isinstance(value, type):
                raise ValueError(
                    f"{name}={value!r} is a class. Pass an instance of it: "
                    f"{name}={value.__name__}()."
                )
        if callable(self.features) and callable(self.neighbors):
            raise ValueError(
                f"features={self.features!r} and neighbors={self.neighbors!r} exclude "
                "each other, since neighbors is called with the samples, not with the "
                "features. Set one of them to 'auto'."
            )

    def _check_size(self, n_samples: int, n_classes: int) -> None:
        if n_samples > _MAX_SAMPLES or n_samples * n_classes > _MAX_PROBABILITIES:
            raise ValueError(
                f"GraphPosterior is for up to {_MAX_SAMPLES:,} samples, and "
                f"{_MAX_PROBABILITIES:,} for samples times classes; there are "
                f"{n_samples:,} samples and {n_classes} classes. Use fewer unlabeled "
                "samples, or graph=None."
            )
        if callable(self.features) and not can_search(n_samples):
            raise ValueError(
                f"features={self.features!r} of {n_samples:,} samples need faiss to "
                "find the neighbors, and it is not installed: pip install faiss-cpu. "
                "Without it, there may be up to 100,000 samples."
            )


def is_affordable(n_samples: int, n_classes: int, shape: tuple[int, ...]) -> bool:
    """Whether the data have automatic features and are within the limits."""
    if n_samples > _MAX_SAMPLES or n_samples * n_classes > _MAX_PROBABILITIES:
        return False
    # HOG is not useful for smaller images, which have few edges.
    has_features = len(shape) == 1 or (min(shape[1:]) >= 16 and max(shape[1:]) <= 256)
    return has_features and n_samples * math.prod(shape) <= 2**27
