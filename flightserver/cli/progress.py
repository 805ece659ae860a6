"""How far an upload and its ingestion are, as a bar on standard error; nothing where that is no terminal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TransferSpeedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import flightclient


@contextmanager
def file_bar(name: str) -> Iterator[Callable[[flightclient.Progress], None]]:
    """A bar for one file, which begins again with each stage; yields what is told of the progress."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(name, total=None)
        stages: list[str] = []

        def report(progress: flightclient.Progress) -> None:
            if progress.stage not in stages:
                stages.append(progress.stage)
                bars.reset(task, description=f"{name}: {progress.stage}")
            bars.update(task, completed=progress.done, total=progress.total or None)

        yield report
