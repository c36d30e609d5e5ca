"""The verbs of the command line, one module each; whatever is heavy they import only when they run."""
