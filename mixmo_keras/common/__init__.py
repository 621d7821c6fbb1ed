"""What every room may use, and what imports neither Keras nor TensorFlow."""
