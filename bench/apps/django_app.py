"""The application of the benchmark on django-eventstream, in one file.

Without a storage class, as its manual begins: events reach the listeners of this process, and no
log is kept.
"""

from __future__ import annotations

import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

settings.configure(
    SECRET_KEY="benchmark",  # noqa: S106  it protects nothing here
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django_eventstream"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DB_FILE"]}},
    USE_TZ=True,
    **(
        {"EVENTSTREAM_STORAGE_CLASS": "django_eventstream.storage.DjangoModelStorage"}
        if os.environ.get("WITH_STORAGE")
        else {}
    ),
)
django.setup()

from django.core.management import call_command  # noqa: E402  it wants the settings
from django_eventstream import send_event  # noqa: E402
from made import burst, private  # noqa: E402

call_command("migrate", verbosity=0)


def publish(data: str, channel: str) -> None:
    """Publish as any application does; text is sent as it is."""
    send_event(channel, "message", data, json_encode=False)


def ping(_request: HttpRequest) -> HttpResponse:
    """The ordinary request of this application."""
    return HttpResponse("pong")


def publish_one(request: HttpRequest) -> HttpResponse:
    """Publish the body."""
    publish(request.body.decode(), request.GET["channel"])
    return HttpResponse(status=204)


def publish_burst(request: HttpRequest) -> HttpResponse:
    """Publish many events, one by one."""
    burst(request.GET.dict(), publish)
    return HttpResponse(status=204)


def publish_private(request: HttpRequest) -> HttpResponse:
    """Publish one event to each of many channels."""
    private(request.GET.dict(), publish)
    return HttpResponse(status=204)


urlpatterns = [
    path("stream", include("django_eventstream.urls")),
    path("ping", ping),
    path("publish", publish_one),
    path("burst", publish_burst),
    path("private", publish_private),
]

app = get_asgi_application()
