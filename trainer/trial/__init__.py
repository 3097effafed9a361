"""What a bundle is worth where it counts: by infected device, by benign day, by connection.

`guardian evaluate` runs it; docs/detection.md has its tables. From Python:

    from trainer.trial import judge_bundle, short
    print(short(judge_bundle(folder, data, only=("in place", "homes"))))
"""

from trainer.trial.course import judge_bundle
from trainer.trial.tables import short

__all__ = ["judge_bundle", "short"]
