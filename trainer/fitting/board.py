"""Curves for TensorBoard. They are written without the tensorboard package; it shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.fitting.how import History


class Board:
    """Writes scalars by epoch to a folder; `tensorboard --logdir` shows it."""

    def __init__(self, folder: Path) -> None:
        self._writer: Any = tf.summary.create_file_writer(str(folder))
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        self._metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)

    def write(self, epoch: int, history: History, rate: float) -> None:
        """Write the last values of a history, and the learning rate."""
        scalars = {"loss/train": history.loss[-1], "learning rate": rate}
        scalars["seconds"] = history.seconds[-1]
        if history.valid:
            scalars["loss/valid"] = history.valid[-1]
        with self._writer.as_default():
            for tag, value in scalars.items():
                tf.summary.write(tag, tf.constant(value), step=epoch, metadata=self._metadata)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
