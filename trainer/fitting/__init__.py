"""Fitting Keras models: one compiled loop an epoch, on what the machine has, safe from a kill."""
