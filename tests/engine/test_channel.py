from threading import Thread

import pytest

from bwpipe.engine.channel import Channel
from bwpipe.errors import RunStopped


def test_items_arrive_in_order_until_the_writer_ends() -> None:
    channel = Channel[int](depth=2)

    def write() -> None:
        for i in range(10):
            channel.put(i)
        channel.end()

    writer = Thread(target=write)
    writer.start()

    assert list(channel) == list(range(10))
    writer.join()


def test_a_full_channel_makes_its_writer_wait() -> None:
    channel = Channel[int](depth=1)
    channel.put(0)
    writer = Thread(target=channel.put, args=(1,))
    writer.start()
    writer.join(0.05)

    assert writer.is_alive()
    assert next(iter(channel)) == 0
    writer.join()


def test_put_returns_false_once_the_reader_has_left() -> None:
    channel = Channel[int](depth=1)
    channel.leave()

    assert channel.put(0) is False


def test_an_aborted_channel_raises_on_both_sides_even_after_its_end() -> None:
    channel = Channel[int](depth=4)
    channel.put(0)
    channel.end()
    channel.abort()

    with pytest.raises(RunStopped):
        next(iter(channel))
    with pytest.raises(RunStopped):
        channel.put(1)
