"""Guardian: the guardian of a home network.

Data goes one way, a batch at a time:

    Frames -> Packets -> Conns -> Sequences -> Scores -> incidents -> store + publish

docs/data-model.md has the tables; docs/glossary.md has the terms.
"""

__version__ = "0.1.0"
