"""Warnings of this package."""


class UnlabeledDataWarning(UserWarning):
    """The unlabeled data may lower the accuracy, or a fit lost a class with them.

    Issued by :func:`~pnl_sklearn.inspection.check_unlabeled` before a fit, and by the
    fit of a :class:`~pnl_sklearn.PNLClassifier` that predicts a class (almost) never.
    """
