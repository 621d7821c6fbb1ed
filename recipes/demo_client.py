"""What a client of demo.py's model does: asks a SavedModel what is on an image, with TensorFlow and without mixmo_keras.

The arguments are the SavedModel's folder, a file of one image as NumPy saves it, and what the image shows.
"""

import argparse
import sys


def main(folder: str, image_path: str, label: str) -> None:
    """Prints the ensemble's answer and the members'."""
    import numpy as np
    import tensorflow as tf

    signatures = tf.saved_model.load(folder).signatures
    images = tf.constant(np.load(image_path)[None], "float32")
    answer = signatures["serving_default"](images=images)
    members = signatures["members"](images=images)["member_probabilities"][0]
    name, confidence = answer["class_name"][0].numpy().decode(), float(answer["confidence"][0])
    print(f"a handwritten {label} is served as {name} with probability {confidence:.3f}", end="")
    print(f"; the members say {[int(np.argmax(member)) for member in members]}")
    if "mixmo_keras" in sys.modules:
        raise SystemExit("error: the SavedModel needed mixmo_keras")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("folder", "image_path", "label"):
        parser.add_argument(name)
    main(**vars(parser.parse_args()))
