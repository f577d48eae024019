import os

from celery import shared_task

from flask_eventstream import Publisher

# One for the process: threads may share it, and after a fork it opens its own connection.
publisher = Publisher(os.environ["SSE_BROKER_URL"])


@shared_task
def import_products(user: str, names: list[str]) -> None:
    for number, name in enumerate(names, start=1):
        progress = {"name": name, "number": number, "of": len(names)}
        publisher.publish(progress, type="progress", channel=f"user-{user}")
