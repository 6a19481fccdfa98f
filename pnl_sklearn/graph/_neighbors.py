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

# sklearn.neighbors and sklearn.decomposition are imported inside the functions that use
# them: at the top they would make the import of this package slower by two thirds.


class FeatureFunction(Protocol):
    """Features of samples, in which those of a class are near each other.

    Such as :class:`~pnl_sklearn.graph.HOG`, or the embedding of a pretrained network. A
    torch module is called in evaluation mode, on the device of the batch.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features of a batch, without gradient.

        Parameters
        ----------
        x : float32 Tensor of shape (n_samples, ...)
            In the units of X. It may be changed in place.

        Returns
        -------
        features : Tensor of shape (n_samples, n_features)
            Finite values. The distance of two samples is the Euclidean one.
        """


class NeighborSearch(Protocol):
    """Search for the nearest neighbors of samples, by any distance.

    Such as ``KNeighborsTransformer(mode="distance").fit_transform`` of scikit-learn, or
    an approximate search that returns the same matrix.
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
            In row i the distances from sample i to its neighbors, in any unit, finite
            and not negative. An explicit 0 is a distance, too. The rows may have
            different numbers of entries, but one at least off the diagonal, which is
            ignored.
        """


def neighbor_graph(
    X, n_neighbors: int, *, weighted: bool, standardize: bool = True
) -> sparse.csr_matrix:
    """Symmetric graph of the nearest neighbors of each sample.

    Parameters
    ----------
    X : array-like or sparse matrix of shape (n_samples, n_features), or images
    n_neighbors : int
        Of fewer samples all others are neighbors.
    weighted : bool
        If True, edges have the weights of `self_tuning_weights`, otherwise 1.
    standardize : bool, default=True
        Whether to scale features to unit variance, unless most of them span the same
        range, as pixels do. Sparse features are always scaled.

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
    """Turn distances to nearest neighbors into weights of a symmetric graph.

    The weight of an edge is exp(-d_ij^2 / (s_i s_j)), with the distance s_i from sample
    i to its farthest neighbor. It counts twice if both samples are neighbors of each
    other.

    Parameters
    ----------
    distances : sparse matrix of shape (n_samples, n_samples)
        Distances to the neighbors of each sample, one neighbor at least.

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
    # The limit leaves some weight to the neighbors of a sample far from all others.
    weights = np.exp(-squares.clip(max=30))
    indices = distances.indices, distances.indptr
    graph = sparse.csr_matrix((weights, *indices), shape=distances.shape)
    graph = graph + graph.T
    # So that sums over neighbors do not depend on the order in which they were found.
    graph.sort_indices()
    return graph


def search_neighbors(
    search: NeighborSearch, source: Source, n_samples: int, shape: tuple[int, ...]
) -> sparse.csr_matrix:
    """Call a search on all samples, and check and clean the distances it returns.

    Returns
    -------
    distances : sparse matrix of shape (n_samples, n_samples)
        Without diagonal. They are divided by the largest, which changes no weight, so
        that their squares are finite.

    Raises
    ------
    ValueError
        If the search does not return what `NeighborSearch` describes.
    """
    batches = source.stream(chunks(range(n_samples), shape))
    # On the device of one batch at a time; torch.cat copies, so the search may write.
    found = search(torch.cat([x.cpu() for x in batches]).numpy())
    returned = f"neighbors={search!r} returned"
    form = n_samples, n_samples
    if not sparse.issparse(found) or found.shape != form:
        raise ValueError(
            f"{returned} {_described(found)} for {n_samples} samples. A NeighborSearch "
            f"has to return a sparse matrix of shape {form}, such as kneighbors_graph("
            "X, 10, mode='distance') of scikit-learn."
        )
    entries = found.tocoo()
    is_edge = entries.row != entries.col
    start, end = entries.row[is_edge], entries.col[is_edge]
    values = entries.data[is_edge].astype(float)
    if not (values >= 0).all() or np.isinf(values).any():
        raise ValueError(f"{returned} negative, NaN or infinite distances.")
    n_found = np.bincount(start, minlength=n_samples)
    if not n_found.all():
        raise ValueError(
            f"{returned} no neighbor of sample {n_found.argmin()}. Each sample needs "
            "one at least, other than itself."
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
    """Features of all samples, reduced by PCA if there are many.

    They are centered and divided by their largest absolute value, which changes no
    neighbor, so that squares neither overflow nor vanish in float32.

    Parameters
    ----------
    features : FeatureFunction
    source : Source
    n_samples : int
    shape : tuple of int
        Of a sample.
    n_components : int, default=128
        Features that are left, if there are more.
    n_fit : int, default=10_000
        Samples that the PCA is fitted to, at most, at even distances.

    Returns
    -------
    features : float32 Tensor of shape (n_samples, n_features), on the CPU
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
    """Call a feature function batch by batch, and check what it returns."""
    function: Callable[[Tensor], Tensor] = features
    if isinstance(features, nn.Module):
        function = deepcopy(features).eval()
    # An index that is an array, not a range, makes a copy, which may be changed.
    for x in source.stream(indices):
        n_samples, shape = len(x), tuple(x.shape)
        if isinstance(function, nn.Module):
            function.to(x.device)
        made = function(x)
        if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != n_samples:
            raise ValueError(
                f"features={features!r} returned {_described(made)} for a batch of "
                f"shape {shape}. A FeatureFunction has to return a Tensor of shape "
                "(n_samples, n_features)."
            )
        made = made.detach().float().cpu()
        if not made.isfinite().all():
            raise ValueError(
                f"features={features!r} returned NaN or infinite values, or values "
                "beyond the range of float32."
            )
        yield made


def _described(value) -> str:
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    return f"a {kind}" if shape is None else f"a {kind} of shape {tuple(shape)}"
