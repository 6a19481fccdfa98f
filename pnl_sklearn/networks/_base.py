"""Interface of a network with a method that the estimator calls."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class ResettableHead(Protocol):
    """Network whose last layer can be initialized again.

    ``PNLClassifier(module=network)`` copies the network for both submodels. If the
    network has the method ``reset_head``, it is called for each copy. The two copies of
    a pretrained network then have different last layers.
    """

    def reset_head(self) -> None:
        """Initialize the last layer with random weights."""
