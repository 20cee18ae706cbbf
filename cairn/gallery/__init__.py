"""An index that grows without retraining: photos added and removed, kept in a gallery, published as versions."""
