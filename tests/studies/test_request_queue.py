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


def test_groups_share_a_batch_of_the_ensemble(network):
    with queue(network) as requests:
        requests.submit(0)
        assert network.busy.wait(PATIENCE)
        futures = [requests.submit(image, group=image % 3) for image in (1, 2, 3, 4)]
        network.may_go_on.set()
        wait(futures, PATIENCE)
    assert network.batches == [("ensemble", [0]), ("ensemble", [1, 2, 3, 4])]


def test_without_a_second_mode(network):
    with queue(network, multiplexed=None, switch_at=None) as requests:
        submit_together(requests, network, range(1, 6))
    assert network.batches == [("ensemble", [0]), ("ensemble", [1, 2, 3, 4]), ("ensemble", [5])]


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


def test_a_mode_that_always_fails_is_told_to_everybody(network):
    def no_such_signature(images):
        raise ValueError("no signature")

    with queue(network, multiplexed=no_such_signature) as requests:
        for future in submit_together(requests, network, [1, 2, 3]):
            with pytest.raises(ValueError, match="no signature"):
                future.result(PATIENCE)
    assert [mode for mode, _ in network.batches] == ["ensemble"]  # of the image before


def test_a_server_that_is_gone_is_told_to_all_and_the_queue_goes_on(network):
    with queue(network) as requests:
        for future in submit_together(requests, network, [1, "unplugged"]):
            with pytest.raises(ConnectionError, match="no answer"):
                future.result(PATIENCE)
        assert requests.submit(5).result(PATIENCE) == 10


def test_answers_that_fail_where_they_are_read_end_no_queue():
    def broken(images):
        yield from ()
        raise RuntimeError("half an answer")

    with RequestQueue(broken) as requests:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="half an answer"):
                requests.submit(1).result(PATIENCE)


def test_a_queue_may_be_closed_by_who_gets_an_answer():
    requests, closed = RequestQueue(list), threading.Event()

    def close(future):
        requests.close()
        closed.set()

    requests.submit(1).add_done_callback(close)
    assert closed.wait(PATIENCE)


def test_a_wrong_number_of_answers_is_no_answer():
    with RequestQueue(lambda images: []) as requests, pytest.raises(RuntimeError, match="0 answers to 1 images"):
        requests.submit(1).result(PATIENCE)


def test_what_waits_is_answered_at_the_end_and_nothing_is_taken_after_it(network):
    requests = queue(network)
    network.may_go_on.set()
    futures = [requests.submit(image) for image in range(20)]
    requests.close()
    assert [future.result(0) for future in futures] == [2 * image for image in range(20)]
    with pytest.raises(RuntimeError, match="is closed"):
        requests.submit(1)


def test_who_gave_up_is_left_out(network):
    with queue(network) as requests:
        requests.submit(0)
        assert network.busy.wait(PATIENCE)
        gave_up, waited = [requests.submit(1) for _ in range(5)], requests.submit(2)
        assert all(future.cancel() for future in gave_up)
        network.may_go_on.set()
        assert waited.result(PATIENCE) == 4
    assert network.batches == [("ensemble", [0]), ("ensemble", [2])]  # nor do they count as waiting


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(max_batch=0), "`max_batch` must be"),
        (dict(switch_at=5), "`switch_at` must be"),
        (dict(switch_at=0), "`switch_at` must be"),
        (dict(switch_at=None), "belong together"),
        (dict(multiplexed=None), "belong together"),
    ],
)
def test_errors(network, options, message):
    with pytest.raises(ValueError, match=message):
        queue(network, **options)
