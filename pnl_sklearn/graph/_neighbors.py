"""A graph of near neighbors, in features of rows."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import TypeVar, cast

import numpy as np
import torch
from scipy import sparse
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ..data._inputs import numbers_expected, refuse_masked, to_numpy
from ..data._sources import Source, chunks
from ..utils._parallel import parallel_map
from ..views._table import has_common_unit
from ._hog import Comparer

_Features = TypeVar("_Features", bound=Callable[[Tensor], Tensor])

# Near neighbors of each row.
N_NEIGHBORS = 10
# Of more features, so many principal components are kept, of so many rows at most.
_N_COMPONENTS, _N_SAMPLE = 128, 10_000
# Candidates for each near neighbor, where features have a distance of their own.
_N_CANDIDATES = 4
# Values that are compared at once: in each thread of a CPU, and elsewhere.
_N_COMPARED, _N_COMPARED_ELSEWHERE = 2**20, 2**25
# Less than any distance that is worth telling from 0.
_TINY = 1e-12


def feature_graph(
    features: Callable[[Tensor], Tensor],
    rows: Source,
    n_rows: int,
    shape: tuple[int, ...],
) -> sparse.csr_matrix:
    """Weighted graph of near neighbors in features, by their own distance if any."""
    return neighbor_graph(
        _features_of(features, rows, n_rows, shape),
        N_NEIGHBORS,
        weighted=True,
        standardize=False,
        distances=_comparison(features, rows, n_rows, shape),
    )


def _features_of(
    features: Callable[[Tensor], Tensor],
    rows: Source,
    n_rows: int,
    shape: tuple[int, ...],
) -> Tensor:
    """Make features of all rows; where these are many, principal components of them.

    They are centered and scaled as one, which changes no neighbor: so squares are
    neither infinite nor 0, and as exact as they can be.
    """
    sample = np.linspace(0, n_rows - 1, min(n_rows, _N_SAMPLE)).astype(int)
    made = torch.cat(list(_batches_of(features, rows, chunks(sample, shape))))
    origin = made.double().mean(dim=0)
    unit = (made - origin).abs().max()
    unit = torch.where(unit > 0, unit, 1.0)

    def scaled(x: Tensor) -> Tensor:
        return ((x - origin) / unit).float()

    made = scaled(made)
    rotation = None
    if made.shape[1] > _N_COMPONENTS and made.any():
        # Here, as neighbors: to import both takes two thirds as long as this package.
        from sklearn.decomposition import PCA

        n_kept = min(_N_COMPONENTS, len(made))
        components = PCA(n_kept, random_state=0).fit(made.numpy()).components_
        rotation = torch.from_numpy(components.T)

    def reduced(x: Tensor) -> Tensor:
        return x if rotation is None else x @ rotation

    if n_rows == len(sample):
        return reduced(made)
    del made
    indices = chunks(np.arange(n_rows), shape)
    made_of_all = _batches_of(features, rows, indices)
    return torch.cat([reduced(scaled(x)) for x in made_of_all])


@torch.no_grad()
def _batches_of(
    features: Callable[[Tensor], Tensor], rows: Source, indices: list[np.ndarray]
) -> Iterator[Tensor]:
    """Make features batch by batch, and refuse what cannot be some."""
    features = _in_evaluation(features)
    # By arrays, which make copies: what is given may be written to.
    for x in rows.stream(indices):
        n_rows, shape = len(x), tuple(x.shape)
        made = _on_device(features, x)(x)
        if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != n_rows:
            found = tuple(getattr(made, "shape", ())) or type(made).__name__
            raise ValueError(
                f"graph_features={features!r} makes {found} of a batch of shape "
                f"{shape}. It has to make a Tensor of shape (n_rows, n_features)."
            )
        made = made.detach().float().cpu()
        if not made.isfinite().all():
            raise ValueError(
                f"graph_features={features!r} makes NaN or infinite values, or what is "
                "so in float32."
            )
        yield made


def _in_evaluation(features: _Features) -> _Features:
    """Return a module's copy in evaluation mode; all else as it is."""
    if isinstance(features, nn.Module):
        return deepcopy(features).eval()
    return features


def _on_device(features: _Features, x: Tensor) -> _Features:
    """Return what is a module on the device of x."""
    return features.to(x.device) if isinstance(features, nn.Module) else features


def _comparison(
    features: Callable[[Tensor], Tensor],
    rows: Source,
    n_rows: int,
    shape: tuple[int, ...],
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return a function from each row's candidates, (n_rows, k), to their distances.

    None where the features have no distance of their own.
    """
    if not all(callable(getattr(features, n, None)) for n in ("parts", "distances")):
        return None
    comparer = cast(Comparer, _in_evaluation(features))

    def distances(candidates: np.ndarray) -> np.ndarray:
        parts = _parts_of(comparer, rows, n_rows, shape)
        _on_device(comparer, parts[0])
        on_cpu = parts[0].device.type == "cpu"
        n_values = candidates.shape[1] * sum(part[0].numel() for part in parts)
        limit = _N_COMPARED if on_cpu else _N_COMPARED_ELSEWHERE
        size = max(1, limit // max(1, n_values))
        found = np.empty(candidates.shape)

        @torch.no_grad()
        def compare(start: int) -> None:
            at = slice(start, start + size)
            near = torch.from_numpy(candidates[at]).long().to(parts[0].device)
            ones, others = ([part[i] for part in parts] for i in (at, near))
            made = comparer.distances(ones, others)
            if not isinstance(made, Tensor) or made.shape != near.shape:
                shape = tuple(getattr(made, "shape", ())) or type(made).__name__
                raise ValueError(
                    f"graph_features={features!r} has distances {shape} of rows and "
                    f"others of shape {tuple(near.shape)}. They have to be a Tensor of "
                    "that shape."
                )
            found[at] = made.cpu().double()

        starts = range(0, n_rows, size)
        if on_cpu:
            parallel_map(compare, starts)
        else:
            for start in starts:
                compare(start)
        if not (found >= 0).all() or np.isinf(found).any():
            raise ValueError(
                f"graph_features={features!r} has negative, NaN or infinite distances."
            )
        return found

    return distances


@torch.no_grad()
def _parts_of(
    comparer: Comparer, rows: Source, n_rows: int, shape: tuple[int, ...]
) -> list[Tensor]:
    """Make parts of all rows, and refuse what cannot be some."""
    parts: list[Tensor] = []
    start = 0
    for x in rows.stream(chunks(np.arange(n_rows), shape)):
        n = len(x)
        made = _on_device(comparer, x).parts(x)
        is_list = isinstance(made, list | tuple) and len(made) > 0
        lengths = {tuple(getattr(part, "shape", ()))[:1] for part in made}
        if not is_list or lengths != {(n,)}:
            raise ValueError(
                f"The parts that graph_features={comparer!r} makes have to be a list "
                f"of Tensors, each of as many rows as the batch, here {n}."
            )
        if not parts:
            parts = [part.new_empty((n_rows, *part.shape[1:])) for part in made]
        for part, of_batch in zip(parts, made, strict=True):
            part[start : start + n] = of_batch
        start += n
    return parts


def neighbor_graph(
    X,
    n_neighbors: int,
    *,
    weighted: bool,
    standardize: bool = True,
    distances: Callable[[np.ndarray], np.ndarray] | None = None,
) -> sparse.csr_matrix:
    """Symmetric graph of near neighbors, of less weight the farther they are.

    Distances d are in standard deviations of each column, or in the units of X where
    most columns span the same range, or where this is not to `standardize`; those of
    sparse rows always in standard deviations. Weights are exp(-d^2 / (s t)), with the
    distances s and t from both rows to their last neighbor, as in L. Zelnik-Manor and
    P. Perona, "Self-Tuning Spectral Clustering", NIPS 2004; twice that of two rows that
    are near neighbors of each other. A graph that is not `weighted` has ones. Where
    other `distances` are given, for a weighted one, the neighbors are the nearest by
    these of four times as many nearest rows.
    """
    from sklearn.neighbors import kneighbors_graph

    refuse_masked(X)
    if sparse.issparse(X):
        rows = StandardScaler(with_mean=False).fit_transform(X.tocsr())
    else:
        with numbers_expected():
            rows = np.asarray(to_numpy(X), dtype=np.float32)
        rows = rows.reshape(len(rows), -1)
        if standardize and not has_common_unit(torch.from_numpy(rows)):
            rows = StandardScaler().fit_transform(rows)
    n_neighbors = min(n_neighbors, rows.shape[0] - 1)
    mode = "distance" if weighted else "connectivity"
    if distances is None:
        graph = kneighbors_graph(rows, n_neighbors, mode=mode)
    else:
        n_candidates = min(_N_CANDIDATES * n_neighbors, rows.shape[0] - 1)
        graph = kneighbors_graph(rows, n_candidates, mode=mode)
        graph = _nearest(graph, distances, n_neighbors)
    if weighted:
        last = graph.max(axis=1).toarray().ravel().clip(_TINY)
        here, there = np.repeat(last, n_neighbors), last[graph.indices]
        # Even a row that is far from all others has neighbors.
        graph.data = np.exp(-(graph.data**2 / (here * there)).clip(max=30))
    return graph + graph.T if weighted else graph.maximum(graph.T)


def _nearest(
    graph: sparse.csr_matrix,
    distances: Callable[[np.ndarray], np.ndarray],
    n_neighbors: int,
) -> sparse.csr_matrix:
    """Keep of each row's neighbors those of the least distance, with this distance.

    It is in units of the largest, which changes no weight, so that squares are finite.
    """
    n_rows = graph.shape[0]
    candidates = graph.indices.reshape(n_rows, -1)
    found = distances(candidates)
    found = found / (found.max() or 1.0)
    order = np.argsort(found, axis=1, kind="stable")[:, :n_neighbors]
    kept, values = (np.take_along_axis(a, order, 1) for a in (candidates, found))
    ends = np.arange(0, kept.size + 1, n_neighbors)
    return sparse.csr_matrix((values.ravel(), kept.ravel(), ends), shape=graph.shape)
