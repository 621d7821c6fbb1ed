"""MixMo: one network that is an ensemble of M members (Ramé, Sun, Cord, ICCV 2021)."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from mixmo_keras import keras_internals, multiplexing, seeds
from mixmo_keras.common import arguments
from mixmo_keras.mixing import augmentation
from mixmo_keras.mixing import batch as batches
from mixmo_keras.mixing.batch import Batch, Batching, Draw
from mixmo_keras.models import changes, saving, settings
from mixmo_keras.models.drawing import drawing
from mixmo_keras.models.ensemble import Ensemble
from mixmo_keras.networks import backbones, network
from mixmo_keras.networks.backbones.split import split_for
from mixmo_keras.networks.copying import dtype_policy
from mixmo_keras.networks.normalization import checked as checked_normalization
from mixmo_keras.networks.stochastic_depth import DropPath
from mixmo_keras.networks.temperature import Temperature
from mixmo_keras.tasks import Task, resolve
from mixmo_keras.training import compiling, data_checks, distribution, incidents, schedules, steps
from mixmo_keras.training.checkpoints import Skipping
from mixmo_keras.training.co_training import CoTraining
from mixmo_keras.training.fine_tuning import FineTuning
from mixmo_keras.training.lookahead import Lookahead
from mixmo_keras.training.objective import L2, Objective, flatten_members
from mixmo_keras.training.optimizers import default_optimizer
from mixmo_keras.training.progress import Clock
from mixmo_keras.training.sharpness import SAM


@keras.saving.register_keras_serializable("mixmo_keras")
class MixMo(Ensemble):
    """A network for images that is an ensemble of M members: M encoders, a mixing block, a core, M heads.

    In training every member is shown an image of its own and predicts its label; at inference all are shown the same
    image and their predictions are averaged. Ready to `fit`: compiled with the papers' optimizer and schedule.

    The methods of the papers, `CutMixMo`, `LinearMixMo`, `MIMO`, `SingleNetwork` and `CoSub`, make one of flat keywords.

    Args:
        backbone: A name such as `"wrn28_10"`; or a `backbones.Backbone`, or a functional Keras model, which is split behind
            its first convolution (`backbones.split` splits elsewhere). Of these the model takes a copy: the core with its
            weights, pretrained ones too, the encoders freshly initialised.
        num_classes: K ≥ 2, short for `task=tasks.Classification(K)`. Defaults to CIFAR-100's 100 where `task` is left out.
        input_shape: (H, W, C) of the images. Defaults to that of the named network's paper, such as CIFAR's (32, 32, 3), or
            to the `Backbone`'s own.
        num_members: M, from 1 to 1,000.
        task: What is predicted, a task of `mixmo_keras.tasks`. Defaults to `num_classes` classes.
        share: What members have in common. `"encoders"`, `"heads"` or `"both"`: all use one, ablations of the paper;
            `"both"` is one network whose features are mixed, manifold MixUp or CutMix. `"fan_in"`: encoders begin as one
            convolution over the channels of all M images, as in MIMO's code, with kernels 1/√M times as large. Defaults to
            nothing.
        encoder_noise: For a backbone whose encoder is one pretrained convolution: every member begins with its weights,
            divided by M, and disturbed by noise of this many times their standard deviation, such as 0.1, so that members
            can part; the noise of all sums to zero. Defaults to encoders that are initialised anew.
        batching: What a training step shows to whom: repetitions, augmentation, mixing, MSDA. A `Batching`.
        drop_path: Stochastic depth of a named backbone, a `DropPath` or a rate. Defaults to none.
        co_training: Whether two random submodels of the network learn from each other (cosub): a step's rows pass twice.
            A `CoTraining`; needs a backbone with stochastic depth. Defaults to one pass.
        l2: L2 regularisation of the weights, an `L2`.
        normalization: (mean, standard deviation) of pixels in [0, 1], numbers or one for each channel. Defaults to
            `"auto"`: CIFAR's for three channels, (0.5, 0.5) otherwise. `None` turns normalisation off.
        averaging: `"logits"` or `"probabilities"`, what the ensemble averages. Either way `model(images)` returns logits.
            Defaults to the task's, of classes logits.
        temperature: T, by which the ensemble's logits are divided at inference; `calibrate` fits it.
        temperature_applies_to: Whether T divides the `"ensemble"`'s logits or the `"members"`' before they are pooled.
        multiplexed_temperature: T of `predict_multiplexed`, by which M different images are answered in a pass: heads that
            answer for mixed features are otherwise sure of themselves. `calibrate` fits it too.
        synchronized_batch_norm: Whether batch norm takes its statistics over the rows of all replicas of a `tf.distribute`
            strategy, where few rows a replica make its own too noisy. XLA is off then.
        schedule: The learning rate of the default optimizer. Defaults to MixMo's on CIFAR for 64 images a batch.
        seed: Integer from which initial weights and all draws of training follow. Defaults to a random one.
        dtype: A dtype or policy, such as `"mixed_bfloat16"`. Defaults to Keras' global policy, or the `Backbone`'s own.
        name: Of the model.

    Call arguments:
        images: (n, H, W, C), raw pixels from 0 to 255, any numeric dtype.

    Returns:
        The ensemble's logits (n, K): their softmax is the prediction.

    Raises:
        ValueError: an argument is out of range, or has no meaning beside the others.

    Example:

    ```python
    model = mixmo_keras.MixMo("wrn28_10", num_classes=100, batching=Batching(repetitions=2, mixing=Mixing("patchup")))
    model.fit(train, validation_data=validation, epochs=300)
    ```
    """

    def __init__(
        self,
        backbone: str | backbones.Backbone | keras.Model = "wrn28_10",
        num_classes: int | None = None,
        input_shape: tuple[int, int, int] | None = None,
        num_members: int = 2,
        *,
        task: Task | None = None,
        share: str | None = None,
        encoder_noise: float | None = None,
        batching: Batching = Batching(),
        drop_path: DropPath | float = DropPath(),
        co_training: CoTraining | None = None,
        l2: L2 = L2(),
        normalization: tuple | str | None = "auto",
        averaging: str | None = None,
        temperature: float = 1.0,
        temperature_applies_to: str = "ensemble",
        multiplexed_temperature: float = 1.0,
        synchronized_batch_norm: bool = False,
        schedule: schedules.ProgressSchedule | None = None,
        seed: int | None = None,
        dtype=None,
        name: str | None = None,
    ):
        num_members = arguments.integer("num_members", num_members, least=1, most=1000)
        task = resolve(task, num_classes, default=100)
        settings.check(batching, co_training, l2, schedule, num_members, task)
        if isinstance(backbone, keras.Model):
            backbone = split_for(backbone, None, input_shape, encoder_noise)
        seed, drop_path = seeds.resolve(seed), DropPath.of(drop_path)
        of_network: dict[str, Any] = dict(
            share=share, encoder_noise=encoder_noise, normalization=checked_normalization(normalization)
        )
        with dtype_policy(backbones.policy(dtype, backbone)):
            parts = backbones.get(backbone, input_shape, seed, drop_path)
            settings.check_parts(parts, batching, co_training)
            of_training: dict[str, Any] = dict(
                synchronized_batch_norm=synchronized_batch_norm, seed=seed, copy_core=parts is backbone
            )
            layers = network.build(parts, num_members, task.heads, make_core=task.core, **of_network, **of_training)
            average = task.pooling(averaging, temperature, temperature_applies_to)
            super().__init__(inputs=layers.images, outputs=average(layers.member_outputs), name=name)
            self.clock, self.incidents = Clock(name="clock"), incidents.Incidents(name="incidents")
            self.temperature_of_multiplexed = Temperature(multiplexed_temperature, name="multiplexed_temperature")
        self.normalize, self.encoders, self.mixing_block = layers.normalize, layers.encoders, layers.mixing_block
        self.core, self.heads, self.average = layers.core, layers.heads, average
        self._member_logits = layers.member_outputs
        self.num_members, self.task, self.image_shape = num_members, task, parts.input_shape
        self.batching, self.co_training, self.l2 = batching, co_training, l2
        self.augment = batching.augment  # Keras finds layers among attributes
        self.trained_with_flips = augmentation.flips(self.augment)
        self.schedule = schedules.PUBLISHED["mixmo"].of() if schedule is None else schedule
        self.synchronized_batch_norm, self.seed = synchronized_batch_norm, seed
        self.expects_raw_pixels = normalization is not None or parts.preprocessing is not None
        self.steps_to_skip, self.core_frozen = 0, False  # of an epoch that goes on in its middle; in the first epochs
        input_shape = None if input_shape is None else tuple(input_shape)  # type: ignore[assignment]
        self.network_settings = dict(of_network, backbone=backbone, input_shape=input_shape, drop_path=drop_path)
        changes.remember(self)
        self.compile()

    # -- compiling, saving ---------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer=None,
        loss=None,
        metrics="auto",
        *,
        sharpness: SAM | None = None,
        average_from: float | None = None,
        fine_tuning: FineTuning | None = None,
        rates: Mapping[str, float] | None = None,
        lookahead: Lookahead | None = None,
        decay_kernels_only: bool = False,
        **options,
    ):
        """Configures training, as `keras.Model.compile`; what is left out stays the papers'.

        Args:
            optimizer: Defaults to SGD with Nesterov momentum 0.9 and the model's `schedule`: the papers' warm-up and step
                decay over `fit`'s epochs.
            loss: A Keras loss that returns one value a row. Defaults to the task's, of classes `losses.CrossEntropy()`.
            metrics: In training of each member on its own image, in validation of the ensemble. `"auto"` is the task's.
            sharpness: Whether a step looks uphill for its gradient, a `SAM`. Defaults to a plain step.
            average_from: Share of training after which an optimizer with `use_ema=True` averages the weights of all steps
                alike (stochastic weight averaging), such as 0.75, in place of its `ema_momentum`. Defaults to that.
                `SwapAveragedWeights` among the callbacks puts the average, statistics too, into the model.
            fine_tuning: For a core that was trained already: its share of the learning rate, and the epochs in which it is
                frozen. A `FineTuning`. Defaults to one rate for all.
            rates: Shares of the learning rate by name, such as `{"beta": 64.0}`: a weight whose path ends in it is updated,
                and decayed, by so many times the rate; by 0 it stays as it is. Defaults to one rate for all.
            lookahead: Whether weights are drawn back to a slow average of themselves, a `Lookahead`. Defaults to not.
            decay_kernels_only: Whether the optimizer's `weight_decay` is of kernels alone, as in DeiT's code: not of biases,
                scales, positions and tokens. Defaults to all weights.
            **options: The others of `keras.Model.compile`. `jit_compile="auto"` uses XLA where there is an accelerator.
        """
        if optimizer is None:
            optimizer = default_optimizer(self.schedule)
        if loss is None:
            loss = self.task.loss(None if self.co_training is None else self.co_training.teaching)
        loss = self.task.checked_loss(loss, self)
        if isinstance(metrics, str) and metrics == "auto":
            metrics = self.task.metrics()
        own = (sharpness, average_from, fine_tuning, rates, lookahead, decay_kernels_only)
        compiling.set_own(self, optimizer, *own)
        compiling.check(self, optimizer, options)
        keras_internals.forget_compiled_metrics(self)
        super().compile(optimizer=optimizer, loss=loss, metrics=compiling.listed(metrics), **options)
        compiling.prepare(self, options)

    def get_compile_config(self):
        config = super().get_compile_config()
        return config | saving.compile_config(self) if config else config

    def compile_from_config(self, config):
        config, weights = saving.options_of_compile(self, config)
        self.compile(**config)
        self.build_optimizer(weights)

    def build_optimizer(self, weights=()):
        """Creates the optimizer's variables, as the first step would: for some weights, or for all that are trained."""
        if self.compiled:
            with distribution.scope(self):
                if not self.optimizer.built:
                    self.optimizer.build(weights or self.trainable_variables)
                compiling.build_averages(self)

    def save(self, filepath, *args, **options):
        """Saves the model, as `keras.Model.save`; with the optimizer's state even before the first step."""
        self.build_optimizer()  # Keras would warn on loading that the file has none
        super().save(filepath, *args, **options)

    def load_weights(self, filepath, **options):
        """Loads weights, as `keras.Model.load_weights`, and the optimizer's state with them."""
        self.build_optimizer()  # Keras would warn that there is none to load into
        super().load_weights(filepath, **options)

    def get_config(self):
        return settings.config_of(self)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return settings.model_of(cls, config, custom_objects)

    # -- the training step: what `training.steps` asks of a model, in this order -----------------------------------------

    @property
    def step_counter(self):
        """The variable that counts training steps. `optimizer.iterations` counts updates: fewer, if gradients accumulate."""
        return keras_internals.step_counter(self.optimizer)

    def make_batch(self, data, seed: seeds.StepSeed, drawn: Draw | None = None) -> Batch:
        """What a step shows to whom: repeats, augments, pairs and mixes a batch of n images into B = n·b rows.

        Args:
            data: (images, targets) or (images, targets, sample weights) of n images: (n, H, W, C); (n, ...), of classes (n,)
                or (n, 1) integers or (n, K); (n,). Or with a dictionary in place of the images, see `mixing.batch.unpack`.
            seed: The step's seeds.
            drawn: What is random, if it shall not follow from `seed`: a test's own.
        """
        data = batches.unpack(data)
        data_checks.check_shapes(data.images, data.labels, self.image_shape, self.task, data.sample_weight)
        batches.check_partners(self.batching, data, self.num_members)
        if drawn is None:
            progress = self.clock.progress(seed.step)
            drawn = self.draw(ops.shape(data.images)[0], seed, progress, data.partner_images is not None)
        data = batches.in_common_types(batches.in_one_form(data, self.task))
        batch = batches.assemble(self.batching, data, drawn, self.task)
        return batch if self.co_training is None else batch.twice()

    def draw(self, num_images, seed: seeds.StepSeed, progress=0.0, with_partners: bool = False) -> Draw:
        """All that is random in what a step shows, of so many images at a progress in [0, 1] of training."""
        feature_shape = self.encoders.encoders[0].output_shape[1:]
        shapes = (self.num_members, self.image_shape, feature_shape)
        return batches.draw(self.batching, seed, num_images, *shapes, progress, with_partners)

    def member_logits(self, images, masks=None, training=False):
        """Outputs of every member (B, M, ...), float32: of classes logits (B, M, K).

        Args:
            images: (B, M, H, W, C), an image for each member, or (B, H, W, C), the same for all.
            masks: (B, M, h, w, 1); `None` for 1/M each.
            training: Whether batch norm and others behave as in training.
        """
        features = self.encoders(self.normalize(images), training=training, stacked=False)
        logits = self.heads(self.core(self.mixing_block(features, masks), training=training))
        return ops.cast(logits, "float32")

    def finish_step(self, data, step, batch: Batch, aim: Objective, gradients) -> dict:
        """Notes bad data and a loss gone NaN, updates the metrics of the members on their own images, returns the logs.

        Args:
            data: As `make_batch` had it.
            step: The number of the training step.
            batch: Its rows.
            aim: What was minimised.
            gradients: Of the `trainable_weights`.
        """
        images, labels, weights, *_ = batches.unpack(data)
        loss = incidents.sound_loss(self, aim.loss, gradients)
        incidents.note(self, step, images, labels, weights, loss, self.batching.copies)
        rows, member_logits = flatten_members(batch.labels, aim.logits)
        weights = None if batch.sample_weight is None else ops.reshape(batch.sample_weight, (-1,))
        for metric in self.metrics:
            if keras_internals.is_loss_tracker(self, metric):
                metric.update_state(loss, sample_weight=ops.shape(aim.logits)[0])
        return self.compute_metrics(batch.images, rows, member_logits, weights)

    def train_step(self, *state_and_data):
        return steps.train_step(self, *state_and_data)

    def test_step(self, *state_and_data):
        state_and_data = steps.in_known_shapes(self, *state_and_data)
        if distribution.num_replicas(self) > 1:
            return steps.test_step(self, super().test_step, *state_and_data)
        return super().test_step(*state_and_data)

    def make_train_function(self, force=False):
        self.build_optimizer()  # XLA can't compile a first step that creates variables
        with compiling.replicas_apart(self):
            super().make_train_function(force)
        self.train_function = Skipping.of(self, self.train_function)

    def make_test_function(self, force=False):
        with compiling.replicas_apart(self):
            return super().make_test_function(force)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if not keras_internals.is_distributed(self):
            keras_internals.build_metrics(self, iterator, data_batch)
        elif iterator is not None:
            data_batch = steps.one_batch(self, iterator)
            with self.distribute_strategy.scope():
                keras_internals.build_symbolically(self, data_batch)
        else:
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    # -- several images a pass -------------------------------------------------------------------------------------------

    @property
    def multiplexed_temperature(self) -> float:
        """T by which the logits of `predict_multiplexed` are divided. A variable, as `temperature` is, fitted beside it."""
        return self.temperature_of_multiplexed.temperature

    @multiplexed_temperature.setter
    def multiplexed_temperature(self, value: float):
        self.temperature_of_multiplexed.temperature = value

    def count_params(self) -> int:
        return super().count_params() - len(self.temperature_of_multiplexed.weights)  # a scalar

    def predict_multiplexed(self, x, batch_size: int | None = None, seed: int | None = None) -> np.ndarray:
        """Logits (n, K) of n images, M of which share a pass: M times as fast as `predict`, and no ensemble.

        Image i sits in pass ⌊i/M⌋ as member i mod M, whatever batches images come in. If n leaves seats of the last pass
        free, the images of that pass sit there again, in turn, and their answers are averaged: of M = 3 seats, two images
        a and b take (a, b, a), and a single one takes all three, so that it is answered as by the ensemble. Features are
        mixed as at the ensemble's inference, in equal parts.

        An answer depends on who shares the pass; `evaluation.evaluate(..., multiplexed=True)` says how much.
        Images of different people should not share one where somebody could gain by changing another's answer.

        Args:
            x: Images (n, H, W, C), raw pixels; or a dataset of batches of them, or of (images, labels).
            batch_size: Number of images computed at once, rounded up to whole passes. Defaults to 32 passes.
            seed: Draws who sits with whom: images are permuted before they are seated, and answers put back. Of data that
                are sorted by class, neighbours are no random partners. Permuted are as many images at a time as make
                256 MB in float32. Defaults to the order in which images come.

        Raises:
            ValueError: the model has one member, shared heads or encoders, or was never shown different images (ρ = 1); no
                image, images of another shape, or not finite: the others in their passes would suffer too.

        Warns:
            UserWarning: half of the training rows or more showed all members the same image (ρ ≥ 0.5), or mixing always
                cut patches; or as `predict` does.
        """
        return multiplexing.predict(self, x, batch_size, seed)

    # -- for people ------------------------------------------------------------------------------------------------------

    def figure(self) -> str:
        """Encoders, mixing block, core and heads as a drawing in text."""
        return drawing(self)

    def summary(self, line_length=None, positions=None, print_fn=None, **options):
        """Prints the three parts as a figure, then Keras' table of layers."""
        (print_fn or print)(self.figure())
        super().summary(line_length=line_length, positions=positions, print_fn=print_fn, **options)
