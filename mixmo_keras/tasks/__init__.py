"""What is predicted of an image, as one object: `MixMo(..., task=tasks.Classification(10))`."""

from mixmo_keras.common import arguments
from mixmo_keras.tasks.classification import Classification
from mixmo_keras.tasks.multi_label import Binary, LabelCrossEntropy, MultiLabel
from mixmo_keras.tasks.regression import GaussianNegativeLogLikelihood, Regression, SquaredError
from mixmo_keras.tasks.segmentation import PixelCrossEntropy, Segmentation
from mixmo_keras.tasks.task import Task

BY_NAME: dict[str, type[Task]] = {
    kind.name: kind for kind in (Classification, Binary, MultiLabel, Regression, Segmentation)
}

__all__ = [
    "BY_NAME",
    "Binary",
    "Classification",
    "GaussianNegativeLogLikelihood",
    "LabelCrossEntropy",
    "MultiLabel",
    "PixelCrossEntropy",
    "Regression",
    "Segmentation",
    "SquaredError",
    "Task",
    "resolve",
]


def resolve(task: Task | None, num_classes: int | None, default: int | None = None) -> Task:
    """The task that a model is asked for.

    Args:
        task: A task, or `None` for classes.
        num_classes: K, short for `Classification(K)`; `None` for the task's.
        default: K where neither is given.

    Raises:
        ValueError: `task` is none, or is about something else than `num_classes`.
    """
    if task is None:
        return Classification(default if num_classes is None else num_classes)  # type: ignore[arg-type]
    arguments.instance("task", task, Task, "a task of mixmo_keras.tasks, such as tasks.Classification(10), or None")
    if num_classes is not None and task != Classification(num_classes):
        raise ValueError(
            f"`num_classes` (={num_classes}) is short for task=tasks.Classification({num_classes}), and `task` is {task}: "
            "leave one of the two out."
        )
    return task
