"""
Title: An ensemble in one network
Description: Train Cut-MixMo on handwritten digits, calibrate it, and know when not to trust it.
Accelerator: None
"""

"""
## Data

1,797 handwritten digits, 8×8 pixels. A tenth is held out to fit temperatures and thresholds, a fifth to test.
"""

import keras
import numpy as np

import mixmo_keras
from mixmo_keras import datasets, metrics, uncertainty

train = datasets.batches(datasets.load("digits", "train"), batch_size=16, training=True, seed=0)
validation, test = (datasets.batches(datasets.load("digits", name), 256) for name in ("validation", "test"))

"""
## One network, two members

Two encoders, a mixing block that cuts patches, one core, two heads. The drawing shows how an image and its label belong to a
member. A cosine schedule suits a short training; each image is shown twice a step, beside another partner.
"""

settings = dict(
    backbone="wrn10_2",
    num_classes=10,
    input_shape=(8, 8, 1),
    batch_repetitions=2,
    augmentation=mixmo_keras.augmentation.PadCropFlip(padding=1, flip=False),
    schedule=mixmo_keras.schedules.Cosine(0.05),
    seed=0,
)
model = mixmo_keras.CutMixMo(**settings)
print(model.figure())
model.fit(train, validation_data=validation, epochs=20, verbose=2)

"""
In training, accuracy is that of the members on their own, mixed images: a harder task than at inference, where all members
see the same whole image. So the validation accuracy is higher.

## The members and their ensemble
"""

members, labels = model.predict_with_labels(test)  # (n, M, K) logits
for member in range(2):
    print(f"member {member}: {metrics.accuracy(members[:, member], labels):.2%}")
print(f"ensemble: {metrics.accuracy(model.pooled(members), labels):.2%}")
print(f"the members disagree on {metrics.disagreement(members):.2%} of the images")

"""
## Calibrate

Mixing makes a network modest: its confidence is lower than its accuracy. One number, fitted on validation data, mends that.
It is saved and exported with the model.
"""

before = metrics.expected_calibration_error(model.pooled(members), labels)
temperature = model.calibrate(validation)
after = metrics.expected_calibration_error(model.pooled(members), labels)
print(f"temperature {temperature:.2f}: calibration error {before:.4f} before, {after:.4f} after")

"""
## Reject

Sorted by confidence, the errors are at the end.
"""

coverage, risk = metrics.risk_coverage(model.pooled(members), labels)
print(f"errors among all: {risk[-1]:.2%}; among the most confident 95 %: {risk[int(0.95 * len(risk)) - 1]:.2%}")

"""
## Detect

Turned by a quarter, most digits are no digits any more. The members notice: they disagree.
"""

images = np.concatenate([batch for batch, _ in test.as_numpy_iterator()])
turned = model.predict_members(np.rot90(images, axes=(1, 2)), verbose=0)
information = [np.asarray(uncertainty.mutual_information(logits)) for logits in (members, turned)]
found = metrics.detection(np.concatenate(information), np.arange(2 * len(images)) >= len(images))
print(f"turned digits are told from upright ones with AUROC {found['auroc']:.3f}")

"""
## Against one network of the same size
"""

single = mixmo_keras.SingleNetwork(**settings)
single.fit(train, validation_data=validation, epochs=20, verbose=0)
logits, _ = single.predict_with_labels(test)
print(f"single network: {metrics.accuracy(logits[:, 0], labels):.2%}")
print(f"parameters: {model.fused().count_params():,} fused, {single.count_params():,} single")

"""
Digits are too easy to rank the two: they differ by an image or two of 360, either way from seed to seed. Two members need
width and long training to pay (see Choosing M, width and r). What they give here is the members' disagreement.

## Save and serve
"""

model.save("digits.keras")
again = keras.models.load_model("digits.keras")
assert again.temperature == temperature
print("exported:", again.export("saved_models/tutorial", class_names=list("0123456789")))
