"""What users hold: MixMo and its kin, deep ensembles, what every ensemble can do."""
