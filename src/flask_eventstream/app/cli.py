"""``flask sse``: publish from a shell, see what is published, and find out what is wrong."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterable, Iterator

import click
from flask import Flask, current_app
from flask.cli import AppGroup

from flask_eventstream.app.extension import EventStream
from flask_eventstream.app.registry import registry_of
from flask_eventstream.app.settings import state_of
from flask_eventstream.brokers import check_channel
from flask_eventstream.doctor.findings import examine_app, examine_stream
from flask_eventstream.doctor.probe import Probe
from flask_eventstream.doctor.remedies import Level
from flask_eventstream.doctor.report import Remark, render
from flask_eventstream.errors import EventStreamError
from flask_eventstream.event import RESET, STREAM_END
from flask_eventstream.hub.tail import Gap, read_entries
from flask_eventstream.log.entries import Entry, Kind
from flask_eventstream.state import AppState

__all__ = ["group"]

group = AppGroup("sse", help="Publish and watch server-sent events.")

#: What ends a command in a terminal that is closed, and under systemd and in containers.
#: Windows has no SIGHUP.
_ENDINGS = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))

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
        click.echo(_state(name).publisher.publish(data, type_, id_, channel=channel))
    except EventStreamError as error:
        raise click.ClickException(str(error)) from error


@group.command("end")
@click.argument("channel")
@_name_option
def end(channel: str, name: str | None) -> None:
    """End CHANNEL: its readers get stream-end, and browsers stay away."""
    try:
        _state(name).publisher.end(channel)
    except EventStreamError as error:
        raise click.ClickException(str(error)) from error


@group.command("disconnect")
@click.option("--channel", default=None, help="Streams that read it.")
@click.option("--subject", default=None, help="Streams of this reader.")
@_name_option
def disconnect(channel: str | None, subject: str | None, name: str | None) -> None:
    """End streams, of those who match all that is given; their readers are asked again.

    It reaches every process and machine within a second. CHANNELs that are finished are for end.
    """
    if channel is None and subject is None:
        raise click.UsageError("give --channel, --subject, or both")
    try:
        _state(name).publisher.disconnect(channel, subject)
    except EventStreamError as error:
        raise click.ClickException(str(error)) from error


@group.command("who")
@click.argument("channel")
@_name_option
def who(channel: str, name: str | None) -> None:
    """Print how many streams and subjects CHANNEL has, over all processes."""
    try:
        readers = _state(name).census.readers(check_channel(channel))
    except EventStreamError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"streams {readers.streams}\nsubjects {readers.subjects}")


@group.command("listen")
@click.argument("channels", nargs=-1, required=True, metavar="CHANNEL...")
@_name_option
def listen(channels: tuple[str, ...], name: str | None) -> None:
    """Print the events of each CHANNEL as they come, one JSON object per line.

    Ctrl-C ends it, with the exit code 130.
    """
    try:
        _print_entries(_state(name), channels)
    except EventStreamError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None  # as a shell says it


@group.command("doctor")
@click.argument("url", required=False)
@click.option(
    "--channel", default=None, help="One that the reader may read; by default the doctor's own."
)
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Such as a user's cookie."
)
@_name_option
@click.pass_context
def doctor(
    context: click.Context,
    url: str | None,
    channel: str | None,
    headers: tuple[str, ...],
    name: str | None,
) -> None:
    """Find out what is wrong with the app's streams, and the lines that mend it.

    URL is the address that users use: https://shop.example/stream. Without it only the app itself
    is looked at. It publishes a probe to a channel of its own. The exit code is 1 where something
    is wrong.
    """
    try:
        probe = _probe(name, channel)
        app = probe.look_at_app()
        remarks = _show(examine_app(app))
        if url is not None:
            click.echo(f"\n{url}")
            with _leaving_in_order():
                seen = probe.look_at_stream(url, _parse_headers(headers), _say)
            remarks += _show(examine_stream(app, seen))
    except EventStreamError as error:
        raise click.ClickException(str(error)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    problems = sum(remark.level is Level.PROBLEM for remark in remarks)
    advice = sum(remark.level is Level.ADVICE for remark in remarks)
    click.echo(f"\nProblems: {problems}. Advice: {advice}.")
    context.exit(1 if problems else 0)


def _probe(name: str | None, channel: str | None) -> Probe:
    stream = _stream(name)
    state = state_of(_app(), stream)
    endpoint = f"{stream.name}.stream"
    rules = current_app.url_map.iter_rules()
    # A blueprint inside another has that one's name before its own.
    paths = [rule.rule for rule in rules if f".{rule.endpoint}".endswith(f".{endpoint}")]
    return Probe(
        state.config,
        state.broker,
        state.publisher,
        app=f"{current_app.import_name}:app",
        path=paths[0],
        key=current_app.secret_key,
        channel=None if channel is None else check_channel(channel),
    )


def _print_entries(state: AppState, channels: Iterable[str]) -> None:
    names = [check_channel(channel) for channel in channels]
    entries = read_entries(state.broker, names)
    click.echo(_printable(f"Listening to {', '.join(names)} on {state.broker.url}"), err=True)
    for entry in entries:
        for line in _lines(entry):
            click.echo(_printable(json.dumps(line, ensure_ascii=False)))


@contextlib.contextmanager
def _leaving_in_order() -> Iterator[None]:
    """Leave the block's own way when the command is ended, as Ctrl-C does: it cleans up."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)  # as a shell says it

    try:
        before = {number: signal.signal(number, leave) for number in _ENDINGS}
    except ValueError:  # off the main thread nobody is told of signals
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parse_headers(lines: Iterable[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, mark, value = line.partition(":")
        if not mark or not name.strip() or not line.isprintable():
            raise click.BadParameter(f"{line!r} is no header: write --header 'Cookie: session=…'")
        headers[name.strip()] = value.strip()
    return headers


def _show(remarks: Iterable[Remark]) -> list[Remark]:
    shown = list(remarks)
    for remark in shown:
        click.echo(render(remark))
    return shown


def _say(line: str) -> None:
    click.echo(line, err=True)


def _printable(text: str) -> str:
    """JSON with its unprintable characters escaped: a terminal would obey some of them."""
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in text
    )


def _lines(entry: Entry | Gap) -> Iterator[dict[str, str | None]]:
    """What to print of an entry; nothing of what no reader gets."""
    if isinstance(entry, Gap):
        for channel in sorted(entry.channels):
            yield {"channel": channel, "id": entry.position, "type": RESET, "data": None}
    elif entry.kind is Kind.END:
        yield {"channel": entry.channel, "id": entry.position, "type": STREAM_END, "data": None}
    elif entry.kind is Kind.EVENT and entry.event is not None:
        yield {
            "channel": entry.channel,
            "id": entry.event.id or entry.position,
            "type": entry.event.type or "message",
            "data": entry.event.data,
        }


def _state(name: str | None) -> AppState:
    return state_of(_app(), _stream(name))


def _app() -> Flask:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    return app


def _stream(name: str | None) -> EventStream:
    streams = {stream.name: stream for stream in registry_of(_app()).streams}
    if not streams:
        raise click.ClickException(
            "this app has no EventStream: app.register_blueprint(sse, url_prefix='/stream')"
        )
    wanted = name or ("sse" if "sse" in streams else next(iter(streams)))
    if wanted not in streams:
        known = ", ".join(streams)
        raise click.ClickException(f"this app has no EventStream {wanted!r}; it has {known}")
    stream: EventStream = streams[wanted]
    return stream
