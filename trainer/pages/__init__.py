"""One page for a run: everything a person asks before trusting a model, in one file."""

from trainer.pages.page import write_page

__all__ = ["write_page"]
