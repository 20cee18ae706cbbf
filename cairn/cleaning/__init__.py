"""Which photos are set aside, each for one reason, and how the others are stored. One file for each kind of reason."""
