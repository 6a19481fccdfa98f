"""What two rooms share: several processes, threads, pipelines."""
