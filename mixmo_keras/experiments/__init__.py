"""One run from settings to report, and many: the engine of the recipes, the search, the pilot."""
