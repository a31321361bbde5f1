"""A run's results as one self-contained page: ``evaluation/report.html``.

``collect`` reads the run folder into the typed ``model``; ``figures`` and ``overlays`` draw; ``words`` says in a
few sentences what was found; ``page`` puts it all into ``report.html``, ``overview`` draws its one picture for slides.
"""
