"""How weights change: what a step minimises, the step of each backend, schedules, checkpoints, several devices."""
