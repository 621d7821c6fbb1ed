"""What a step shows to whom: what is drawn (masks, ratios, pairs, augmentation), and what is then made of a batch."""
