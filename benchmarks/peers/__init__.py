"""What a user would pick instead, at equal sizes: models of other packages with random weights."""
