"""Class probabilities by label propagation, as a part of the estimator."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from ..data._sources import Source, chunks
from ._hog import HOG
from ._neighbors import (
    neighbor_graph,
    reduced_features,
    search_neighbors,
    self_tuning_weights,
)
from ._stack import label_posterior

# Samples times classes: a dozen arrays of this size are in memory at a time.
_MAX_PROBABILITIES = 4_000_000


class GraphPosterior(BaseEstimator):
    """Class probabilities by label propagation on a graph of nearest neighbors.

    Each sample is connected to its nearest neighbors. Labels propagate along the edges,
    which gives a posterior over the classes for every unlabeled sample. It is computed
    once per fit. Before negative labels are selected, the teacher's prediction is
    multiplied by this posterior, and so is the prediction in `transduction_`.

    Parameters
    ----------
    weight : float, default=1.0
        Exponent of the graph posterior that multiplies the teacher's predictions; 0
        turns it off.
    features : "auto" or callable, default="auto"
        Features whose Euclidean distance defines the neighbors. "auto": see the Notes.
        A callable maps a float32 batch, on its device and in the units of X, to a
        Tensor of shape (n_samples, n_features), such as :class:`HOG` or the embedding
        of a pretrained network (see :class:`FeatureFunction`).
    neighbors : "auto" or callable, default="auto"
        "auto": exact nearest neighbors of the features. A callable maps all samples, a
        float32 array of shape (n_samples, ...) in the units of X, to a sparse matrix of
        distances, as ``KNeighborsTransformer(mode="distance").fit_transform`` does (see
        :class:`NeighborSearch`). It takes the place of `features`.
    n_neighbors : int, default=10
        Neighbors of each sample, if `neighbors` is "auto". With as many samples or
        fewer there is no graph.

    See Also
    --------
    pnl_sklearn.inspection.check_unlabeled : Tests on such a graph whether unlabeled
        data can help.

    Notes
    -----
    The automatic features are

    - those of tables of up to 10,000 samples and 2^24 values, scaled to unit variance
      unless most of them span the same range;
    - :class:`HOG` of up to 100,000 images with one channel, of 16 to 256 pixels a side
      and up to 2^27 values in all.

    Other data have no graph unless `features` or `neighbors` are given. These are for
    up to 100,000 samples. More than 128 features are reduced to 128 by PCA, except
    those of tables. In any case, samples times classes are limited to 4 million.

    The weights of the edges are those of [1]_. The posterior is an average of label
    spreading [2]_ with class mass normalization [3]_ and of a volume-constrained MBO
    scheme [5]_ that starts from Poisson learning [4]_. Its weights are proportional to
    the cross-validated likelihood of the labels.

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

    Examples
    --------
    >>> from pnl_sklearn.graph import HOG, GraphPosterior
    >>> GraphPosterior(features=HOG(deskew=True)).get_params()["weight"]
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

    def log_posterior(
        self,
        source: Source,
        shape: tuple[int, ...],
        codes: np.ndarray,
        n_classes: int,
        class_prior: np.ndarray | None = None,
        prior_odds: float = 1.0,
        verbose: bool = False,
    ) -> np.ndarray | None:
        """Return what to add to the teacher's log-probabilities.

        Parameters
        ----------
        source : Source
            All samples.
        shape : tuple of int
            Of a sample, (n_features,) or (channels, height, width).
        codes : int array of shape (n_samples,)
            Class codes, -1 where unlabeled.
        n_classes : int
        class_prior : float array of shape (n_classes,), default=None
            Target class sizes. None: whatever the labels propagate to.
        prior_odds : float, default=1.0
            Odds that classes have these sizes, before the labels are known.
        verbose : bool, default=False
            Whether to print a line before a search that takes long.

        Returns
        -------
        log_posterior : float32 array of shape (n_samples, n_classes) or None
            `weight` times the logarithm of the posterior. None if there is nothing to
            propagate: the weight is 0, no sample is unlabeled, no class has two labels,
            or the data have no graph.

        Raises
        ------
        ValueError
            If a parameter is invalid, or a callable returns an invalid value; or if
            there are too many samples or labels for `features` or `neighbors` that are
            given.
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
        if verbose and n_samples > 10_000:
            print(f"Searching the neighbors of {n_samples:,} samples.", flush=True)
        graph = self._neighbor_graph(source, n_samples, shape)
        posterior = label_posterior(graph, codes, n_classes, class_prior, prior_odds)
        if posterior is None:
            return None
        return np.float32(self.weight) * np.log(posterior.clip(1e-9))

    def _neighbor_graph(
        self, source: Source, n_samples: int, shape: tuple[int, ...]
    ) -> sparse.csr_matrix:
        if callable(self.neighbors):
            distances = search_neighbors(self.neighbors, source, n_samples, shape)
            return self_tuning_weights(distances)
        if not callable(self.features) and len(shape) == 1:
            batches = source.stream(chunks(range(n_samples), shape))
            X = torch.cat(list(batches)).cpu()
            return neighbor_graph(X, self.n_neighbors, weighted=True)
        features = self.features if callable(self.features) else HOG()
        X = reduced_features(features, source, n_samples, shape)
        return neighbor_graph(X, self.n_neighbors, weighted=True, standardize=False)

    def _check_parameters(self) -> None:
        self._validate_params()
        for name in ("features", "neighbors"):
            value = getattr(self, name)
            if isinstance(value, type):
                raise ValueError(
                    f"{name}={value!r} is a class. Give an object of it: "
                    f"{name}={value.__name__}()."
                )
        if callable(self.features) and callable(self.neighbors):
            raise ValueError(
                f"features={self.features!r} and neighbors={self.neighbors!r} exclude "
                "each other: a search is called with the samples, not with features. "
                "Leave one of them at 'auto'."
            )

    def _check_size(self, n_samples: int, n_classes: int) -> None:
        if n_samples > 100_000 or n_samples * n_classes > _MAX_PROBABILITIES:
            raise ValueError(
                "features and neighbors of GraphPosterior are for up to 100,000 "
                f"samples, and {_MAX_PROBABILITIES:,} for samples times classes; there "
                f"are {n_samples:,} samples and {n_classes} classes. Leave both at "
                "'auto', or give fewer unlabeled samples."
            )


def is_affordable(n_samples: int, n_classes: int, shape: tuple[int, ...]) -> bool:
    """Whether the data have automatic features, and a graph of them takes seconds."""
    n_values = n_samples * math.prod(shape)
    if n_samples * n_classes > _MAX_PROBABILITIES:
        return False
    if len(shape) == 1:
        return n_samples <= 10_000 and n_values <= 2**24
    # Smaller images show few edges.
    has_hog = shape[0] == 1 and min(shape[1:]) >= 16 and max(shape[1:]) <= 256
    return has_hog and n_samples <= 100_000 and n_values <= 2**27
