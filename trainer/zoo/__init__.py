"""Every model by name: one small file a family. `family.REGISTRY` is the door."""
