"""Where in an image could objects be? Usable and measurable without a classifier."""
