"""Training: which photos, how changed, in which order, how fast, and how it resumes."""
