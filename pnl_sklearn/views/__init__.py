"""Augmentations, called views: random changes of a sample that keep its class.

A view is any callable that maps a float32 batch, on its device and in the units of X,
to a batch of the same shape; see :class:`View`. Each sample gets its own random
parameters. A strong view may also use the student's predictions; see
:class:`StudentView`.

To add a view to this package, write a frozen dataclass whose fields are its strengths,
in a module of its own, and export it here. `auto_views` chooses the default views.
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
