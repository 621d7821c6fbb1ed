"""What is computed: from images to the members' logits. Encoders, mixing block, core, heads."""
