"""The paper's experiment: one ensemble measured in many variants, each picture looked at once."""
