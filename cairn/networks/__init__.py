"""The networks: an embedder (backbone, pooling, neck) and what is laid over it in training."""
