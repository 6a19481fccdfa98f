"""Warnings that are issued by this package."""


class UnlabeledDataWarning(UserWarning):
    """Warning that unlabeled data may lower the accuracy.

    :func:`~pnl_sklearn.inspection.check_unlabeled` issues it before a fit, if an
    assumption about the unlabeled data seems to be violated.
    :class:`~pnl_sklearn.PNLClassifier` issues it after a fit, if hardly any unlabeled
    sample is predicted to be of some class (class collapse), or if neighbors predict
    held-out labels worse than a linear classifier.
    """
