"""Studies: methods × seeds × sources × folds, computed cell by cell, and their table.

``config`` reads a study, ``settings`` says when two cells are the same, ``cells`` lays out what is to be computed,
``records`` keeps what is done, ``finished`` finds it in run folders, ``workers`` and ``run`` compute what is missing.
"""
