"""`protoclip embed`, `classify` and `search`: the client from the shell.

Exit codes: 0 if at least one item has an answer (failed ones are counted on standard error), 2 if none has, or
on wrong use.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from protoclip.cli.app import JsonOption, app
from protoclip.cli.reading import (
    DEFAULT_ENCODING,
    DelimiterOption,
    EncodingOption,
    ImageColumnOption,
    LayoutOption,
    ReadingOptions,
    SplitOption,
)
from protoclip.contract.errors import ConfigError

from .class_options import LabelOption, LabelsFileOption, LabelsOption, TemplatesOption
from .connection import tell_left_out
from .embed_job import NO_OUT, EmbedJob, RayOption, RayWorkersOption, embed_on_ray
from .server_options import DEFAULT_URL, Server, asks_server, url_for_index
from .standard_input import StandardInput
from .written import (
    DEFAULT_PART_SIZE,
    PartSizeOption,
    check_out,
    classify_into,
    embed_into,
    print_summary,
)

_PICTURES = (
    "Pictures, folders, tables, shards, patterns, or addresses such as s3://bucket/photos: all that `index build` "
    "reads; - is one picture from standard input."
)


@app.command()
@asks_server()
def embed(
    pictures: Annotated[list[str] | None, typer.Argument(help=_PICTURES)] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="A text instead of pictures; - is standard input, a line each. Repeatable."),
    ] = None,
    texts_file: Annotated[
        str | None, typer.Option(help="Texts instead of pictures: a file in UTF-8 with one a line; or -.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write ids and vectors to FILE.npz at the end, or part by part to FILE.parquet or into a folder "
            "of such files: the same command goes on with what a killed one left."
        ),
    ] = None,
    part_size: PartSizeOption = DEFAULT_PART_SIZE,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    image_column: ImageColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    *,
    server: Server,
    as_json: JsonOption = False,
) -> None:
    """Turn pictures or texts into vectors. Example: protoclip embed photos/ --out photos.npz"""
    from .inputs import text_inputs
    from .output import embed_all, print_embedded, save_embedded
    from .pictures import picture_inputs

    has_texts = bool(text) or texts_file is not None
    if bool(pictures) == has_texts:
        raise ConfigError("embed takes either pictures or --text and --texts-file: give one of them")
    if out is not None:
        check_out(out, [".npz"])
    stdin = StandardInput()
    reading = ReadingOptions(image_column, None, split, encoding, delimiter, layout, math.inf)
    if ray is not None or ray_workers is not None:
        job = EmbedJob(pictures or [], reading, server, out or NO_OUT, part_size, Path.cwd())
        print_summary(embed_on_ray(job, ray, ray_workers), as_json)
        return
    if has_texts:
        inputs = text_inputs(text or [], texts_file, stdin)
    else:
        inputs = picture_inputs(pictures or [], reading, stdin)
    items = "text" if has_texts else "picture"
    with server.connected() as client:
        if out is not None and out.suffix != ".npz":
            summary = embed_into(client, inputs, out, part_size, are_texts=has_texts)
            print_summary(summary, as_json, items=items)
            return
        embedded = embed_all(client, inputs, are_texts=has_texts)
    if out is not None and embedded.ids:
        save_embedded(embedded, out)
    print_embedded(embedded, out, as_json)
    tell_left_out(embedded.failed, len(embedded.ids), items=items)


@app.command()
@asks_server()
def classify(
    pictures: Annotated[list[str], typer.Argument(help=_PICTURES)],
    labels: LabelsOption = None,
    label: LabelOption = None,
    labels_file: LabelsFileOption = None,
    templates: TemplatesOption = None,
    classes: Annotated[
        Path | None, typer.Option(help="A file that `protoclip classes build` wrote, instead of labels.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the answers part by part to FILE.parquet, or into a folder of such files: the same "
            "command goes on with what a killed one left."
        ),
    ] = None,
    part_size: PartSizeOption = DEFAULT_PART_SIZE,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Only the best K labels; default: all in --json, the best in --out.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Name every label whose cosine with the picture is this or more: several may fit, or none. A "
            "cosine is no probability."
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            help="Say of each picture whether it is of a known kind: by a file that `protoclip detect fit` wrote, "
            "or `served` for the detector that is served with the model."
        ),
    ] = None,
    image_column: ImageColumnOption = None,
    split: SplitOption = None,
    encoding: EncodingOption = DEFAULT_ENCODING,
    delimiter: DelimiterOption = None,
    layout: LayoutOption = None,
    *,
    server: Server,
    as_json: JsonOption = False,
) -> None:
    """Name the most fitting of two labels or more for each picture, or with --threshold of any number.

    Example: protoclip classify cat.jpg --labels cat,dog
    """
    from protoclip.client.classification import Choice

    from .classes import find_classes
    from .classified import classify_all, named_detector, print_classified
    from .pictures import picture_inputs

    stdin = StandardInput()
    embedded = find_classes(classes, labels or [], label or [], labels_file, templates or [], stdin)
    if detector is not None and out is not None:
        raise ConfigError("--detector says nothing in the files of --out: leave one of them out")
    choice = Choice(top_k, threshold is not None, threshold, named_detector(detector))
    reading = ReadingOptions(image_column, None, split, encoding, delimiter, layout, math.inf)
    if out is not None:
        check_out(out)
    inputs = picture_inputs(pictures, reading, stdin)
    with server.connected() as client:
        if out is not None:
            print_summary(classify_into(client, inputs, embedded(client), choice, out, part_size), as_json)
            return
        classified = classify_all(client, inputs, embedded(client), choice)
    print_classified(classified, as_json)
    tell_left_out(classified.failed, len(classified.answers))


@app.command()
@asks_server(f"the artifact that the index was built with, or else {DEFAULT_URL}")
def search(
    index: Annotated[
        str,
        typer.Argument(
            help="Folder that `protoclip index build` wrote, or the address of an index elsewhere: "
            "postgresql://user@host/database?index=shop, milvus://host:19530/shop."
        ),
    ],
    text: Annotated[str | None, typer.Option(help="What to look for; - is standard input, one line.")] = None,
    image: Annotated[str | None, typer.Option(help="A picture to look for; - is standard input.")] = None,
    like: Annotated[
        str | None, typer.Option(help="The id of an entry to look for more like; asks no server.")
    ] = None,
    minus: Annotated[str | None, typer.Option(help="A text to subtract from what is looked for.")] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="Of a part of the query: text=2, like=1, minus=0.5; a picture has 1. Repeatable."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="A condition on metadata: 'price<50', 'stock=true', 'color!=red', or in JSON as in Python: "
            '\'{"color": {"in": ["red", "blue"]}}\'. Repeatable: all must hold.'
        ),
    ] = None,
    group_by: Annotated[
        str | None, typer.Option(help="A field of the metadata, of each of whose values only the best is a hit.")
    ] = None,
    distinct: Annotated[
        float | None,
        typer.Option(help="A cosine, such as 0.97: what is this near to a better hit, as copies are, is none."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every vector, also where the index was tuned.")
    ] = False,
    min_relevance: Annotated[
        float | None,
        typer.Option(
            help="A probability, such as 0.5: only hits that are meant with at least this one, which may be none. "
            "`protoclip index calibrate` comes first."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 10,
    offset: Annotated[int, typer.Option(min=0, help="How many hits to pass over: the next page.")] = 0,
    *,
    server: Server,
    as_json: JsonOption = False,
) -> None:
    """Find the nearest entries of an index, by a text, a picture, an entry, or a sum of them.

    Example: protoclip search shop.index --text "red shoes" --where 'price<50'
    """
    from protoclip.client import Client
    from protoclip.client.wanted import Wanted
    from protoclip.search import open_index

    from .conditions import weights_of, where_of
    from .inputs import question_of
    from .output import print_hits, search_one

    wanted = Wanted(k, offset, where_of(where or []), group_by, distinct, min_relevance)
    weights = weights_of(weight or [])
    question = question_of(text, image, like, minus, StandardInput())
    with open_index(index) as opened:
        # An id alone asks no server.
        url = url_for_index(opened, server.url) if question.needs_model else None
        with Client() if url is None else server.connected(url, opened.fingerprint) as client:
            found = search_one(client, opened, question, weights, wanted, exact=exact)
    print_hits(found, wanted, as_json)
