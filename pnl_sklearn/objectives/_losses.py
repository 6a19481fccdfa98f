"""Losses of one student step: tensors in, scalar out, computed in float32.

Every function takes logits, accepts any floating dtype, is finite for any finite
logits (no ``log(0)``) and returns 0 for an empty batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def negative_learning_loss(logits: Tensor, negatives: Tensor) -> Tensor:
    """Mean over samples of the mean of -log(1 - p_k) over their negative labels.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    negatives : bool Tensor of shape (n_samples, n_classes)
        True where the class is a (pseudo-)negative label of the sample. The loss of a
        sample without any is 0.

    Returns
    -------
    loss : float32 Tensor of shape ()

    References
    ----------
    Y. Kim et al., "NLNL: Negative Learning for Noisy Labels", ICCV 2019, eq. 2;
    H. Xu et al., "Semi-Supervised Learning with Pseudo-Negative Labels for Image
    Classification", Knowledge-Based Systems 260, 2023.
    """
    per_class = -_log_not(logits.float()).masked_fill(~negatives, 0.0)
    n_negatives = negatives.sum(dim=1).clamp(min=1)
    return _mean(per_class.sum(dim=1) / n_negatives)


def candidate_loss(logits: Tensor, negatives: Tensor) -> Tensor:
    """Mean over samples of -log of the summed probability of the candidate classes.

    The candidates of a sample are the classes that are not negative: the loss says "the
    class is one of these". It is the cross-entropy where one candidate is left, and 0
    where no class is negative.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    negatives : bool Tensor of shape (n_samples, n_classes)
        True where the class is a (pseudo-)negative label of the sample; at least one
        class of every sample is not.

    Returns
    -------
    loss : float32 Tensor of shape ()

    References
    ----------
    R. Jin and Z. Ghahramani, "Learning with Multiple Labels", NIPS 2002.
    """
    logits = logits.float()
    candidates = logits.masked_fill(negatives, -torch.inf)
    return _mean(logits.logsumexp(dim=1) - candidates.logsumexp(dim=1))


def balance_loss(
    logits: Tensor, prior: Tensor, running_mean: Tensor | None = None
) -> Tensor:
    """Kullback-Leibler divergence KL(prior || mean prediction), in nats.

    It regularizes the mean prediction towards the class prior. The mean of one batch is
    noisy; a running mean over batches is less so. The gradient with respect to the
    batch is taken as if the running mean were the mean of the batch.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    prior : Tensor of shape (n_classes,)
        Class prior; sums to 1.
    running_mean : Tensor of shape (n_classes,), default=None
        Mean prediction over this and earlier batches. None takes that of this batch.
        Entries are clipped at 0.001 / n_classes.

    Returns
    -------
    loss : float32 Tensor of shape ()
    """
    if not len(logits):
        return logits.float().sum()
    batch_mean = logits.float().softmax(dim=1).mean(dim=0)
    mean = batch_mean if running_mean is None else running_mean
    mean = mean.detach().clamp_min(1e-3 / len(prior))
    mean = mean + (batch_mean - batch_mean.detach())
    return (torch.xlogy(prior, prior) - torch.xlogy(prior, mean)).sum()


def consistency_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean squared difference between predictions and their targets.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    targets : Tensor of shape (n_terms, n_samples, n_classes)
        Target probabilities, without gradient.
    weights : Tensor of shape (n_terms, n_samples)
        Weight of each sample in each term.

    Returns
    -------
    loss : float32 Tensor of shape ()
        Sum over terms of the mean over samples of weight times the mean over classes
        of the squared difference.

    References
    ----------
    A. Tarvainen and H. Valpola, "Mean teachers are better role models", NIPS 2017.
    """
    difference = logits.float().softmax(dim=1) - targets.detach()
    return _mean((weights * difference.square().mean(dim=2)).sum(dim=0))


def supervised_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean over samples of weight times cross-entropy.

    Parameters
    ----------
    logits : Tensor of shape (n_samples, n_classes)
        Scores of the student before the softmax.
    labels : int64 Tensor of shape (n_samples,)
        Class codes.
    weights : float Tensor of shape (n_samples,)
        Weight of each sample.

    Returns
    -------
    loss : float32 Tensor of shape ()
    """
    return _mean(weights * F.cross_entropy(logits.float(), labels, reduction="none"))


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(len(values), 1)


def _log_not(logits: Tensor) -> Tensor:
    """log(1 - softmax(logits)), exact where a probability rounds to 1.

    Only the largest probability of a sample can exceed one half; its complement is the
    sum of all the others, which logsumexp gives without cancellation.
    """
    largest = torch.zeros_like(logits, dtype=torch.bool)
    largest.scatter_(1, logits.argmax(dim=1, keepdim=True), True)
    log_sum = logits.logsumexp(dim=1, keepdim=True)
    rest = logits.masked_fill(largest, -torch.inf).logsumexp(dim=1, keepdim=True)
    # The filled-in 0 keeps log1p, and so its gradient, finite where it is not used.
    others = torch.log1p(-(logits - log_sum).exp().masked_fill(largest, 0.0))
    return torch.where(largest, rest - log_sum, others)
