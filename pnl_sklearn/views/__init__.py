"""Augmentations, called views: random changes of a sample that keep its class.

A view is any callable that maps a float32 batch, on its device and in the units of X,
to a batch of the same shape; see :class:`View`. Each sample gets its own random
parameters. A strong view that uses the student's predictions has a second method; see
:class:`StudentView`.

To add a view, write a frozen dataclass with the strengths as fields, in a module of its
own, and export it here. For a view that is chosen by default, extend `auto_views`.
"""

from ._adversarial import AdversarialView
from ._auto import auto_views
from ._base import StudentView, View, identity
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
    "identity",
]
