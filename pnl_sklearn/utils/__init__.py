"""What several rooms share: processes, threads, pipelines."""
