"""What `fit` is given: checked, encoded, and cut into batches.

X goes through `_inputs`, y through `_targets`; `_training_data` puts them together. A
source turns indices into batches, and the sampler decides on the indices.
"""
