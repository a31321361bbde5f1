"""What each tissue measures in HU, by contrast phase.

The three columns of `PHASES` are the portal venous phase (about 70 s), the pancreatic phase (about 40 s) and no
contrast. They are round values inside the ranges of:

- pancreas: 40-50 HU native, less where fat has infiltrated it (Kim et al., Radiology 271:104, 2014); about
  110-120 HU in the pancreatic phase and less in the portal one (McNulty et al., Radiology 220:97, 2001; Lu et
  al., Radiology 199:697, 1996; 108 HU in an early spiral CT phase against 86: PubMed 7626748).
- tumour: below the pancreas by 60 ± 25 HU in the pancreatic and by 41 ± 23 HU in the portal phase (PubMed
  17961951); isoattenuating in 11 % (Prokesch et al., Radiology 224:764, 2002).
- liver and spleen: native 55-65 and 45-55 HU (Kodama et al., AJR 188:1307, 2007); the liver above 100 HU in the
  portal phase and little enhanced in the late arterial one (Foley et al., AJR 175:679, 2000).
- vessels: arteries and portal veins are brightest in the pancreatic phase (Lu et al., 1996); arteries near 250
  HU there (Kim et al., J Korean Radiol Soc 42:959, 2000).
- fat: -190 to -30 HU, near -100: Yoshizumi et al., Radiology 211:283 (1999).
- muscle: near 50 HU native: Aubrey et al., Acta Physiol 210:489 (2014); spongy bone of L1: 100-200 HU:
  Pickhardt et al., Ann Intern Med 158:588 (2013).
"""

from __future__ import annotations

import numpy as np

PHASES: dict[str, tuple[float, float, float]] = {
    "pancreas": (101.0, 118.0, 42.0),
    "tumour": (58.0, 58.0, 36.0),
    "cyst": (12.0, 12.0, 10.0),
    "liver": (110.0, 76.0, 58.0),
    "spleen": (122.0, 128.0, 49.0),
    "cortex": (185.0, 180.0, 34.0),
    "medulla": (165.0, 85.0, 30.0),
    "gut": (77.0, 94.0, 38.0),
    "mucosa": (90.0, 108.0, 38.0),
    "adrenal": (75.0, 85.0, 28.0),
    "aorta": (155.0, 300.0, 42.0),
    "cava": (135.0, 90.0, 40.0),
    "portal": (165.0, 150.0, 41.0),
    "muscle": (62.0, 58.0, 51.0),
    "heart": (140.0, 240.0, 42.0),
    "fluid": (14.0, 14.0, 12.0),
    "chyme": (38.0, 38.0, 36.0),
    "bile": (8.0, 8.0, 8.0),
    "disc": (85.0, 82.0, 75.0),
}
"""HU by tissue: portal venous phase, pancreatic phase, native."""

FAT = -102.0
SUBCUTANEOUS = -106.0
SKIN = 10.0
AIR = -1000.0
GAS = -920.0
LUNG = -840.0
SPONGY = 165.0
CORTICAL = 430.0
RIB = 330.0
CORD = 28.0


def draw_tissue(generator: np.random.Generator, phase: float) -> dict[str, float]:
    """The HU of a patient's tissues.

    Args:
        generator: draws how strongly this patient enhances and how its tissues differ from the mean.
        phase: 0 the portal venous phase, 0.5 the pancreatic one, 1 no contrast; in between a mixture.
    """
    strength = float(np.clip(generator.normal(1.0, 0.09), 0.78, 1.22))
    tissue = {}
    for name, anchors in PHASES.items():
        mean = float(np.interp(phase, (0.0, 0.5, 1.0), anchors))
        native = anchors[2]
        tissue[name] = native + strength * (mean - native) + float(np.clip(generator.normal(0.0, 3.0), -7, 7))
    return tissue
