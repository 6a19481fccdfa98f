"""Nearest neighbors of handwriting, by a distance that allows strokes to bend.

``GraphPosterior(neighbors=DeformableNeighbors(deskew=True))`` takes the place of the
Euclidean distance of HOG features, which only selects the candidates.
"""

from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import kneighbors_graph
from torch import Tensor
from torch.nn import functional as F

from pnl_sklearn.graph import HOG
from pnl_sklearn.graph._hog import deskewed, image_gradients
from pnl_sklearn.utils._parallel import limit_threads


@dataclass(frozen=True)
class DeformableNeighbors:
    """Nearest neighbors by an image distortion model, among candidates of HOG features.

    The distance is the geometric mean of two: of gradients in their context of 3 x 3
    pixels, with displacements of up to a fourteenth of the image's side (one pixel at
    least); and of HOG histograms, with displacements of one block. Each is the root of
    a sum of squares. Images larger than `max_side` are reduced before gradients are
    computed, which are in units of the largest of the image.

    Parameters
    ----------
    n_orientations, n_cells, deskew
        As of :class:`pnl_sklearn.graph.HOG`.
    n_neighbors : int, default=10
        Neighbors of each image.
    n_candidates : int, default=40
        Images that are compared with each, the nearest by HOG features.
    n_components : int, default=128
        To which PCA reduces the HOG features. It is fitted to 10,000 images at most.
    max_side : int, default=32
        Pixels.
    device : str or None, default=None
        None: "cuda" if there is one, otherwise the CPU, with all threads of torch.

    References
    ----------
    D. Keysers, T. Deselaers, C. Gollan and H. Ney, "Deformation Models for Image
    Recognition", TPAMI 2007.
    """

    n_orientations: int = 12
    n_cells: int = 10
    deskew: bool = False
    n_neighbors: int = 10
    n_candidates: int = 40
    n_components: int = 128
    max_side: int = 32
    device: str | None = None

    def __call__(self, X: np.ndarray) -> sparse.csr_matrix:
        """Return the distances to the nearest neighbors of each image.

        Parameters
        ----------
        X : float32 array of shape (n_samples, channels, height, width)

        Returns
        -------
        distances : sparse matrix of shape (n_samples, n_samples)
        """
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        chunks = torch.from_numpy(X).split(500)
        described = [self._descriptors(x.to(device)) for x in chunks]
        gradients, histograms = map(torch.cat, zip(*described, strict=True))
        candidates = self._candidates(histograms.flatten(1).cpu().numpy())
        distances = self._distances(gradients, histograms.half(), candidates)
        order = np.argsort(distances, axis=1, kind="stable")[:, : self.n_neighbors]
        indices, data = (
            np.take_along_axis(values, order, 1) for values in (candidates, distances)
        )
        indptr = np.arange(0, indices.size + 1, indices.shape[1])
        entries = data.ravel(), indices.ravel(), indptr
        return sparse.csr_matrix(entries, shape=(len(X), len(X)))

    def _descriptors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients (n, 2, h, w) and histograms (n, n_orientations, k, k) of images."""
        if self.deskew:
            x = deskewed(x)
        histograms = HOG(self.n_orientations, self.n_cells)(x)
        n_blocks = self.n_cells - 1
        factor = min(1, self.max_side / max(x.shape[2:]))
        size = [max(1, round(factor * side)) for side in x.shape[2:]]
        gradients = image_gradients(F.adaptive_avg_pool2d(x, size))
        largest = gradients.abs().amax(dim=(1, 2, 3), keepdim=True)
        gradients = gradients / largest.clamp_min(torch.finfo(x.dtype).tiny)
        return gradients.half(), histograms.unflatten(1, (-1, n_blocks, n_blocks))

    def _candidates(self, features: np.ndarray) -> np.ndarray:
        """Indices of the nearest others by HOG features, (n_samples, n_candidates)."""
        n_samples, n_features = features.shape
        if n_features > self.n_components:
            sample = np.linspace(0, n_samples - 1, min(n_samples, 10_000)).astype(int)
            n_components = min(self.n_components, len(sample))
            pca = PCA(n_components, random_state=0).fit(features[sample])
            features = pca.transform(features)
        n_candidates = min(self.n_candidates, n_samples - 1)
        graph = kneighbors_graph(features, n_candidates, mode="distance")
        return graph.indices.reshape(n_samples, -1)

    @torch.no_grad()
    def _distances(
        self, gradients: Tensor, histograms: Tensor, candidates: np.ndarray
    ) -> np.ndarray:
        """Distances from each image to its candidates, (n_samples, n_candidates)."""
        is_cpu = gradients.device.type == "cpu"
        n_values = gradients[0].numel() + histograms[0].numel()
        limit = 2**20 if is_cpu else 2**25
        size = max(1, limit // (n_values * candidates.shape[1]))
        distances = np.empty(candidates.shape)

        def compare(start: int) -> None:
            at = slice(start, start + size)
            near = torch.from_numpy(candidates[at]).long().to(gradients.device)
            found = image_distances(
                (gradients[at], histograms[at]), (gradients[near], histograms[near])
            )
            distances[at] = found.cpu().double()

        starts = range(0, len(candidates), size)
        if is_cpu:
            with limit_threads(1) as n_threads:
                parallel = Parallel(n_threads, prefer="threads")
                parallel(delayed(compare)(start) for start in starts)
        else:
            for start in starts:
                compare(start)
        return distances


def image_distances(
    images: tuple[Tensor, Tensor], candidates: tuple[Tensor, Tensor]
) -> Tensor:
    """Distances from n images to k candidates each, of their descriptors.

    Parameters
    ----------
    images : tuple of Tensor
        Gradients and histograms, of shapes (n, channels, height, width).
    candidates : tuple of Tensor
        Those of the candidates, of shapes (n, k, channels, height, width).

    Returns
    -------
    distances : float32 Tensor of shape (n, k)
    """
    reach = [max(1, round(side / 14)) for side in images[0].shape[-2:]]
    of_gradients = distortion(images[0], candidates[0], reach, in_context=True)
    of_histograms = distortion(images[1], candidates[1], [1, 1])
    return (of_gradients * of_histograms).sqrt()


def distortion(
    x: Tensor, candidates: Tensor, reach: list[int], in_context: bool = False
) -> Tensor:
    """Root of the sum over positions of the least squared difference within reach.

    Each position of the image is compared with those of the candidate that are
    displaced by up to `reach`; 0 stands beyond the border. In context the squares are
    summed over 3 x 3 positions, which are displaced together.
    """
    down, across = reach
    height, width = x.shape[-2:]
    x = x.float()[:, None]
    candidates = F.pad(candidates.float(), (across, across, down, down))
    least = torch.full((), torch.inf, device=x.device)
    for i in range(2 * down + 1):
        for j in range(2 * across + 1):
            displaced = candidates[..., i : i + height, j : j + width]
            squares = (x - displaced).square_().sum(dim=2)
            if in_context:
                squares = _sum_of_three(_sum_of_three(squares, -2), -1)
            least = torch.minimum(squares, least)
    return least.sum(dim=(-2, -1)).sqrt()


def _sum_of_three(x: Tensor, dim: int) -> Tensor:
    """Sum each value and the two adjacent ones along a dimension."""
    n = x.shape[dim]
    total = x.clone()
    total.narrow(dim, 1, n - 1).add_(x.narrow(dim, 0, n - 1))
    total.narrow(dim, 0, n - 1).add_(x.narrow(dim, 1, n - 1))
    return total
