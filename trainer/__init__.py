"""The workstation: data sets, models, fitting, quantizing, calibrating, evaluating."""
