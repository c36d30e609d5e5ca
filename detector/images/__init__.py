"""Images and videos from files: the one reader that training, evaluation and detection share."""
