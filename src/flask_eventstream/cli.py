"""``flask sse``: publish from a shell, and see what is published."""

from __future__ import annotations

import json

import click
from flask import Flask, current_app
from flask.cli import AppGroup

from flask_eventstream.brokers import check_channel
from flask_eventstream.errors import EventStreamError
from flask_eventstream.extension import EXTENSION_KEY
from flask_eventstream.log import Entry
from flask_eventstream.reading import read_entries
from flask_eventstream.service import Service

__all__ = ["group"]

group = AppGroup("sse", help="Publish and watch server-sent events.")
_name_option = click.option(
    "--name", default=None, help="Which EventStream, by its name, where the app has several."
)


@group.command("publish")
@click.argument("channel")
@click.argument("data")
@click.option("--type", "type_", default=None, help="What pages listen for; by default message.")
@click.option("--id", "id_", default=None, help="The event's own id.")
@_name_option
def publish(channel: str, data: str, type_: str | None, id_: str | None, name: str | None) -> None:
    """Publish DATA, as it is, to CHANNEL, and print the event's id."""
    try:
        click.echo(_service(name).publisher.publish(data, type_, id_, channel=channel))
    except EventStreamError as error:
        raise click.ClickException(str(error)) from error


@group.command("listen")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@_name_option
def listen(channels: tuple[str, ...], name: str | None) -> None:
    """Print the events of each CHANNEL as they come, one JSON object per line."""
    try:
        service = _service(name)
        entries = read_entries(service.broker, [check_channel(channel) for channel in channels])
    except EventStreamError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"Listening to {', '.join(channels)} on {service.broker.url}", err=True)
    for entry in entries:
        click.echo(json.dumps(_line(entry), ensure_ascii=False))


def _line(entry: Entry) -> dict[str, str | None]:
    event = entry.event
    if event is None:
        return {"channel": entry.channel, "id": entry.position, "type": "stream-end", "data": None}
    return {
        "channel": entry.channel,
        "id": event.id or entry.position,
        "type": event.type or "message",
        "data": event.data,
    }


def _service(name: str | None) -> Service:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    streams = {stream.name: stream for stream in app.extensions.get(EXTENSION_KEY, ())}
    if not streams:
        raise click.ClickException(
            "this app has no EventStream: app.register_blueprint(sse, url_prefix='/stream')"
        )
    wanted = name or ("sse" if "sse" in streams else next(iter(streams)))
    if wanted not in streams:
        known = ", ".join(streams)
        raise click.ClickException(f"this app has no EventStream {wanted!r}; it has {known}")
    service: Service = streams[wanted].service(app)
    return service
