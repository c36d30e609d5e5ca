"""The page of ``detector serve``, to try a model on."""
