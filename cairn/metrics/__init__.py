"""How good the answers are: pure functions of numpy arrays, one concept a file. They know nothing of the pipeline."""
