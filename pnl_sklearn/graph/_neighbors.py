"""The graph of nearest neighbors: features, distances, weights of the edges."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, Protocol

import numpy as np
import torch
from scipy import sparse
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ..data._inputs import numbers_expected, refuse_masked, to_numpy
from ..data._sources import Source, chunks
from ..views._table import has_common_unit

# sklearn.neighbors and sklearn.decomposition are imported inside of functions, since at
# the top they would make the import of this package much slower.


class FeatureFunction(Protocol):
    """Function that computes features of a batch.

    Samples of the same class should have a small Euclidean distance. Examples are
    :class:`~pnl_sklearn.graph.HOG` and the embedding of a pretrained network. A
    :class:`torch.nn.Module` is copied and called in evaluation mode, on the device of
    the batch.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features of a batch. No gradient is computed.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            A batch, in the units of X. It may be changed in place.

        Returns
        -------
        features : Tensor of shape (n_samples, n_features)
            Finite features.
        """


class NeighborSearch(Protocol):
    """Function that finds the nearest neighbors of all samples, for any distance.

    Examples are ``KNeighborsTransformer(mode="distance").fit_transform`` of
    scikit-learn, and approximate searches that return such a matrix.
    """

    def __call__(self, X: np.ndarray) -> Any:
        """Return the distances to the nearest neighbors of each sample.

        Parameters
        ----------
        X : float32 array of shape (n_samples, ...)
            All samples, in the units of X.

        Returns
        -------
        distances : sparse matrix of shape (n_samples, n_samples)
            Entry (i, j) is the distance from sample i to its neighbor j, in any unit,
            finite and not negative. An explicit 0 is a distance, too. The number of
            neighbors may differ between samples, but each sample needs at least one
            other than itself. The diagonal is ignored.
        """


def neighbor_graph(
    X, n_neighbors: int, *, weighted: bool, standardize: bool = True
) -> sparse.csr_matrix:
    """Compute the symmetric graph of the nearest neighbors of each sample.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features), or images
    n_neighbors : int
        Number of neighbors of each sample, at most n_samples - 1.
    weighted : bool
        Whether edges have the weights of `self_tuning_weights`. Otherwise they have
        weight 1.
    standardize : bool, default=True
        Whether to scale features to unit variance, unless most of them have the same
        range, such as pixels. Sparse features are always scaled.

    Returns
    -------
    graph : sparse matrix of shape (n_samples, n_samples)
    """
    from sklearn.neighbors import kneighbors_graph

    refuse_masked(X)
    if sparse.issparse(X):
        X = StandardScaler(with_mean=False).fit_transform(X.tocsr())
    else:
        with numbers_expected():
            X = np.asarray(to_numpy(X), dtype=np.float32)
        X = X.reshape(len(X), -1)
        if standardize and not has_common_unit(torch.from_numpy(X)):
            X = StandardScaler().fit_transform(X)
    n_neighbors = min(n_neighbors, X.shape[0] - 1)
    if weighted:
        return self_tuning_weights(kneighbors_graph(X, n_neighbors, mode="distance"))
    graph = kneighbors_graph(X, n_neighbors, mode="connectivity")
    return graph.maximum(graph.T)


def self_tuning_weights(distances: sparse.csr_matrix) -> sparse.csr_matrix:
    """Compute the weights of a symmetric graph from distances to nearest neighbors.

    The weight of an edge is exp(-d_ij^2 / (s_i s_j)), where s_i is the distance from
    sample i to its farthest neighbor. It is doubled if both samples are neighbors of
    each other.

    Parameters
    ----------
    distances : sparse matrix of shape (n_samples, n_samples)
        Distances to the neighbors of each sample. Each sample has at least one.

    Returns
    -------
    graph : sparse matrix of shape (n_samples, n_samples)

    References
    ----------
    L. Zelnik-Manor and P. Perona, "Self-Tuning Spectral Clustering", NIPS 2004.
    """
    scale = np.maximum.reduceat(distances.data, distances.indptr[:-1]).clip(1e-12)
    from_scale = np.repeat(scale, np.diff(distances.indptr))
    squares = distances.data**2 / (from_scale * scale[distances.indices])
    # Without the maximum, an outlier would have edges of weight 0.
    weights = np.exp(-squares.clip(max=30))
    indices = distances.indices, distances.indptr
    graph = sparse.csr_matrix((weights, *indices), shape=distances.shape)
    graph = graph + graph.T
    # Sums over neighbors then do not depend on the order of the entries.
    graph.sort_indices()
    return graph


def search_neighbors(
    search: NeighborSearch, source: Source, n_samples: int, shape: tuple[int, ...]
) -> sparse.csr_matrix:
    """Find the neighbors of all samples by a search, and check its distances.

    Returns
    -------
    distances : sparse matrix of shape (n_samples, n_samples)
        Distances without the diagonal, divided by the largest one. This keeps their
        squares finite and does not change the weights of the edges.

    Raises
    ------
    ValueError
        If the search does not return what `NeighborSearch` describes.
    """
    batches = source.stream(chunks(range(n_samples), shape))
    # Only one batch at a time is on the device. The search may change the copy.
    found = search(torch.cat([x.cpu() for x in batches]).numpy())
    returned = f"neighbors={search!r} returned"
    form = n_samples, n_samples
    if not sparse.issparse(found) or found.shape != form:
        raise ValueError(
            f"{returned} {_described(found)} for {n_samples} samples. A NeighborSearch "
            f"must return a sparse matrix of shape {form}, such as scikit-learn's "
            "kneighbors_graph(X, 10, mode='distance')."
        )
    entries = found.tocoo()
    is_edge = entries.row != entries.col
    start, end = entries.row[is_edge], entries.col[is_edge]
    values = entries.data[is_edge].astype(float)
    if not (values >= 0).all() or np.isinf(values).any():
        raise ValueError(
            f"{returned} negative, NaN or infinite distances. They must be finite and "
            "not negative."
        )
    n_found = np.bincount(start, minlength=n_samples)
    if not n_found.all():
        raise ValueError(
            f"{returned} no neighbor of sample {n_found.argmin()}. Each sample needs "
            "at least one neighbor other than itself."
        )
    values /= values.max() or 1.0
    return sparse.csr_matrix((values, (start, end)), shape=form)


def reduced_features(
    features: FeatureFunction,
    source: Source,
    n_samples: int,
    shape: tuple[int, ...],
    n_components: int = 128,
    n_fit: int = 10_000,
) -> Tensor:
    """Compute the features of all samples, reduced by PCA if there are many.

    The features are centered and divided by their largest absolute value, so that their
    squares neither overflow nor underflow in float32. This does not change the
    neighbors.

    Parameters
    ----------
    features : FeatureFunction
    source : Source
    n_samples : int
    shape : tuple of int
        Shape of a sample.
    n_components : int, default=128
        Largest number of features that are kept.
    n_fit : int, default=10_000
        Largest number of samples to which the PCA is fitted. They are evenly spaced.

    Returns
    -------
    features : float32 Tensor of shape (n_samples, n_features)
        Features on the CPU.
    """
    index = np.linspace(0, n_samples - 1, min(n_samples, n_fit)).astype(int)
    some = torch.cat(list(_feature_batches(features, source, chunks(index, shape))))
    center = some.double().mean(dim=0)
    unit = (some - center).abs().max()
    unit = torch.where(unit > 0, unit, 1.0)

    def scaled(x: Tensor) -> Tensor:
        return ((x - center) / unit).float()

    some = scaled(some)
    rotation = None
    if some.shape[1] > n_components and some.any():
        from sklearn.decomposition import PCA

        pca = PCA(min(n_components, len(some)), random_state=0).fit(some.numpy())
        rotation = torch.from_numpy(pca.components_.T)

    def reduced(x: Tensor) -> Tensor:
        return x if rotation is None else x @ rotation

    if n_samples == len(index):
        return reduced(some)
    indices = chunks(np.arange(n_samples), shape)
    batches = _feature_batches(features, source, indices)
    return torch.cat([reduced(scaled(x)) for x in batches])


@torch.no_grad()
def _feature_batches(
    features: FeatureFunction, source: Source, indices: list[np.ndarray]
) -> Iterator[Tensor]:
    """Compute features batch by batch, and check them."""
    function: Callable[[Tensor], Tensor] = features
    if isinstance(features, nn.Module):
        function = deepcopy(features).eval()
    # An index array, unlike a range, makes a copy, which the function may change.
    for x in source.stream(indices):
        n_samples, shape = len(x), tuple(x.shape)
        if isinstance(function, nn.Module):
            function.to(x.device)
        made = function(x)
        if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != n_samples:
            raise ValueError(
                f"features={features!r} returned {_described(made)} for a batch of "
                f"shape {shape}. A FeatureFunction must return a Tensor of shape "
                "(n_samples, n_features)."
            )
        made = made.detach().float().cpu()
        if not made.isfinite().all():
            raise ValueError(
                f"features={features!r} returned NaN or infinite values, or values "
                "beyond the range of float32. Features must be finite float32 values."
            )
        yield made


def _described(value) -> str:
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    return f"a {kind}" if shape is None else f"a {kind} of shape {tuple(shape)}"
