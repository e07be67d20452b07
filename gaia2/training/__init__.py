"""The pieces of a training loop that recipes share."""
