"""Warnings of this package."""


class UnlabeledDataWarning(UserWarning):
    """Unlabeled rows may mislead, or have misled."""
