"""What watches a run: checkpoints, records, per-case evaluation, pictures."""
