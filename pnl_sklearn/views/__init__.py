"""Weak and strong views of a batch, with parameters drawn for each sample.

A view is any callable that maps a float32 batch, on its device and in the units of X,
to a batch of the same shape.
"""

from ._adversarial import AdversarialView
from ._auto import auto_views
from ._base import StudentView, View
from ._image import ImageView
from ._randaugment import RandAugmentView
from ._table import NeighborView, TableView

__all__ = [
    "AdversarialView",
    "ImageView",
    "NeighborView",
    "RandAugmentView",
    "StudentView",
    "TableView",
    "View",
    "auto_views",
]
