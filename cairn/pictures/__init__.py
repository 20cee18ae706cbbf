"""Charts and sheets of photos for people to look at: arrays and a path in, a PNG with the same bytes every time out."""
