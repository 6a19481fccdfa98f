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
from ..data._sources import Source, chunks, moments
from ..views._table import has_common_unit

# sklearn.neighbors, sklearn.decomposition and the optional faiss are imported inside of
# functions, since at the top they would make the import of this package much slower.

# Largest number of samples of the exact search, whose time is quadratic. faiss is not
# used below it, so that results do not depend on whether it is installed.
_EXACT_SAMPLES = 100_000


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

    See `nearest_distances` for the search.

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
    refuse_masked(X)
    if sparse.issparse(X):
        X = StandardScaler(with_mean=False).fit_transform(X.tocsr())
    else:
        with numbers_expected(X):
            X = np.asarray(to_numpy(X), dtype=np.float32)
        X = X.reshape(len(X), -1)
        if standardize and not has_common_unit(torch.from_numpy(X)):
            X = StandardScaler().fit_transform(X)
    distances = nearest_distances(X, min(n_neighbors, X.shape[0] - 1))
    if weighted:
        return self_tuning_weights(distances)
    distances.data[:] = 1.0
    return distances.maximum(distances.T)


def load_faiss() -> Any:
    """Return the optional module faiss, or None if it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def can_search(n_samples: int) -> bool:
    """Whether the neighbors of that many samples can be found in reasonable time."""
    return n_samples <= _EXACT_SAMPLES or load_faiss() is not None


def nearest_distances(X, n_neighbors: int) -> sparse.csr_matrix:
    """Find the nearest neighbors of each sample by the Euclidean distance.

    The search is exact up to 100,000 samples, and also for more if faiss is not
    installed or X is sparse. Otherwise it is approximate, see `approximate_distances`.

    Parameters
    ----------
    X : float array or sparse matrix of shape (n_samples, n_features)
    n_neighbors : int
        Number of neighbors of each sample, less than n_samples.

    Returns
    -------
    distances : sparse matrix of shape (n_samples, n_samples)
        Distances to the neighbors, without the diagonal.
    """
    n_samples, n_features = X.shape
    if n_samples > _EXACT_SAMPLES and not sparse.issparse(X) and load_faiss():
        return approximate_distances(X, n_neighbors)
    from sklearn.neighbors import NearestNeighbors

    # A k-d tree, which "auto" chooses for up to 15 features, can take several times as
    # long as all pairs if the features are independent of each other.
    is_large = n_samples > 10_000 and n_features > 10
    search = NearestNeighbors(
        n_neighbors=n_neighbors, algorithm="brute" if is_large else "auto"
    )
    return search.fit(X).kneighbors_graph(mode="distance")


def approximate_distances(
    X: np.ndarray,
    n_neighbors: int,
    n_links: int = 32,
    n_candidates: tuple[int, int] = (40, 64),
) -> sparse.csr_matrix:
    """Find nearest neighbors by hierarchical navigable small worlds (HNSW) [1]_.

    Time is about linear in the number of samples, and a few of the neighbors found are
    not the nearest ones. The result is the same each time. It needs faiss [2]_.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
    n_neighbors : int
        Number of neighbors of each sample, less than n_samples.
    n_links : int, default=32
        Links of each sample in the index (M).
    n_candidates : tuple of int, default=(40, 64)
        Candidates that are kept while links and neighbors are searched
        (efConstruction and efSearch). More of them find more of the nearest samples.

    Returns
    -------
    distances : sparse matrix of shape (n_samples, n_samples)
        Distances to the neighbors, without the diagonal.

    References
    ----------
    .. [1] Y. A. Malkov and D. A. Yashunin, "Efficient and Robust Approximate Nearest
       Neighbor Search Using Hierarchical Navigable Small World Graphs", IEEE
       Transactions on Pattern Analysis and Machine Intelligence 42, 2020.
    .. [2] M. Douze et al., "The Faiss Library", arXiv:2401.08281, 2024.
    """
    faiss = load_faiss()
    n_samples, n_features = X.shape
    # faiss computes in float32, in which squares of large values would overflow.
    unit = float(np.abs(X).max()) or 1.0
    scaled = np.ascontiguousarray(X / unit, dtype=np.float32)
    index = faiss.IndexHNSWFlat(n_features, n_links)
    index.hnsw.efConstruction, index.hnsw.efSearch = n_candidates
    n_threads = faiss.omp_get_max_threads()
    # The links depend on the order in which samples are added, which would be random
    # with several threads. The search does not change the index.
    faiss.omp_set_num_threads(1)
    try:
        index.add(scaled)
    finally:
        faiss.omp_set_num_threads(n_threads)
    # One more, since a sample is found, too. Among many equal samples it may not be.
    squares, found = index.search(scaled, n_neighbors + 1)
    # If the index has small components, -1 stands for neighbors that were not found.
    incomplete = np.flatnonzero((found < 0).any(axis=1))
    if len(incomplete):
        exact = faiss.knn(scaled[incomplete], scaled, n_neighbors + 1)
        squares[incomplete], found[incomplete] = exact
    is_neighbor = found != np.arange(n_samples)[:, None]
    is_neighbor[is_neighbor.all(axis=1), -1] = False
    distances = unit * np.sqrt(squares[is_neighbor].astype(float))
    indptr = np.arange(n_samples + 1) * n_neighbors
    return sparse.csr_matrix(
        (distances, found[is_neighbor], indptr), shape=(n_samples, n_samples)
    )


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


def standardization(
    source: Source, n_samples: int, shape: tuple[int, ...]
) -> FeatureFunction:
    """Return the scaling of a table in `neighbor_graph`, as a function of a batch.

    X is read batch by batch, for tables that are too large to be copied.

    Parameters
    ----------
    source : Source
    n_samples : int
    shape : tuple of int
        Shape of a sample, (n_features,).
    """
    batches = source.stream(chunks(range(n_samples), shape))
    ranges = [torch.stack([x.amin(dim=0), x.amax(dim=0)]).cpu() for x in batches]
    if has_common_unit(torch.cat(ranges)):
        return lambda x: x
    center, deviation = moments(source, n_samples, shape)
    scale = torch.where(deviation > 0, 1 / deviation, 1.0)
    return lambda x: (x - center) * scale


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
    center = some.mean(dim=0, dtype=torch.float64)
    low, high = some.amin(dim=0), some.amax(dim=0)
    unit = torch.maximum(center - low, high - center).max()
    unit = torch.where(unit > 0, unit, 1.0)

    def scaled(x: Tensor) -> Tensor:
        return ((x - center) / unit).float()

    # In parts, since they are float64 in between.
    some = torch.cat([scaled(x) for x in some.split(1024)])
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
