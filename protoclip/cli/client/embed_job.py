"""`embed` of pictures as something that other machines can do: it is pickled, and opened where it is done."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protoclip.cli.reading import ReadingOptions
from protoclip.contract.errors import ConfigError

from .pictures import picture_inputs
from .server_options import Server
from .standard_input import STANDARD_INPUT, StandardInput
from .written import Summary, embed_work, write_summary

if TYPE_CHECKING:
    from protoclip.client import Client
    from protoclip.corpus.run import Work


RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Have the machines of a Ray cluster do it: its address, auto for the one that runs here, or local "
        "for one that ends with the command. Pictures and --out are at the same paths on all of them.",
    ),
]
RayWorkersOption = Annotated[
    int | None, typer.Option("--ray-workers", min=1, help="Workers of --ray; default: one a machine.")
]
NO_OUT = Path()


@dataclass(frozen=True)
class EmbedJob:
    """The command's arguments, and the folder that their paths are relative to."""

    pictures: Sequence[str]
    reading: ReadingOptions
    server: Server = field(repr=False)
    out: Path
    part_size: int
    folder: Path

    @property
    def parts_at(self) -> Path:
        """Where parts are written: the same path on every machine."""
        from protoclip.corpus.run import parts_of

        return self.folder / (parts_of(self.out) if self.out.suffix == ".parquet" else self.out)

    @contextmanager
    def opened(self) -> Iterator[tuple[Work, Client]]:
        """Lists the pictures on this machine, and connects to the server.

        Raises:
            ConfigError: standard input is among the pictures, or the folder is not on this machine.
            ConfigError, DataError: as `picture_inputs`.
            ServerError: as the client.
        """
        if STANDARD_INPUT in self.pictures:
            raise ConfigError("--ray and a picture from standard input: workers elsewhere can't read it")
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: {error.strerror}: Ray's workers need the folder of the command, at the same path"
            ) from error
        inputs = picture_inputs(self.pictures, self.reading, StandardInput())
        with self.server.connected() as client:
            yield embed_work(client, inputs, self.part_size, are_texts=False), client


def embed_on_ray(job: EmbedJob, address: str | None, num_workers: int | None) -> Summary:
    """As `embed_into`, by workers of a Ray cluster.

    Raises:
        ConfigError: no address, no --out in Parquet, or no pictures; as `write_on_ray`.
    """
    from protoclip.corpus.ray_data import write_on_ray

    if address is None:
        raise ConfigError("--ray-workers is of --ray: name a cluster with it, auto or local")
    if job.out == NO_OUT or job.out.suffix == ".npz" or not job.pictures:
        raise ConfigError("--ray writes vectors of pictures to --out FILE.parquet or into a folder: name both")
    with job.opened() as (work, _):
        plan = work.plan
    write = partial(write_on_ray, job=job, address=address, num_workers=num_workers)
    return write_summary(plan, job.out, write, "id")
