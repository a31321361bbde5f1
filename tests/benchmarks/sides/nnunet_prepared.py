"""Leaves nnU-Net's preprocessed folder as its planner and preprocessor would; no rounds."""

from __future__ import annotations

from pathlib import Path

import nnunet_plans
from served import arguments, serve

told = arguments()
nnunet_plans.use(Path(told["scratch"]))
plan = nnunet_plans.plans(told["spacing"][::-1], told["patch"], told["filters"])
nnunet_plans.preprocess(Path(told["scratch"]), Path(told["raw"]), told["names"], plan)
serve(lambda: None)
