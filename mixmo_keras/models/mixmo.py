"""MixMo models: one network that is an ensemble of M members (Ramé, Sun, Cord, ICCV 2021)."""

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from mixmo_keras import seeds
from mixmo_keras.mixing import augmentation as augmentations
from mixmo_keras.mixing import mixing
from mixmo_keras.mixing import msda as msdas
from mixmo_keras.mixing.mixing import Mixing
from mixmo_keras.mixing.msda import MSDA
from mixmo_keras.models.ensemble import Ensemble, num_replicas, strategy_scope
from mixmo_keras.networks import backbones, network, stochastic_depth
from mixmo_keras.networks import normalization as normalizations
from mixmo_keras.networks.copying import dtype_policy
from mixmo_keras.networks.member_average import MemberAverage
from mixmo_keras.networks.stochastic_depth import DropPath
from mixmo_keras.training import co_training as cosub
from mixmo_keras.training import losses, schedules, steps
from mixmo_keras.training.checkpoints import Skipping
from mixmo_keras.training.monitor import Monitor, MonitorCallback, label_error

_logger = logging.getLogger(__name__)

LEARNING_RATE = 0.05  # for 64 images a batch; the papers' 0.1/(2b) at 64 rows, 64/b images, is the same rate an image


class Batch(NamedTuple):
    """The rows of one training step. B = n·b rows, M members, K classes."""

    images: Any  #          (B, M, H, W, C), augmented, under MSDA mixed with their partners
    labels: Any  #          (B, M) integers or (B, M, K), as they were given: what metrics see
    targets: Any  #         the labels, or under MSDA soft ones (B, M, K): what the loss sees
    sample_weight: Any  #   (B, M), or None
    masks: Any  #           (B, M, h, w, 1), or None
    weights: Any  #         (B, M), of the members' losses


@keras.saving.register_keras_serializable("mixmo_keras")
class MixMo(Ensemble):
    """An image classifier that is an ensemble of M members in one network: M encoders, a mixing block, a core, M heads.

    In training every member is shown an image of its own and predicts its label; at inference all are shown the same
    image and their predictions are averaged. Ready to `fit`: compiled with the papers' optimizer and schedule.

    Args:
        backbone: a name such as `"wrn28_10"`; or a `backbones.Backbone`, or a functional Keras model to split into one. Of
            these the model takes a copy: the core with its weights, pretrained ones too, the encoders freshly initialised.
        num_classes: K ≥ 2.
        input_shape: (H, W, C) of the images. `None`: that of the named network's paper, such as CIFAR's (32, 32, 3), or the
            `Backbone`'s own.
        split_at: name of the layer of a Keras model behind which members are mixed. `None`: the first convolution and what
            follows it directly. See `backbones.split`.
        encoder_noise: for a backbone whose encoder is one pretrained convolution: every member begins with its
            weights, divided by M so that the core sees features of the size it knows, and disturbed by noise of so many
            times their standard deviation, such as 0.1, so that members can part. `None`: encoders are initialised anew.
        num_members: M ≥ 1.
        mixing: how members are mixed in training; `None` sums their features and weighs them equally (MIMO).
        input_repetition: ρ in [0, 1], the share of rows that show the same image to all members (MIMO, section 4.2).
        msda: CutMix or MixUp inside each member's image: `"cutmix"`, `"mixup"`, an `MSDA`, or `None` for none.
        share_encoders: whether all members use one encoder; an ablation of the paper.
        share_heads: whether all members use one head; an ablation of the paper.
        drop_path: rate of stochastic depth in every block of a named backbone.
        efficient_drop_path: whether a block's branch is computed for the rows alone that keep it: always ⌊B·(1 − drop_path)⌋
            of them, which saves the others' compute, where by default each row is dropped on its own.
        co_training: λ in (0, 1], the labels' share of the loss where two random submodels of the network learn from each
            other (cosub): a step's rows pass twice, and each member is taught by its counterpart in the other pass. Needs a
            backbone with stochastic depth. `None` for one pass.
        teaching: how submodels teach, `"softmax"` (cosub's paper) or `"sigmoid"` (its code). With `"sigmoid"` the default
            loss is `losses.SigmoidCrossEntropy`.
        batch_repetitions: b, how often a step uses each image of a batch: n images make n·b rows, each with its own
            augmentation and partners.
        repeated_data: whether the batches come repeated already, all images and then all again, b times, as
            `datasets.batches(..., repetitions=b)` makes them to augment each copy on the CPU.
        augmentation: a layer `(images, seed) -> images` that augments each row on its own in training. `"pad_crop_flip"`
            is CIFAR's (`augmentation.PadCropFlip()`); `None` for none.
        normalization: (mean, standard deviation) of pixels in [0, 1], numbers or one for each channel. `"auto"`: CIFAR's
            for three channels, (0.5, 0.5) otherwise. `None` turns normalisation off: images are taken as they are.
        averaging: `"logits"` or `"probabilities"`, what the ensemble averages. Either way `model(images)` returns logits.
        temperature: T, by which the ensemble's logits are divided at inference; `calibrate` fits it.
        tempering: whether T divides the `"ensemble"`'s logits or the `"members"`' before they are pooled.
        l2: λ of L2 regularisation λ·Σ‖W‖² over all trainable weights, added to the gradient as 2λW; not in the loss shown.
        l2_normalization: whether L2 covers the scales and shifts of normalisation layers too, as in MixMo.
        synchronized_batch_norm: whether batch norm takes its statistics over the rows of all replicas of a `tf.distribute`
            strategy, where few rows a replica make its own too noisy. XLA is off then.
        schedule: the learning rate of the default optimizer. `None`: MixMo's on CIFAR for 64 images a batch,
            `schedules.StepDecay(0.05)`.
        seed: integer from which initial weights and all draws of training follow. `None`: a random one.
        dtype: a dtype or policy, such as `"mixed_bfloat16"`; `None`: Keras' global policy, or the `Backbone`'s own.

    Call arguments:
        images: (n, H, W, C), raw pixels from 0 to 255, any numeric dtype.

    Returns:
        The ensemble's logits (n, K): their softmax is the prediction.

    Example:

    ```python
    model = mixmo_keras.CutMixMo(backbone="wrn28_10", num_classes=100)
    model.fit(train, validation_data=validation, epochs=300)
    ```
    """

    def __init__(
        self,
        backbone: str | backbones.Backbone | keras.Model = "wrn28_10",
        num_classes: int = 100,
        input_shape: tuple[int, int, int] | None = None,
        split_at: str | None = None,
        encoder_noise: float | None = None,
        num_members: int = 2,
        mixing: Mixing | None = Mixing(),
        input_repetition: float = 0.0,
        msda: MSDA | str | None = None,
        share_encoders: bool = False,
        share_heads: bool = False,
        drop_path: float = 0.0,
        efficient_drop_path: bool = False,
        co_training: float | None = None,
        teaching: str = "softmax",
        batch_repetitions: int = 4,
        repeated_data: bool = False,
        augmentation: keras.layers.Layer | str | None = "pad_crop_flip",
        normalization: tuple | str | None = "auto",
        averaging: str = "logits",
        temperature: float = 1.0,
        tempering: str = "ensemble",
        l2: float = 3e-4,
        l2_normalization: bool = True,
        synchronized_batch_norm: bool = False,
        schedule: schedules.ProgressSchedule | None = None,
        seed: int | None = None,
        dtype=None,
        name: str | None = None,
    ):
        if not isinstance(batch_repetitions, int) or batch_repetitions < 1:
            raise ValueError(f"`batch_repetitions` must be an integer of at least 1, got {batch_repetitions!r}.")
        if l2 < 0:
            raise ValueError(f"`l2` must not be negative, got {l2}.")
        if mixing is not None and not isinstance(mixing, Mixing):
            raise TypeError(f"`mixing` must be a mixmo_keras.Mixing or None, got {type(mixing).__name__}.")
        if num_members == 1 and mixing is not None:
            warnings.warn(
                "One member has nobody to mix with: pass mixing=None, or use SingleNetwork. `mixing` changes nothing.",
                stacklevel=2,
            )
        if repeated_data and batch_repetitions == 1:
            raise ValueError("`repeated_data` says that images come several times: it needs batch_repetitions > 1.")
        if not 0 <= input_repetition <= 1:
            raise ValueError(f"`input_repetition` must be within [0, 1], got {input_repetition}.")
        if num_members == 1 and (input_repetition or share_encoders or share_heads):
            raise ValueError(
                "`input_repetition`, `share_encoders` and `share_heads` say what several members have in common; "
                "num_members=1 has no use for them."
            )
        if share_encoders and share_heads:
            raise ValueError("`share_encoders` and `share_heads` together leave nothing that tells members apart.")
        if co_training is not None and not 0 < co_training <= 1:
            raise ValueError(f"`co_training` must be the labels' share within (0, 1], got {co_training}.")
        if teaching not in cosub.TEACHING:
            raise ValueError(f"`teaching` must be one of {', '.join(cosub.TEACHING)}, got {teaching!r}.")
        if teaching != "softmax" and co_training is None:
            raise ValueError(f"`teaching` (={teaching!r}) has no meaning without `co_training`.")
        if input_repetition == 1:
            warnings.warn(
                "input_repetition=1 always shows the same image to all members: they have no reason to differ, and what "
                "trains is no ensemble. MIMO uses 0 on CIFAR and 0.6 on ImageNet.",
                stacklevel=2,
            )
        msda = msdas.get(msda)
        if isinstance(backbone, keras.Model):
            backbone = backbones.split(backbone, split_at)
        elif split_at is not None:
            raise ValueError(f"`split_at` (={split_at!r}) is for a Keras model as the backbone, got {backbone!r}.")
        schedule = schedules.StepDecay(LEARNING_RATE) if schedule is None else schedule
        if isinstance(backbone, backbones.Backbone):
            if dtype is not None and keras.dtype_policies.get(dtype).name != backbone.dtype_policy.name:
                raise ValueError(
                    f"`dtype` (={dtype!r}) differs from the policy the backbone was built under, "
                    f"{backbone.dtype_policy.name!r}. Leave `dtype` out, or build the backbone under that policy: "
                    "keras.config.set_dtype_policy."
                )
            dtype = backbone.dtype_policy
        normalization = normalizations.checked(normalization)
        input_shape = None if input_shape is None else tuple(input_shape)  # type: ignore[assignment]
        seed = seeds.resolve(seed)
        given = dict(
            backbone=backbone,
            num_classes=num_classes,
            input_shape=input_shape,
            encoder_noise=encoder_noise,
            num_members=num_members,
            mixing=mixing,
            input_repetition=input_repetition,
            msda=msda,
            share_encoders=share_encoders,
            share_heads=share_heads,
            drop_path=drop_path,
            efficient_drop_path=efficient_drop_path,
            co_training=co_training,
            teaching=teaching,
            batch_repetitions=batch_repetitions,
            repeated_data=repeated_data,
            augmentation=augmentation,
            normalization=normalization,
            averaging=averaging,
            l2=l2,
            l2_normalization=l2_normalization,
            synchronized_batch_norm=synchronized_batch_norm,
            schedule=schedule,
            seed=seed,
        )
        with dtype_policy(dtype):
            parts = backbones.get(backbone, input_shape, seed, DropPath(drop_path, False, efficient_drop_path))
            if msda is not None and mixing is not None:
                msdas.check_sizes(parts.input_shape[:2], parts.encoder.output_shape[1:3])
            if co_training is not None and not any(map(stochastic_depth.layers_of, (parts.encoder, parts.core))):
                raise ValueError(
                    "`co_training` needs a network whose two passes differ: a backbone with stochastic depth, such as "
                    "drop_path=0.2 with a name. Without it both submodels are the whole network."
                )
            share = "encoders" if share_encoders else "heads" if share_heads else None
            built = network.build(
                parts,
                num_members,
                num_classes,
                share=share,
                encoder_noise=encoder_noise,
                normalization=normalization,
                synchronized_batch_norm=synchronized_batch_norm,
                seed=seed,
                copy_core=parts is backbone,
            )
            average = MemberAverage(averaging, temperature, tempering, dtype="float32", name="average")
            super().__init__(inputs=built.images, outputs=average(built.member_logits), name=name)
            self.monitor = Monitor(name="monitor")
        self.normalize, self.encoders, self.mixing_block = built.normalize, built.encoders, built.mixing_block
        self.core, self.heads, self.average = built.core, built.heads, average
        self._member_logits = built.member_logits
        self.augment = augmentations.get(augmentation)
        self.num_members, self.num_classes, self.image_shape = num_members, num_classes, parts.input_shape
        self.mixing, self.input_repetition, self.msda = mixing, float(input_repetition), msda
        self.batch_repetitions, self.repeated_data, self.seed = batch_repetitions, repeated_data, seed
        self.l2, self.l2_normalization, self.schedule = float(l2), l2_normalization, schedule
        self.synchronized_batch_norm = synchronized_batch_norm
        self.co_training, self.teaching = co_training, teaching
        self.expects_raw_pixels = normalization is not None
        self.steps_to_skip = 0
        self._given = given
        self.compile()

    # -- compiling, saving ---------------------------------------------------------------------------------------------

    def compile(self, optimizer=None, loss=None, metrics=("accuracy",), **options):
        """Configures training, as `keras.Model.compile`; what is left out stays the papers'.

        Args:
            optimizer: `None`: SGD with Nesterov momentum 0.9 and the model's `schedule`: the papers' warm-up and step decay
                over `fit`'s epochs.
            loss: a Keras loss that returns one value a row. `None`: `losses.CrossEntropy()`.
            metrics: in training of each member on its own image, in validation of the ensemble.
            **options: the other options of `keras.Model.compile`. `jit_compile="auto"` uses XLA where
                there is an accelerator.
        """
        if options.get("loss_weights") is not None:
            raise ValueError("`loss_weights` has no meaning here: the members' weights follow their mixing ratios.")
        if optimizer is None:
            optimizer = keras.optimizers.SGD(self.schedule, momentum=0.9, nesterov=True)
        if loss is None:
            loss = losses.SigmoidCrossEntropy() if self.teaching == "sigmoid" else losses.CrossEntropy()
        loss = losses.get(loss)
        if self.msda is not None and (
            isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
            or loss is keras.losses.sparse_categorical_crossentropy
        ):
            raise ValueError(
                "MSDA makes soft labels, which a sparse loss can't take. Use the default loss, which takes integer labels "
                "too, or keras.losses.CategoricalCrossentropy(from_logits=True)."
            )
        self._compile_metrics = None  # Keras keeps the earlier ones where none are given
        super().compile(optimizer=optimizer, loss=loss, metrics=list(metrics) if metrics else metrics, **options)
        if options.get("jit_compile", "auto") == "auto" and not self.run_eagerly and num_replicas(self) > 1:
            self.jit_compile = steps.has_accelerator()  # Keras leaves XLA off under every strategy
        if getattr(self._inner_optimizer, "gradient_accumulation_steps", None) and num_replicas(self) > 1:
            raise ValueError(
                "Keras' optimizers can't accumulate gradients under several replicas of a tf.distribute strategy: leave "
                "`gradient_accumulation_steps` out. More rows a step, or more replicas, do the same."
            )
        if options.get("jit_compile") is True and self.synchronized_batch_norm and num_replicas(self) > 1:
            raise ValueError(
                "jit_compile=True can't be combined with synchronized_batch_norm=True under several replicas: XLA can't "
                "compile what they exchange in the middle of a step."
            )
        inner = self._inner_optimizer
        if isinstance(schedule := inner._learning_rate, schedules.ProgressSchedule):
            inner._learning_rate = schedule.attached(self.monitor.progress)  # a copy: another model may use it too

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def save(self, filepath, *arguments, **options):
        """Saves the model, as `keras.Model.save`; with the optimizer's state even before the first step."""
        self._build_optimizer()  # Keras would warn on loading that the file has none
        super().save(filepath, *arguments, **options)

    def load_weights(self, filepath, **options):
        """Loads weights, as `keras.Model.load_weights`, and the optimizer's state with them."""
        self._build_optimizer()  # Keras would warn that there is none to load into
        super().load_weights(filepath, **options)

    def get_config(self):
        # the temperature may have been fitted since
        config = {**self._given, "temperature": self.temperature, "tempering": self.average.tempering}
        for key in ("backbone", "mixing", "msda", "augmentation", "schedule"):
            config[key] = keras.saving.serialize_keras_object(config[key])
        policy = keras.dtype_policies.serialize(self.dtype_policy)
        return {**config, "dtype": policy, "name": self.name}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = copy.deepcopy(config)  # Keras empties what it deserializes
        for key in config.keys() & {"backbone", "mixing", "msda", "augmentation", "schedule", "dtype"}:
            config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects)
        model = cls(**config)
        # not compiled, as any Keras model of a configuration: load_model(..., compile=False) couldn't load it otherwise
        model.optimizer, model.compiled = None, False
        return model

    @property
    def step_counter(self):
        """The variable that counts training steps. `optimizer.iterations` counts updates: fewer, if gradients accumulate."""
        return self._inner_optimizer._iterations

    @property
    def _inner_optimizer(self) -> Any:
        return getattr(self.optimizer, "inner_optimizer", self.optimizer)  # what a LossScaleOptimizer wraps

    # -- the training step, in the order of its parts --------------------------------------------------------------------

    def train_step(self, *state_and_data):
        return steps.train_step(self, *state_and_data)

    def test_step(self, *state_and_data):
        if num_replicas(self) > 1:
            return steps.test_step(self, super().test_step, *state_and_data)
        return super().test_step(*state_and_data)

    def _build_optimizer(self):
        if self.compiled and not self.optimizer.built:
            with strategy_scope(self):
                self.optimizer.build(self.trainable_variables)

    def make_train_function(self, force=False):
        self._build_optimizer()  # XLA can't compile a first step that creates variables
        with _replicas_apart(self):
            super().make_train_function(force)
        self.train_function = Skipping.of(self, self.train_function)

    def make_test_function(self, force=False):
        with _replicas_apart(self):
            return super().make_test_function(force)

    def pair(self, x, y, sample_weight, seed: seeds.StepSeed, progress=0.0) -> Batch:
        """Repeats, augments and pairs a batch of n images into B = n·b rows, and draws their masks.

        Args:
            x: images (n, H, W, C).
            y: labels (n,) or (n, 1) integers, or (n, K).
            sample_weight: (n,), or `None`.
            seed: the step's seeds.
            progress: share of training done.
        """
        self._check_shapes(x, y, sample_weight)
        y = _squeezed(y)
        tiles = 1 if self.repeated_data else self.batch_repetitions
        num_rows = ops.shape(x)[0] * tiles

        def repeat(values):
            return ops.tile(values, (tiles, *[1] * (len(values.shape) - 1)))

        rows = repeat(x)
        if self.augment is not None:
            rows = self.augment(rows, seed=seed.fork("augment"))
        places = mixing.places(seed.fork("pair"), num_rows, self.num_members, self.input_repetition)
        images, labels = ops.take(rows, places, axis=0), ops.take(repeat(y), places, axis=0)
        if sample_weight is not None:
            sample_weight = ops.take(repeat(ops.reshape(sample_weight, (-1,))), places, axis=0)
        masks, weights = None, ops.ones((num_rows, self.num_members))
        if self.mixing is not None:
            size = self.encoders.encoders[0].output_shape[1:]
            masks, _, weights = mixing.draw(self.mixing, seed, num_rows, self.num_members, size, progress)
        if self.msda is None:
            return Batch(images, labels, labels, sample_weight, masks, weights)
        num_images = num_rows // self.batch_repetitions
        mixed = msdas.draw(self.msda, seed.fork("msda"), places, num_images, self.image_shape)
        images = msdas.blend(images, ops.take(rows, mixed.partners, axis=0), mixed.masks)
        partner_labels = ops.take(repeat(y), mixed.partners, axis=0)
        shares = msdas.visible_shares(mixed.masks, masks)
        targets = msdas.soft_targets(labels, partner_labels, shares, self.num_classes)
        return Batch(images, labels, targets, sample_weight, masks, weights)

    def l2_rates(self) -> list[float]:
        """2λ for each trainable weight, what L2 adds to its gradient for each unit of weight; 0 where L2 leaves it out."""
        spared = () if self.l2_normalization else ("gamma", "beta")
        return [0.0 if weight.name in spared else 2 * self.l2 for weight in self.trainable_weights]

    def member_logits(self, images, masks=None, training=False):
        """Logits of every member (B, M, K), float32.

        Args:
            images: (B, M, H, W, C), an image for each member, or (B, H, W, C), the same for all.
            masks: (B, M, h, w, 1); `None` for 1/M each.
            training: whether batch norm and others behave as in training.
        """
        features = self.encoders(self.normalize(images), training=training)
        logits = self.heads(self.core(self.mixing_block(features, masks), training=training))
        return ops.cast(logits, "float32")

    def training_logits(self, batch: Batch, seed: seeds.StepSeed):
        """Logits of a batch in training, (B, M, K); (2B, M, K) where two submodels learn from each other."""
        images, masks = batch.images, batch.masks
        if self.co_training is not None:
            images, masks = cosub.twice(images), cosub.twice(masks)
        with seeds.drawing(seed.fork("network")):
            return self.member_logits(images, masks, training=True)

    def member_loss(self, batch: Batch, logits):
        """Σ_i w_i·ℓ(logits_i, y_i), mean over rows (MixMo, equation 3), plus what layers added with `add_loss`: a scalar."""
        if self.co_training is None:
            values = losses.per_row(self.loss, *_flatten_members(batch.targets, logits))
        else:
            targets, rows = _flatten_members(cosub.twice(batch.targets), logits)
            of_labels = losses.per_row(self.loss, targets, rows)
            values = cosub.co_training_loss(of_labels, rows, self.co_training, self.teaching)
        weights = batch.weights if batch.sample_weight is None else batch.weights * batch.sample_weight
        weighted = ops.reshape(values, ops.shape(weights)) * weights
        return ops.sum(ops.mean(weighted, axis=0)) + sum(ops.sum(loss) for loss in self.losses)

    def sound_loss(self, loss, gradients):
        """The loss, or NaN if the encoders' gradients are not finite: on CPUs ReLU turns NaN into 0, which hides it.

        `gradients` are those of `trainable_weights`. Under loss scaling they may overflow: such a step is skipped.
        """
        if self._inner_optimizer is not self.optimizer:
            return loss
        encoders = {id(weight) for weight in self.encoders.trainable_weights}
        pairs = zip(self.trainable_weights, gradients, strict=True)
        total = sum(ops.sum(gradient) for weight, gradient in pairs if id(weight) in encoders and gradient is not None)
        return ops.where(ops.isfinite(ops.cast(total, loss.dtype)), loss, float("nan"))

    def update_metrics(self, x, y, step, loss, batch: Batch, logits) -> dict:
        """Notes what the monitor watches, updates the metrics of the members on their own images, returns the logs."""
        self._note(x, y, step, loss)
        if self.co_training is not None:  # both submodels are looked at
            both = {name: cosub.twice(getattr(batch, name)) for name in ("images", "labels", "sample_weight")}
            batch = batch._replace(**both)
        labels, member_logits = _flatten_members(batch.labels, logits)
        weights = None if batch.sample_weight is None else ops.reshape(batch.sample_weight, (-1,))
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=ops.shape(logits)[0])
        return self.compute_metrics(batch.images, labels, member_logits, weights)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # with a checkpoint of the middle of an epoch come the values of its metrics, which Keras would build too late
        if iterator is not None and (self._distribute_strategy is not None or self.steps_to_skip):
            data_batch = steps.one_batch(self, iterator)
            with self.distribute_strategy.scope():
                self._symbolic_build(data_batch=data_batch)
        else:
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    # -- what Keras users call -------------------------------------------------------------------------------------------

    def fit(self, x=None, y=None, batch_size=None, epochs=1, verbose="auto", callbacks=None, **options):
        """Trains the ensemble, as `keras.Model.fit`. `batch_size` counts images; a step has `batch_repetitions` rows each.

        Raises:
            ValueError: labels out of range, wrong shapes, an empty dataset.
            FloatingPointError: the loss became NaN or infinite.
        """
        self._check_data(x, y, "fit")
        if (validation := options.get("validation_data")) is not None:
            images, labels, _ = keras.utils.unpack_x_y_sample_weight(validation)
            self._check_data(images, labels, "fit", "validation ")
        if hasattr(x, "element_spec"):
            options.setdefault("shuffle", False)  # a tf.data.Dataset shuffles itself; Keras warns of its own default
        callbacks = _watched(callbacks)
        return super().fit(x, y, batch_size=batch_size, epochs=epochs, verbose=verbose, callbacks=callbacks, **options)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", callbacks=None, **options):
        """The ensemble's loss and metrics, as `keras.Model.evaluate`."""
        self._check_data(x, y, "evaluate")
        callbacks = _watched(callbacks)
        return super().evaluate(x, y, batch_size=batch_size, verbose=verbose, callbacks=callbacks, **options)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The ensemble's loss on (n, K) logits, as `evaluate` needs it. Training has `member_loss`."""
        self._check_shapes(x, y, sample_weight)
        self._note(x, y, 0)
        return super().compute_loss(x, _squeezed(y), y_pred, sample_weight, training)

    def summary(self, line_length=None, positions=None, print_fn=None, **options):
        """Prints the three parts as a figure, then Keras' table of layers."""
        (print_fn or print)(self.figure())
        super().summary(line_length=line_length, positions=positions, print_fn=print_fn, **options)

    def figure(self) -> str:
        """Encoders, mixing block, core and heads as a drawing in text."""
        height, width, channels = self.encoders.encoders[0].output_shape[1:]
        mask = "sum" if self.mixing is None else getattr(self.mixing.mask, "__name__", self.mixing.mask)
        middle = f" mixing block ({mask}, {height}×{width}×{channels}) ── core ({self.core.output_shape[-1]}) ─"
        if self.num_members == 1:
            return f"image ── encoder ──{middle}─ head ── label"
        last = self.num_members - 1
        lines = [
            f"image {member} ── encoder {member} ─{{}}─ head {member} ── label {member}" for member in range(last + 1)
        ]
        ends = [("┐", "┌"), *[("┤", "├")] * (last - 1), ("┘", "└")]
        lines = [line.format(left + " " * len(middle) + right) for line, (left, right) in zip(lines, ends, strict=True)]
        indent = " " * lines[0].index("┐")
        lines.insert(self.num_members // 2, f"{indent}├{middle}┤")
        return "\n".join(lines)

    # -- checks ------------------------------------------------------------------------------------------------------------

    def _check_shapes(self, x, y, sample_weight=None):
        """Raises on wrong ranks and sizes, which are known when a step is traced."""
        if y is None:
            raise ValueError("Labels are missing: pass `y`, or a dataset of (images, labels).")
        if len(x.shape) != 4 or tuple(x.shape[1:]) != tuple(self.image_shape):
            raise ValueError(f"Images must be (n, {', '.join(map(str, self.image_shape))}), got {tuple(x.shape)}.")
        if len(y.shape) not in (1, 2) or (len(y.shape) == 2 and y.shape[1] not in (1, self.num_classes)):
            raise ValueError(
                f"Labels must be integers (n,) or one-hot (n, {self.num_classes}), got shape {tuple(y.shape)}."
            )
        if sample_weight is not None and tuple(sample_weight.shape[1:]) not in ((), (1,)):
            raise ValueError(f"`sample_weight` must be (n,), one for each image, got {tuple(sample_weight.shape)}.")

    def _note(self, x, y, step, loss=None):
        labels = y if len(y.shape) == 1 or y.shape[1] == 1 else None
        images = x if self.expects_raw_pixels else None
        self.monitor.note(step, loss, labels, self.num_classes, images)

    def _check_data(self, x, y, verb: str, kind: str = "") -> None:
        """The checks that can be made before the first step."""
        if hasattr(x, "element_spec"):  # a tf.data.Dataset
            if callable(getattr(x, "cardinality", None)) and int(x.cardinality()) == 0:
                raise ValueError(f"The {kind}dataset is empty: `{verb}` got a tf.data.Dataset of no batches.")
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        elif hasattr(x, "shape") and len(x.shape) and x.shape[0] == 0:
            raise ValueError(f"The {kind}dataset is empty: `{verb}` got images of shape {tuple(x.shape)}.")
        shapes = [values.shape if hasattr(values, "shape") else None for values in (x, y) if values is not None]
        if any(getattr(shape, "rank", shape) is None for shape in shapes):
            return  # shapes will be known when a step is traced
        self._check_shapes(x, y)
        if hasattr(y, "__array__") and (y.ndim == 1 or y.shape[1] == 1):
            labels = ops.convert_to_numpy(y)
            low, high = float(labels.min()), float(labels.max())
            if not (low >= 0 and high < self.num_classes and (labels % 1 == 0).all()):
                raise label_error(self.num_classes, low, high)


def CutMixMo(  # noqa: N802, as keras.applications names its models
    backbone: str | backbones.Backbone | keras.Model = "wrn28_10",
    mask="cutmix",
    probability: float | Callable = 0.5,
    decay_start: float | None = 11 / 12,
    alpha: float | None = 2.0,
    weight_root: float | None = 3.0,
    unmixing: bool | Callable = False,
    **options,
) -> MixMo:
    """Cut-MixMo, the paper's best: patches of one member's features in the others'. Arguments of `Mixing` and `MixMo`."""
    return MixMo(backbone, mixing=Mixing(mask, probability, decay_start, alpha, weight_root, unmixing), **options)


def LinearMixMo(  # noqa: N802
    backbone: str | backbones.Backbone | keras.Model = "wrn28_10",
    alpha: float | None = 2.0,
    weight_root: float | None = 3.0,
    unmixing: bool | Callable = False,
    **options,
) -> MixMo:
    """Linear-MixMo: the members' features interpolated, as in MixUp. Arguments of `Mixing` and `MixMo`."""
    mixing = Mixing("linear", alpha=alpha, weight_root=weight_root, unmixing=unmixing)
    return MixMo(backbone, mixing=mixing, **options)


MIMO_SETTINGS = {
    # the rates are for 128 and for 2048 images a batch (512 and 4096 rows)
    "cifar": dict(
        num_members=3,
        input_repetition=0.0,
        batch_repetitions=4,
        l2=3e-4,
        l2_normalization=True,
        schedule=schedules.StepDecay(0.1, warmup=1 / 250, milestones=(100 / 250, 200 / 250, 225 / 250)),
    ),
    "imagenet": dict(
        num_members=2,
        input_repetition=0.6,
        batch_repetitions=2,
        l2=1e-4,
        l2_normalization=False,  # kernels and biases only
        schedule=schedules.StepDecay(0.8, warmup=5 / 150, milestones=(50 / 150, 100 / 150, 133 / 150)),
    ),
}


def MIMO(  # noqa: N802
    backbone: str | backbones.Backbone | keras.Model = "wrn28_10", settings: str = "cifar", **options
) -> MixMo:
    """MIMO (Havasi et al., ICLR 2021): the members' features summed, equal weights, probabilities averaged.

    Args:
        backbone: as in `MixMo`.
        settings: the paper's hyper-parameters, `"cifar"` or `"imagenet"`: M, ρ, b, L2 and the learning rate, for 128 and for
            2048 images a batch. See `models.MIMO_SETTINGS`.
        **options: of `MixMo`, in place of the settings'. `mixing` is MixMo's and refused.
    """
    if settings not in MIMO_SETTINGS:
        raise ValueError(f"Unknown settings: {settings!r}. Known settings: {', '.join(MIMO_SETTINGS)}.")
    if "mixing" in options:
        raise ValueError(
            "`mixing` has no meaning for MIMO, which sums its members: use CutMixMo, LinearMixMo or MixMo."
        )
    return MixMo(backbone, mixing=None, **{"averaging": "probabilities", **MIMO_SETTINGS[settings], **options})


def SingleNetwork(  # noqa: N802
    backbone: str | backbones.Backbone | keras.Model = "wrn28_10", batch_repetitions: int = 1, **options
) -> MixMo:
    """The plain network through the same code: one member, nothing mixed. Arguments of `MixMo`."""
    return MixMo(backbone, num_members=1, mixing=None, batch_repetitions=batch_repetitions, **options)


def CoSub(  # noqa: N802
    backbone: str | backbones.Backbone | keras.Model = "wrn28_10",
    drop_path: float = 0.2,
    co_training: float = 0.5,
    teaching: str = "softmax",
    batch_repetitions: int = 1,
    **options,
) -> MixMo:
    """cosub (Touvron et al., CVPR 2023): one network, of which stochastic depth makes two submodels that teach each other.

    A step's rows, after mixing and augmentation, pass twice, so that it costs two steps of the single network.

    Args:
        backbone: as in `MixMo`.
        drop_path: rate of stochastic depth, the same in every block of a named backbone. A backbone of one's own brings its
            own: pass 0.
        co_training: λ, the labels' share of the loss.
        teaching: `"softmax"` cross-entropy (the paper) or `"sigmoid"` binary cross-entropy (its code).
        batch_repetitions: as in `MixMo`.
        **options: of `MixMo`.
    """
    given = dict(drop_path=drop_path, co_training=co_training, teaching=teaching)
    return SingleNetwork(backbone, batch_repetitions, **given, **options)


@contextlib.contextmanager
def _replicas_apart(model):
    """Keeps Keras from compiling what replicas exchange, which XLA can't: the train step compiles the rest by itself."""
    jit_compile = model.jit_compile
    if num_replicas(model) > 1:
        model.jit_compile = False
    try:
        yield
    finally:
        model.jit_compile = jit_compile


def _squeezed(y):
    """Integer labels (n, 1) as (n,)."""
    return ops.squeeze(y, axis=1) if len(y.shape) == 2 and y.shape[1] == 1 else y


def _flatten_members(targets, logits):
    """Targets (B, M, ...) and logits (B, M, K) as B·M rows."""
    rows = ops.reshape(logits, (-1, logits.shape[-1]))
    return ops.reshape(targets, (-1, *targets.shape[2:])), rows


def _watched(callbacks):
    """The callbacks with a `MonitorCallback` first, so that the others never see a broken model."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        if not any(isinstance(callback, MonitorCallback) for callback in callbacks.callbacks):
            raise TypeError(
                "`callbacks` must be a list of callbacks, for the model to add its own; got a CallbackList."
            )
        return callbacks  # of a `fit` that is watched already
    if callbacks is None:
        callbacks = []
    elif not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    return [MonitorCallback(), *callbacks]
