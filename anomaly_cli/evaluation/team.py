"""Count the test images of an evaluation in the processes of a launcher.

The first process runs the evaluation as if it were alone, but asks all processes to compare the
maps of their images with the ground truth, and receives the results in the order of the images. So
all figures are those of one process. Each process takes every n-th batch, because rounding depends
on the other images of a batch.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from anomaly_cli.config.values import ImageScore
from anomaly_cli.data.samples import Sample
from anomaly_cli.detector.team import Team
from anomaly_cli.errors import AnomalyCliError
from anomaly_cli.evaluation.images import CategorySource, CountedImage, Sources, count_images


class _Task(NamedTuple):
    """Images of one category that all processes are asked to count."""

    category: str
    samples: Sequence[Sample]
    score: ImageScore
    batch_size: int

    def part(self, team: Team) -> list[Sample]:
        """List the samples of this process: every n-th batch."""
        places = range(len(self.samples))
        own = (place for place in places if place // self.batch_size % team.size == team.rank)
        return [self.samples[place] for place in own]

    @property
    def rounds(self) -> int:
        """Number of batches."""
        return -(-len(self.samples) // self.batch_size)


class _Counted(NamedTuple):
    """What one process counted of a batch."""

    images: list[CountedImage]
    error: AnomalyCliError | None = None  # of the image after them


_NEXT, _END = "next", "end"  # of a batch, and of the evaluation


class TeamCounter:
    """Counter of images for the first process; the others `serve` it."""

    def __init__(self, team: Team, batch_size: int) -> None:
        self._team = team
        self._batch_size = batch_size

    def __call__(
        self, source: CategorySource, samples: Sequence[Sample], score: ImageScore
    ) -> Iterator[CountedImage]:
        """Compare the map of each sample with its ground truth, as `count_images` does."""
        task = _Task(source.category, samples, score, self._batch_size)
        own = _count_batches(lambda: source, task, self._team)
        self._team.tell(task)
        for _round in range(0, task.rounds, self._team.size):
            self._team.tell(_NEXT)
            for counted in self._team.gather(next(own, _Counted([]))):
                yield from counted.images
                if counted.error is not None:
                    raise counted.error

    def end(self) -> None:
        """Let the other processes end."""
        self._team.tell(_END)


def serve(find_sources: Callable[[], Sources], team: Team) -> None:
    """Count what the first process asks for, until it ends; errors are sent to it, too.

    Args:
        find_sources: finds the test split and the maps of each category, by its name.
        team: the processes.
    """
    batches: Iterator[_Counted] = iter(())
    open_source = lru_cache(maxsize=1)(lambda category: find_sources()[category]())
    while (message := team.tell()) != _END:
        if isinstance(message, _Task):
            batches = _count_batches(partial(open_source, message.category), message, team)
        else:
            team.gather(next(batches, _Counted([])))


def _count_batches(
    open_source: Callable[[], CategorySource], task: _Task, team: Team
) -> Iterator[_Counted]:
    """Count the images of this process, batch by batch, up to the first that gives an error."""
    images: list[CountedImage] = []
    try:
        for image in count_images(open_source(), task.part(team), task.score):
            images.append(image)
            if len(images) == task.batch_size:
                yield _Counted(images)
                images = []
    except AnomalyCliError as error:
        yield _Counted(images, error)
        return
    yield _Counted(images)
