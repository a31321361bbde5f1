"""The data card of an experiment's sites: what they hold, and how they differ from the source."""
