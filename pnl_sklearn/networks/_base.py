"""What the estimator may ask of a network."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class ResettableHead(Protocol):
    """A network whose last layer can be initialized anew.

    ``PNLClassifier(module=network)`` copies the network for both submodels. If it has
    this method, each copy calls it, so that two copies of a pretrained network differ.
    """

    def reset_head(self) -> None:
        """Draw the weights of the last layer anew."""
