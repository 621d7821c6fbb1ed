"""Images that come one by one, answered in batches: by the ensemble while few wait, M images a pass while many do."""

import collections
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from mixmo_keras.common import arguments

Answers = Callable[[list], Sequence]  # of a list of images, in their order


class _Request(NamedTuple):
    image: Any
    future: Future
    group: Any


class RequestQueue:
    """Collects what several threads ask for into batches, and chooses the mode of a batch by how many requests wait.

    Requests gather while a batch is computed. The next batch takes those that wait, the oldest first. It is answered by
    the ensemble, for accuracy and uncertainty; with M images a pass, for throughput, where at least `switch_at` waited.
    Images that share a pass influence each other's answers: give the requests of each client that nobody else may
    influence a `group` of their own. Groups never share a batch with M images a pass; in the ensemble's, where nothing is
    shared, they do.

    The answers of the two modes may hold different things: a served model gives no mutual information with M images a pass.

    A batch that is refused with a `ValueError` is asked again in halves, so that the sender of a broken image gets the
    error and the others their answers. Any other exception goes to all requests of the batch.

    Args:
        ensemble: Gives the answers to a list of images, such as what a served model's `serving_bytes` returns.
        multiplexed: The same with M images a pass. Defaults to never switching.
        switch_at: Number of waiting requests of a group from which on its images share passes; with `multiplexed` only.
        max_batch: Number of images in a batch, at most. Defaults to 64.

    Attributes:
        answered: Number of images by mode, `"ensemble"` and `"multiplexed"`.

    Raises:
        ValueError: sizes below 1, `switch_at` above `max_batch`, one of `multiplexed` and `switch_at` without the other.
    """

    def __init__(
        self,
        ensemble: Answers,
        multiplexed: Answers | None = None,
        switch_at: int | None = None,
        max_batch: int = 64,
    ):
        if (multiplexed is None) != (switch_at is None):
            raise ValueError("`multiplexed` and `switch_at` belong together: pass both, or neither.")
        self.max_batch = arguments.integer("max_batch", max_batch, least=1)
        if switch_at is not None:
            switch_at = arguments.integer("switch_at", switch_at, least=1, most=max_batch)
        self.switch_at = switch_at
        self.answered: collections.Counter[str] = collections.Counter()
        self._modes = {"ensemble": ensemble} | ({} if multiplexed is None else {"multiplexed": multiplexed})
        self._waiting: list[_Request] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="request queue", daemon=True)
        self._thread.start()

    def submit(self, image, group=None) -> Future:
        """The future answer to an image.

        Args:
            image: As the two modes take it.
            group: Whose image it is, anything that can be compared. Defaults to the group of all who don't say.

        Raises:
            RuntimeError: the queue is closed.
        """
        future: Future = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("The queue is closed.")
            self._waiting.append(_Request(image, future, group))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Answers what waits, and takes nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:  # which closes a queue from what waits for an answer
            self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _work(self) -> None:
        while (batch := self._next()) is not None:
            mode, requests = batch
            requests = [request for request in requests if request.future.set_running_or_notify_cancel()]
            if requests:
                self._answer(mode, requests)

    def _next(self) -> tuple[str, list["_Request"]] | None:
        """The mode and the requests of the next batch, None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            waiting = [request for request in self._waiting if not request.future.cancelled()]
            of_oldest = [request for request in waiting if request.group == waiting[0].group]
            many = self.switch_at is not None and len(of_oldest) >= self.switch_at
            requests = (of_oldest if many else waiting)[: self.max_batch]
            taken = {id(request) for request in requests}
            self._waiting = [request for request in waiting if id(request) not in taken]
            ended = self._closed and not requests
        return None if ended else ("multiplexed" if many else "ensemble", requests)

    def _answer(self, mode: str, requests: list["_Request"]) -> None:
        images = [request.image for request in requests]
        futures = [request.future for request in requests]
        try:
            answers = list(self._modes[mode](images))
            if len(answers) != len(images):
                raise RuntimeError(f"There are {len(answers)} answers to {len(images)} images.")
        except ValueError as error:
            if len(requests) == 1:
                futures[0].set_exception(error)
                return
            half = len(requests) // 2
            for part in (requests[:half], requests[half:]):
                self._answer(mode, part)
        except Exception as error:  # whatever it is, its senders wait for it
            for future in futures:
                future.set_exception(error)
        else:
            self.answered[mode] += len(images)
            for future, answer in zip(futures, answers, strict=True):
                future.set_result(answer)
