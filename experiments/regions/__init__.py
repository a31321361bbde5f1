"""``python -m experiments.regions``: a picture of the regions that the contrast compares, on a label of one's own."""
