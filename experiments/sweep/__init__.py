"""Sweeps: one file in W&B's own format, searched by W&B's agents, on this machine, or by a SLURM array."""
