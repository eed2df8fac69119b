"""What is wrong with training data, row by row and in all."""
