"""The smallest search that can show a fault: 16 digits, networks of seconds. Scripts use it too."""

import tiny

from mixmo_keras import datasets, search

TRAIN, VALIDATION = datasets.load("digits", "train").take(16), datasets.load("digits", "validation").take(64)
SPACE = search.Space(num_members=(1, 2), widths=(1, 2), weight_roots=(2.0, 3.0))


def backbone(width: int):
    return tiny.backbone((8, 8, 1), channels=2 * width)


def hypermodel(build=search.MixMoHyperModel, space=SPACE, **options):
    common = dict(num_classes=10, input_shape=(8, 8, 1), rows=16, augmentation=None)
    return build(backbone, space=space, **{**common, **options})
