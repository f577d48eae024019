from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from tutorial import app
from werkzeug.test import TestResponse


@pytest.fixture
def client() -> FlaskClient:
    app.config["SSE_BROKER_URL"] = "memory://"
    return app.test_client()


def lines(response: TestResponse) -> Iterator[str]:
    """The lines of a stream as they come; close the response when you have seen enough."""
    for chunk in response.iter_encoded():
        yield from chunk.decode().splitlines()


def test_a_vote_reaches_the_page(client: FlaskClient) -> None:
    with client.get("/stream?channel=votes") as response:
        stream = lines(response)
        assert next(stream) == "retry: 3000"  # the stream is open: nothing is missed from here on

        client.post("/vote", data={"for": "tea"})

        assert next(line for line in stream if line.startswith("data: ")) == 'data: {"for": "tea"}'
