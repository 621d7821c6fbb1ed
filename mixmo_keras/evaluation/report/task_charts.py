"""The sections of a report on another task than classes: the charts that the task gives as numbers, and images."""

import numpy as np

from mixmo_keras import tasks
from mixmo_keras.evaluation.by_task import TaskEvaluation
from mixmo_keras.evaluation.report.charts import Section, of_chart, training_section
from mixmo_keras.evaluation.summary import Run


def sections(evaluation: TaskEvaluation, run: Run) -> list[Section]:
    """The sections of a report, in order."""
    task, pictures = tasks.BY_NAME.get(evaluation.figures["task"]), evaluation.pictures
    how = "First what is true, then what it says." if pictures is None else pictures.caption
    return [
        *([] if task is None else training_section(run, task.watched)),
        *(of_chart(chart) for chart in evaluation.charts),
        Section(
            "Images of most doubt",
            f"The test images that it is least sure about. {how}",
            wide=True,
            images=doubtful_images,
            colors={} if pictures is None else pictures.colors,
        ),
    ]


def doubtful_images(evaluation: TaskEvaluation) -> tuple[np.ndarray, list[list[str]]]:
    """The images of most doubt, maps beside them, with what is true and what is predicted, and the names of their files."""
    names = evaluation.test_names
    lines = [
        [*in_words, *([] if names is None else [names[index]])]
        for index, in_words in zip(evaluation.doubtful, evaluation.in_words, strict=True)
    ]
    images = evaluation.doubtful_images
    if evaluation.pictures is not None:
        images = _side_by_side([np.broadcast_to(images, (*images.shape[:3], 3)), *evaluation.pictures.panels.values()])
    return images, lines


def _side_by_side(panels: list[np.ndarray]) -> np.ndarray:
    """Panels (n, H, W, 3) as strips (n, H, P·W + gaps, 3), with a gap between two."""
    gap = np.full((*panels[0].shape[:2], max(panels[0].shape[2] // 16, 1), 3), 255, "uint8")
    return np.concatenate([part for panel in panels for part in (gap, panel.astype("uint8"))][1:], axis=2)
