"""``pansite export``: a run as a MONAI bundle, which MONAI's own runner executes without Pansite."""
