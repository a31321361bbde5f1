"""What all pages have in common: the frame ``base.html``, style, script, figures and words.

A page is a template that extends ``base.html`` and is rendered by :func:`experiments.pages.render.render`: one file
without any outside reference, whose only script is the one whose hash its policy names. ``parts.html`` has the pieces,
``plots`` and ``svg`` draw figures that follow the page's colours, ``words`` writes numbers.
"""
