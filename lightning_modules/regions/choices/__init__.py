"""How the high-uncertainty region M is chosen, by name: what scores the candidates.

B sample, D H W voxels, T stochastic passes.
"""
