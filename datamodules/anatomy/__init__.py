"""Procedural anatomy: implicit shapes of the abdomen's organs, painted in HU on a grid in patient millimetres.

Patient coordinates are RAS in mm (x to the right, y to the front, z upwards) with the origin in the middle of the
first lumbar vertebra's body. All geometry is drawn in millimetres from keyed random streams, so that another grid
shows the same patient.
"""
