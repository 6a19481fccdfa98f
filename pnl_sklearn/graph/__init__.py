"""Near neighbors, and what labels tell along their graph."""

from ._hog import HOG, Comparer, DeformableHOG

__all__ = ["HOG", "Comparer", "DeformableHOG"]
