"""The default loss. Any Keras loss that returns one value a row can take its place in `compile`."""

import functools
import warnings
from collections.abc import Callable

import keras
from keras import ops

from mixmo_keras.common import arguments, class_labels


@keras.saving.register_keras_serializable("mixmo_keras")
class CrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of logits with integer labels (n,) or (n, 1), or with one-hot or soft labels (n, K).

    Args:
        label_smoothing: ε ∈ [0, 1): the target keeps 1 − ε and the K classes share ε equally.
    """

    def __init__(self, label_smoothing: float = 0.0, name="cross_entropy", reduction="sum_over_batch_size", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.label_smoothing = arguments.number("label_smoothing", label_smoothing, least=0, below=1)

    def call(self, y_true, y_pred):
        num_classes = y_pred.shape[-1]
        y_true = self.shares(y_true, num_classes, y_pred.dtype)
        if self.label_smoothing:
            y_true = y_true * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        return self.values(y_true, y_pred)

    def shares(self, y_true, num_classes: int, dtype):
        """Returns labels of any form as (n, K), before they are smoothed."""
        return class_labels.as_shares(y_true, num_classes, dtype)

    def values(self, y_true, y_pred):
        """The loss of soft labels (n, K) and logits (n, K): (n,)."""
        return -ops.sum(y_true * ops.log_softmax(y_pred, axis=-1), axis=-1)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("mixmo_keras")
class SigmoidCrossEntropy(CrossEntropy):
    """Binary cross-entropy of each class' logit on its own, the mean over classes: the loss of cosub's code.

    Labels as in `CrossEntropy`.

    Args:
        label_smoothing: As in `CrossEntropy`, after `multi_hot`.
        multi_hot: Whether every class with a share of the label counts as a whole label, as in DeiT's code: an image that
            MixUp made of two classes has two ones.
    """

    def __init__(self, label_smoothing: float = 0.0, name="sigmoid_cross_entropy", multi_hot: bool = False, **options):
        super().__init__(label_smoothing, name=name, **options)
        self.multi_hot = arguments.boolean("multi_hot", multi_hot)

    def shares(self, y_true, num_classes: int, dtype):
        shares = super().shares(y_true, num_classes, dtype)
        return ops.cast(shares > 0, dtype) if self.multi_hot else shares

    def get_config(self):
        return {**super().get_config(), "multi_hot": self.multi_hot}

    def values(self, y_true, y_pred):
        return ops.mean(ops.binary_crossentropy(y_true, y_pred, from_logits=True), axis=-1)


# of other tasks than the choice of one class of K, which train all the same
OF_OTHER_TASKS = (
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "huber",
    "log_cosh",
    "cosine_similarity",
    "binary_crossentropy",
    "binary_focal_crossentropy",
)
_OF_TWO_CLASSES = (
    "is of one output and classes -1 and 1; keras.losses.CategoricalHinge() is the margin between K classes"
)
_OF_AREAS = "compares the areas of probabilities in a segmented image"
# of other tasks, and without a meaning for logits of K classes
_WITHOUT_MEANING = {
    "hinge": _OF_TWO_CLASSES,
    "squared_hinge": _OF_TWO_CLASSES,
    "dice": _OF_AREAS,
    "tversky": _OF_AREAS,
    "circle": "compares embeddings, not classes",
    "ctc": "is of sequences",
}
_OF_SHARES = (
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
)
OF_PROBABILITIES = (  # which take probabilities, unless from_logits=True
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "kl_divergence",
    "poisson",
)


def default(teaching: str | None = None, label_smoothing: float = 0.0) -> CrossEntropy:
    """Returns the loss that models are compiled with by default.

    Args:
        teaching: How the submodels of cosub teach each other, `"softmax"` or `"sigmoid"`. Defaults to no submodels.
        label_smoothing: Share of the label that is spread evenly over all classes, in [0, 1). Defaults to 0.
    """
    return SigmoidCrossEntropy(label_smoothing) if teaching == "sigmoid" else CrossEntropy(label_smoothing)


# by name, as recipes choose them
BY_NAME: dict[str, Callable[[float], CrossEntropy]] = {
    "softmax": CrossEntropy,
    "sigmoid": SigmoidCrossEntropy,
    "multi_hot": functools.partial(SigmoidCrossEntropy, multi_hot=True),
}


def name_of(loss) -> str:
    """The name of a loss function, or of the function that a loss object wraps; empty if it has none."""
    return getattr(getattr(loss, "fn", loss), "__name__", "")


def is_of_another_task(loss) -> bool:
    """Whether a loss is one of Keras' for something else than the choice of one class of K."""
    return name_of(loss) in (*OF_OTHER_TASKS, *_WITHOUT_MEANING)


def get(loss, soft_targets: bool = False):
    """Returns a loss for `compile`, after a check that it suits the model.

    Args:
        loss: A name, a function or an object, as `keras.losses.get` takes it. It must take logits and return a value a row.
        soft_targets: Whether it must take labels (n, K) too, as MSDA makes them. Defaults to no.

    Raises:
        ValueError: the loss expects probabilities, or labels of another kind, or has no meaning for classes.
    """
    loss = keras.losses.get(loss)
    if soft_targets and name_of(loss) == "sparse_categorical_crossentropy":
        raise ValueError(
            "MSDA makes soft labels, which a sparse loss can't take. Use the default loss, which takes integer labels "
            "too, or keras.losses.CategoricalCrossentropy(from_logits=True)."
        )
    of_logits = getattr(loss, "from_logits", None)
    if (name := name_of(loss)) in _WITHOUT_MEANING:
        raise ValueError(f"{name} {_WITHOUT_MEANING[name]}. Leave `loss` out for the cross-entropy of one class of K.")
    if of_logits is False or (of_logits is None and name in OF_PROBABILITIES):
        raise ValueError(
            f"The model returns logits and {getattr(loss, 'name', getattr(loss, '__name__', loss))} expects "
            "probabilities: pass the loss object with from_logits=True, or one that takes logits."
        )
    if name in OF_OTHER_TASKS:
        warnings.warn(
            f"{name} is a loss of another task: predictions, reports and exported models take the logits for those of one "
            "class of K, by a softmax. Leave `loss` out for its cross-entropy.",
            stacklevel=4,
        )
    return checked_reduction(loss)


def checked_reduction(loss):
    """A loss, after a check that Keras would take its mean over rows."""
    reduction = getattr(loss, "reduction", "sum_over_batch_size")
    if reduction not in ("sum_over_batch_size", "mean"):
        raise ValueError(f"The loss must have reduction='sum_over_batch_size', the mean over rows, got {reduction!r}.")
    return loss


def check_labels(loss, labels, num_classes: int) -> None:
    """Raises `ValueError` for labels in another form than a Keras loss takes: indices (n,), or rows (n, K)."""
    name, are_shares = name_of(loss), class_labels.are_shares(labels)
    if name == "sparse_categorical_crossentropy" and are_shares:
        raise ValueError(
            f"{name} expects integer labels (n,), got one-hot labels (n, {num_classes}). Leave `loss` out, the default "
            "takes both; or pass keras.losses.CategoricalCrossentropy(from_logits=True)."
        )
    if name in _OF_SHARES and not are_shares:
        raise ValueError(
            f"{name} expects one-hot labels (n, {num_classes}), got integer labels (n,). Leave `loss` out, the default "
            "takes both, as does mixmo_keras.losses.CrossEntropy(label_smoothing=0.1); or pass labels as "
            f"keras.utils.to_categorical(y, {num_classes})."
        )


def per_row(loss, targets, logits):
    """The value of a Keras loss (object or function) for each row: targets (n, ...) and logits (n, K) to (n,)."""
    check_labels(loss, targets, logits.shape[-1])
    values = loss.call(targets, logits) if isinstance(loss, keras.losses.Loss) else loss(targets, logits)
    if len(values.shape) != 1:
        name = getattr(loss, "name", getattr(loss, "__name__", loss))
        raise ValueError(
            f"The loss must return one value a row, shape (rows,), to be weighted by the mixing ratios; "
            f"{name} returned shape {tuple(values.shape)}."
        )
    return values
