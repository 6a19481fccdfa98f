"""Evidence of the labels for a linear classifier and for neighbors."""

from ._evidence import Evidence

__all__ = ["Evidence"]
