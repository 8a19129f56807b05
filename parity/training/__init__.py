"""The training job: examples, batches, and the folder of a run."""
