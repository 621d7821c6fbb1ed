"""Settings that are saved with a model: what all their classes have in common."""

import copy
import dataclasses
from typing import Any, Self

import keras


class Settings:
    """A frozen dataclass whose configuration is its fields; functions and objects in them are saved as Keras saves them."""

    def get_config(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        return {name: keras.saving.serialize_keras_object(value) for name, value in values.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = copy.deepcopy(config)  # Keras empties what it deserializes
        return cls(**{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()})
