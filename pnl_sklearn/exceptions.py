"""Warnings of this package."""


class PoolWarning(UserWarning):
    """Unlabeled rows may mislead, or have misled."""
