"""Evaluating a trained model: its figures, the report about them, corrupted images, suspicious labels, pictures."""

from mixmo_keras.evaluation import label_issues
from mixmo_keras.evaluation.by_task import TaskEvaluation
from mixmo_keras.evaluation.corruptions import corrupted_batches
from mixmo_keras.evaluation.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "TaskEvaluation", "corrupted_batches", "evaluate", "label_issues"]
