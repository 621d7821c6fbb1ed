"""Requests that gather into batches, whose mode follows from how many wait."""

import threading
from concurrent.futures import Future, wait

import pytest
from request_queue import RequestQueue

PATIENCE = 30  # seconds


class Network:
    """Answers images with their doubles, after it was let, and notes the batches that it was asked for."""

    def __init__(self):
        self.batches: list[tuple[str, list]] = []
        self.busy, self.may_go_on = threading.Event(), threading.Event()

    def mode(self, name):
        def answers(images):
            self.batches.append((name, images))
            self.busy.set()
            assert self.may_go_on.wait(PATIENCE)
            if "broken" in images:
                raise ValueError("no image")
            if "unplugged" in images:
                raise ConnectionError("no answer")
            return [2 * image for image in images]

        return answers


@pytest.fixture
def network():
    return Network()


def queue(network, **options):
    defaults = dict(multiplexed=network.mode("multiplexed"), switch_at=3, max_batch=4)
    return RequestQueue(network.mode("ensemble"), **defaults | options)


def submit_together(queue, network, images) -> list[Future]:
    """The answers to images that wait together, while an image before them is computed."""
    queue.submit(0)
    assert network.busy.wait(PATIENCE)
    futures = [queue.submit(image) for image in images]
    network.may_go_on.set()
    wait(futures, PATIENCE)
    return futures


@pytest.mark.parametrize(
    ("count", "batches"),
    [
        (2, [("ensemble", [0]), ("ensemble", [1, 2])]),
        (3, [("ensemble", [0]), ("multiplexed", [1, 2, 3])]),
        (6, [("ensemble", [0]), ("multiplexed", [1, 2, 3, 4]), ("ensemble", [5, 6])]),
    ],
)
def test_the_mode_follows_from_how_many_wait(network, count, batches):
    images = list(range(1, count + 1))
    with queue(network) as requests:
        futures = submit_together(requests, network, images)
        assert [future.result(PATIENCE) for future in futures] == [2 * image for image in images]
    assert network.batches == batches
    assert requests.answered["multiplexed"] == sum(len(images) for mode, images in batches if mode == "multiplexed")
    assert requests.answered.total() == 1 + count


def test_groups_share_no_pass(network):
    """Three of one client wait, and two of another: only those three are enough to share passes, by themselves."""
    with queue(network) as requests:
        requests.submit(0)
        assert network.busy.wait(PATIENCE)
        futures = [requests.submit(image, group=who) for image, who in zip((1, 2, 3, 4, 5), "abaab", strict=True)]
        network.may_go_on.set()
        assert [future.result(PATIENCE) for future in futures] == [2, 4, 6, 8, 10]
    assert network.batches == [("ensemble", [0]), ("multiplexed", [1, 3, 4]), ("ensemble", [2, 5])]


def test_a_broken_image_costs_the_others_no_answer(network):
    with queue(network) as requests:
        first, broken, third, last = submit_together(requests, network, [1, "broken", 3, 4])
        assert [future.result(PATIENCE) for future in (first, third, last)] == [2, 6, 8]
        with pytest.raises(ValueError, match="no image"):
            broken.result(PATIENCE)
    assert requests.answered == {"ensemble": 1, "multiplexed": 3}
    assert network.batches[1:] == [
        ("multiplexed", images) for images in ([1, "broken", 3, 4], [1, "broken"], [1], ["broken"], [3, 4])
    ]


def test_a_server_that_is_gone_is_told_to_all_and_the_queue_goes_on(network):
    with queue(network) as requests:
        for future in submit_together(requests, network, [1, "unplugged"]):
            with pytest.raises(ConnectionError, match="no answer"):
                future.result(PATIENCE)
        assert requests.submit(5).result(PATIENCE) == 10


def test_what_waits_is_answered_at_the_end_and_nothing_is_taken_after_it(network):
    requests = queue(network)
    network.may_go_on.set()
    futures = [requests.submit(image) for image in range(20)]
    requests.close()
    assert [future.result(0) for future in futures] == [2 * image for image in range(20)]
    with pytest.raises(RuntimeError, match="is closed"):
        requests.submit(1)
