"""Input validation and batches.

`_inputs` checks X, `_targets` checks and encodes y, and `_training_data` combines them.
A source converts indices to batches. The sampler chooses the indices.
"""
