"""A trained model behind a server: SavedModels, their signatures and their model cards. Needs TensorFlow."""
