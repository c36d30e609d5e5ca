"""The paper's experiment: a variant is a change to a model's config, run by the detector itself."""
