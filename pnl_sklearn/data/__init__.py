"""What `fit` is given, checked and cut into batches."""
